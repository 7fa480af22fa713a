"""Recurrent layers one above the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, cast

from torch import Tensor, nn

from seqmodels.cells import Cell
from seqmodels.layers.recurrent import Recurrent

CellFactory = Callable[[int, int], Cell[Any]]  # (input_size, hidden_size) -> cell
LayerFactory = Callable[[Callable[[], Cell[Any]]], nn.Module]  # layer(make) -> a `Layer`
StackState = tuple[Any, ...]  # one cell state a layer


class Layer(Protocol):
    """What a layer offers to those that compose it; `Recurrent` is one.

    causal: whether no output depends on later inputs. The state is a (named) tuple of tensors, or
    of such tuples.
    """

    output_size: int
    causal: bool

    def initial_state(self, batch_size: int, like: Tensor) -> Any: ...

    def __call__(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]: ...


class Stacked(nn.Module):
    """Layers of one kind of cell, each reading the outputs of the one below.

    Args:
        input_size: I of the lowest layer (supplied by the model).
        cell: called as cell(input_size, hidden_size) for each layer.
        hidden_size: H of every layer, or one for each, from the lowest.
        num_layers: how many layers; as many as `hidden_size` has entries where it is a sequence.
        dropout: in [0, 1), probability with which an output is zeroed on its way to the next
            layer, in training (Zaremba et al. 2014, https://arxiv.org/abs/1409.2329). Between
            layers only, as in torch.nn.LSTM: neither on the input nor on the last output.
        layer: called as layer(make), where make() gives a fresh cell of the right sizes, and gives
            a `Layer`. All of one layer is said there: direction, engine.

    Shapes: x (B, T, I), state one cell state a layer, lengths (B,) int64
    -> outputs (B, T, H of the last layer), state of the same form.
    """

    def __init__(
        self,
        input_size: int,
        *,
        cell: CellFactory,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        dropout: float = 0.0,
        layer: LayerFactory = Recurrent,
    ) -> None:
        super().__init__()
        if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
            raise ValueError(f"num_layers must be a positive integer, got {num_layers!r}")
        sizes = [hidden_size] * num_layers if isinstance(hidden_size, int) else list(hidden_size)
        if len(sizes) != num_layers:
            raise ValueError(
                f"hidden_size gives {len(sizes)} layers, {sizes}, and num_layers is {num_layers}: "
                "make them equal"
            )
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout!r}")
        if dropout > 0.0 and num_layers == 1:
            raise ValueError(
                f"dropout={dropout} acts between layers and there is one layer: set it to 0 and "
                "use the dropout of the embedding or of the head"
            )
        self.layers = nn.ModuleList()
        for size in sizes:
            made = layer(partial(cell, input_size, size))
            self.layers.append(made)
            input_size = cast(Layer, made).output_size
        self.output_size: int = input_size
        self.causal = all(each.causal for each in self._each())
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch_size: int, like: Tensor) -> StackState:
        """The states before the first step, with the dtype and device of `like`."""
        return tuple(layer.initial_state(batch_size, like) for layer in self._each())

    def _each(self) -> Iterable[Layer]:
        return cast(Iterable[Layer], self.layers)

    def forward(
        self, x: Tensor, state: StackState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, StackState]:
        if state is None:
            state = (None,) * len(self.layers)
        elif not isinstance(state, tuple) or len(state) != len(self.layers):
            raise ValueError(
                f"expected a tuple of {len(self.layers)} states, one a layer, "
                f"got {type(state).__name__} of {len(state)}"
            )
        last: list[Any] = []
        for index, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            if index > 0:
                x = self.dropout(x)
            x, after = layer(x, before, lengths)  # (B, T, H)
            last.append(after)
        return x, tuple(last)
