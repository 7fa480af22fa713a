"""Two layers over the same sequences, one from the front and one from the back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell
from seqmodels.layers.base import Layer, LayerFactory
from seqmodels.layers.recurrent import Recurrent, prefix_mask, reverse_time

Merge = Literal["concat", "sum"]


class BidirectionalState(NamedTuple):
    """The states of the two layers: from the front, and from the back."""

    forward: Any
    backward: Any


class Bidirectional(nn.Module):
    """Each output knows the whole sequence: what came before it and what comes after.

        y_t = [F(x_1 … x_t), B(x_T … x_t)]

    Args:
        make: called twice, gives one fresh cell for each direction.
        merge: "concat", the forward outputs and then the backward ones, as in torch.nn; or "sum".
        layer: called as layer(make) for each direction and gives a causal `Layer`; all that a
            single layer can be told (its engine) is said there.

    Shapes: x (B, T, I), lengths (B,) int64 -> y (B, T, 2H or H), zero at padding, and a
    `BidirectionalState`: after each sequence's last step and, for the backward layer, after its
    first. Each sequence is turned round within its own length; padding may hold anything.

    Attributes:
        output_size: the layer's, twice it for "concat".
        causal: False: an output depends on later inputs.

    Reference: Schuster & Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on
    Signal Processing 45 (1997). https://doi.org/10.1109/78.650093
    """

    causal = False

    def __init__(
        self,
        make: Callable[[], Cell[Any]],
        *,
        merge: Merge = "concat",
        layer: LayerFactory = Recurrent,
    ) -> None:
        super().__init__()
        if merge not in ("concat", "sum"):
            raise ValueError(f"Bidirectional: merge must be 'concat' or 'sum', got {merge!r}")
        if isinstance(make, nn.Module):
            raise TypeError(
                "Bidirectional needs a function that makes a cell for each direction, got one "
                f"{type(make).__name__}: pass lambda: {type(make).__name__}(...)"
            )
        self.merge: Merge = merge
        self.forwards = layer(make)
        self.backwards = layer(make)
        each = cast(Layer, self.forwards)
        if not each.causal:
            raise ValueError(
                f"Bidirectional turns the sequences round itself and needs a causal layer, got "
                f"{each}: use reverse=False"
            )
        self.output_size = each.output_size * (2 if merge == "concat" else 1)

    def initial_state(self, batch_size: int, like: Tensor) -> BidirectionalState:
        """The states before the first step, with the dtype and device of `like`."""
        pair = cast(tuple[Layer, Layer], (self.forwards, self.backwards))
        return BidirectionalState(*(one.initial_state(batch_size, like) for one in pair))

    def forward(
        self, x: Tensor, state: BidirectionalState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, BidirectionalState]:
        if state is None:
            state = BidirectionalState(None, None)
        elif not isinstance(state, BidirectionalState):
            raise ValueError(
                f"expected a BidirectionalState of two states, got a {type(state).__name__}"
            )
        if x.dim() != 3:
            raise ValueError(f"expected x of shape (B, T, I), got {tuple(x.shape)}")
        keep = None if lengths is None else prefix_mask(lengths, x.transpose(0, 1))  # (T, B)
        ahead, first = self.forwards(x, state.forward, lengths)  # (B, T, H)
        back, second = self.backwards(_turned(x, keep), state.backward, lengths)
        back = _turned(back, keep)  # beside its input step again
        y = torch.cat((ahead, back), -1) if self.merge == "concat" else ahead + back
        return y, BidirectionalState(first, second)

    def extra_repr(self) -> str:
        return f"merge={self.merge!r}"


def _turned(x: Tensor, keep: Tensor | None) -> Tensor:
    return reverse_time(x.transpose(0, 1), keep).transpose(0, 1)  # (B, T, ·), by way of (T, B, ·)
