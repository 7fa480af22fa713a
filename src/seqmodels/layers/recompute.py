"""Long sequences in little memory: piece by piece, each computed again on the way back."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from seqmodels.cells import Cell, Stage
from seqmodels.cells.wrapper import Wrapper
from seqmodels.engines import Engine

Recompute = int | Literal["sqrt"] | None


class _Prepared(Wrapper):
    """A cell whose weights of this call are settled: the same in all pieces, at every reading."""

    def __init__(self, cell: Cell[Any]) -> None:
        super().__init__(cell)
        self.past_apart = cell.past_apart
        self._stages = cell.prepare()

    def prepare(self) -> tuple[Stage[Any], ...]:
        return self._stages


def check_recompute(value: Recompute) -> None:
    """Refuse what is neither None, "sqrt" nor a number of steps.

    Raises:
        ValueError: it is something else.
    """
    fits = value is None or value == "sqrt" or (isinstance(value, int) and value >= 1)
    if not fits or isinstance(value, bool):
        raise ValueError(
            f"recompute must be a number of steps >= 1, 'sqrt' or null (off), got {value!r}"
        )


def in_pieces(
    engine: Engine, cell: Cell[Any], x: Tensor, state: Any, keep: Tensor | None, every: Recompute
) -> tuple[Tensor, Any]:
    """One call of the engine, of whose inside only the state every k steps is stored.

    The way back computes each piece of k steps a second time when it comes to it, with the same
    random numbers. What is stored beyond x and y is ∝ T/k + k: least at k = √T ("sqrt").

    Args:
        engine, cell, x (T, B, I), state, keep (T, B): a call that `choose` has let through.
        every: k, or "sqrt"; None for the plain call.

    Reference: Chen et al., "Training deep nets with sublinear memory cost", 2016.
    https://arxiv.org/abs/1604.06174
    """
    steps = x.shape[0]
    length = math.isqrt(steps - 1) + 1 if every == "sqrt" else every
    if length is None or length >= steps or not torch.is_grad_enabled():
        return engine(cell, x, state, keep=keep)
    if state is None:
        state = cell.initial_state(x.shape[1], x)
    # torch's kernels know their own cells alone, which prepare nothing.
    held = cell if engine.name == "native" else _Prepared(cell)

    def piece(x: Tensor, keep: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        return engine(held, x, state, keep=keep)

    outputs = []
    pieces = torch.split(x, length)
    kept = [None] * len(pieces) if keep is None else torch.split(keep, length)
    for part, mask in zip(pieces, kept, strict=True):
        y, state = checkpoint(piece, part, mask, state, use_reentrant=False)
        outputs.append(y)
    return torch.cat(outputs), state  # (T, B, H)
