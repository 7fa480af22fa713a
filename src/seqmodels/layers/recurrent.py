"""A cell run over batches of sequences: lengths, direction, carried state, engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell, S
from seqmodels.engines import check_name, choose


class Recurrent(nn.Module, Generic[S]):
    """One recurrent layer in one direction.

    Args:
        cell: the equation, or a function without arguments that makes it.
        reverse: run from the last step of each sequence to its first; the output stays beside its
            input step.
        engine: "auto" (the fastest that may run), or the one engine that must run.

    Shapes: x (B, T, I), T >= 1, state fields (B, ·), lengths (B,) int64 with 1 <= length <= T
    -> outputs (B, T, H), zero at padding, and the state after each sequence's own last step
    (its first one when reversed). Padding may hold anything.

    Attributes:
        output_size: H.
        causal: whether no output depends on later inputs: False when reversed.
        engine_used: name of the engine that ran the last call, None before the first.
    """

    def __init__(
        self, cell: Cell[S] | Callable[[], Cell[S]], *, reverse: bool = False, engine: str = "auto"
    ) -> None:
        super().__init__()
        check_name(engine)
        self.cell = cell if isinstance(cell, Cell) else cell()
        self.reverse = reverse
        self.engine = engine
        self.causal = not reverse
        self.output_size = self.cell.output_size
        self.engine_used: str | None = None

    def initial_state(self, batch_size: int, like: Tensor) -> S:
        """The state before the first step, with the dtype and device of `like`."""
        return self.cell.initial_state(batch_size, like)

    def forward(
        self, x: Tensor, state: S | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, S]:
        if x.dim() != 3:
            raise ValueError(f"expected x of shape (B, T, I), got {tuple(x.shape)}")
        x = x.transpose(0, 1)  # (B, T, I) -> (T, B, I)
        keep = None if lengths is None else prefix_mask(lengths, x)  # (T, B)
        if self.reverse:
            x = reverse_time(x, keep)
        engine = choose(self.engine, self.cell, x, state, keep)
        self.engine_used = engine.name
        y, state = engine(self.cell, x, state, keep=keep)  # (T, B, H)
        if self.reverse:
            y = reverse_time(y, keep)
        return y.transpose(0, 1), state  # (T, B, H) -> (B, T, H)

    def extra_repr(self) -> str:
        return f"reverse={self.reverse}, engine={self.engine!r}"


def prefix_mask(lengths: Tensor, x: Tensor) -> Tensor | None:
    """keep (T, B) for x (T, B, ·): True on the first `length` steps; None where all are full.

    Raises:
        ValueError: lengths is not (B,) int64, or not within 1 … T.
    """
    steps, batch = x.shape[0], x.shape[1]
    if lengths.shape != (batch,) or lengths.dtype != torch.int64:
        raise ValueError(
            f"expected lengths of shape (B,) = ({batch},) and torch.int64, "
            f"got {tuple(lengths.shape)} {lengths.dtype}"
        )
    shortest, longest = (int(v) for v in torch.aminmax(lengths))
    if shortest < 1 or longest > steps:
        raise ValueError(
            f"expected 1 <= length <= T = {steps}, got lengths from {shortest} to {longest}"
        )
    if shortest == steps:
        return None
    steps_first = torch.arange(steps, device=x.device).unsqueeze(1)  # (T, 1)
    return steps_first < lengths.to(x.device)  # (T, B)


def reverse_time(x: Tensor, keep: Tensor | None) -> Tensor:
    """Turn each sequence of x (T, B, ·) round within its own prefix; padding stays where it is."""
    if keep is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)  # (T, 1)
    source = torch.where(keep, keep.sum(0) - 1 - steps, steps)  # (T, B)
    return x.gather(0, source.unsqueeze(-1).expand_as(x))
