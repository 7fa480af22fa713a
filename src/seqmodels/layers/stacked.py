"""Layers one above the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from seqmodels.layers.base import CellFactory, Layer, LayerFactory
from seqmodels.layers.between import ACTIVATIONS, NORMS, Activation, Between, Norm, activation_of
from seqmodels.layers.dilated import Dilated
from seqmodels.layers.recurrent import Recurrent
from seqmodels.layers.residual import Residual, without_padding

Skip = Literal["none", "residual", "dense"]
SKIPS = ("none", "residual", "dense")
MOST_LAYERS = 32

StackState = tuple[Any, ...]  # one layer's state each


class Stacked(nn.Module):
    """Layers, each reading what is below it.

        none        x_{l+1} = a_l(F_l(b_l(x_l)))
        residual    x_{l+1} = a_l(F_l(b_l(x_l))) + P_l x_l                     see `Residual`
        dense       x_{l+1} = [x_l, a_l(F_l(b_l(x_l)))]    x_l: the input and all outputs below

    F_l is layer l, b_l the norm and dropout before it, and a_l the activation after it; b of the
    lowest layer is nothing. The output is the x above the last layer: with dense, the input and the
    outputs of all layers.

    The norm stands on the branch, before the layer, and leaves the way round it clean
    ("pre-norm"): deep stacks then train from the start without warm-up (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745). The last output has no norm.

    Args:
        input_size: I of the lowest layer (supplied by the model).
        cell: called as cell(input_size, hidden_size) for each layer; or a list of such, one for
            each layer from the lowest.
        hidden_size: H of every layer, or one for each, from the lowest.
        num_layers: 1 to 32; as many as `hidden_size` and `cell` have entries where they are lists.
        skip: "none", "residual" or "dense".
        norm: "none", "layer" or "rms", between layers.
        activation: what each layer's outputs pass through: "none"; "gelu"; "glu", a gated linear
            unit (`GatedLinear`). Linear recurrences one above the other want one.
        dropout: in [0, 1), probability with which an element is zeroed on its way into the next
            layer, in training (Zaremba et al. 2014, https://arxiv.org/abs/1409.2329). Between
            layers only, as in torch.nn.LSTM: neither on the input nor on the last output.
        same_mask: draw dropout once for a whole sequence (`SequenceDropout`).
        dilation: d of every layer, or one for each, from the lowest: its recurrence goes from every
            d-th step to the next (`Dilated`); 1 is the plain recurrence.
        layer: called as layer(make), where make() gives a fresh cell of the right sizes, and gives
            a `Layer`. All of one layer is said there: direction, engine.

    Shapes: x (B, T, I), state one layer's state each, lengths (B,) int64
    -> outputs (B, T, output_size), zero at padding, and a state of the same form.

    Attributes:
        output_size: H of the last layer (twice that of a bidirectional one that concatenates);
            with dense, I and those of all layers together.
        causal: whether all layers are.

    References: He et al. 2016, https://arxiv.org/abs/1512.03385 (residual); Huang et al. 2017,
    https://arxiv.org/abs/1608.06993 (dense); both in recurrent networks: Britz et al. 2017,
    https://arxiv.org/abs/1703.03906, whose dense connections add where these concatenate.
    """

    def __init__(
        self,
        input_size: int,
        *,
        cell: CellFactory | Sequence[CellFactory],
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        skip: Skip = "none",
        norm: Norm = "none",
        activation: Activation = "none",
        dropout: float = 0.0,
        same_mask: bool = False,
        dilation: int | Sequence[int] = 1,
        layer: LayerFactory = Recurrent,
    ) -> None:
        super().__init__()
        _check(num_layers, skip, norm, activation, dropout, same_mask)
        sizes: list[int] = _one_each("hidden_size", hidden_size, num_layers)
        cells: list[CellFactory] = _one_each("cell", cell, num_layers)
        dilations: list[int] = _one_each("dilation", dilation, num_layers)
        self.skip: Skip = skip
        self.layers = nn.ModuleList()
        # What stands before and after each layer; residual layers hold theirs.
        self.between = nn.ModuleList()
        self.after = nn.ModuleList()
        each = zip(sizes, cells, dilations, strict=True)
        for index, (size, make, steps) in enumerate(each):
            made = layer(partial(make, input_size, size))
            if steps != 1:
                made = Dilated(made, steps)
            before = (
                Between(input_size, norm=norm, dropout=dropout, same_mask=same_mask)
                if index > 0
                else nn.Identity()
            )
            output_size = cast(Layer, made).output_size
            after = activation_of(activation, output_size)
            if skip == "residual":
                made = Residual(made, input_size, before=before, after=after)
                before = after = nn.Identity()
            self.layers.append(made)
            self.between.append(before)
            self.after.append(after)
            input_size = input_size + output_size if skip == "dense" else output_size
        self.output_size: int = input_size
        self.causal = all(each.causal for each in self._each())

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
        if self.skip == "dense":
            x = without_padding(x, lengths)
        last: list[Any] = []
        levels = zip(self.layers, self.between, self.after, state, strict=True)
        for layer, before, after, old in levels:
            y, new = layer(before(x), old, lengths)  # (B, T, H)
            y = after(y)
            x = torch.cat((x, y), -1) if self.skip == "dense" else y  # dense: (B, T, I + H)
            last.append(new)
        return x, tuple(last)

    def extra_repr(self) -> str:
        return f"skip={self.skip!r}"


def _check(
    num_layers: int, skip: str, norm: str, activation: str, dropout: float, same_mask: bool
) -> None:
    if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
        raise ValueError(f"num_layers must be a positive integer, got {num_layers!r}")
    if num_layers > MOST_LAYERS:
        raise ValueError(f"num_layers must lie in 1 … {MOST_LAYERS}, got {num_layers}")
    for name, value, choices in (
        ("skip", skip, SKIPS),
        ("norm", norm, tuple(NORMS)),
        ("activation", activation, ACTIVATIONS),
    ):
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout!r}")
    if same_mask and dropout == 0.0:
        raise ValueError(
            "same_mask=True says how dropout draws and dropout is 0: set dropout, or same_mask "
            "to false"
        )
    if num_layers == 1 and dropout > 0.0:
        raise ValueError(
            f"dropout={dropout} acts between layers and there is one layer: set it to 0 and "
            "use the dropout of the embedding or of the head"
        )
    if num_layers == 1 and norm != "none":
        raise ValueError(
            f"norm={norm!r} acts between layers and there is one layer: set it to 'none' or use "
            "more layers"
        )


def _one_each(name: str, value: Any, num_layers: int) -> list[Any]:
    """The value for every layer, or a list's entries."""
    if not isinstance(value, Sequence):
        return [value] * num_layers
    if len(value) != num_layers:
        shown = f", {list(value)}," if name == "hidden_size" else ""
        raise ValueError(
            f"{name} gives {len(value)} layers{shown} and num_layers is {num_layers}: "
            "make them equal"
        )
    return list(value)
