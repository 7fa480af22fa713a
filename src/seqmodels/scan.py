"""The one loop over time that defines what every engine must compute."""

from __future__ import annotations

import torch
from torch import Tensor

from seqmodels.cells.base import Cell, S, Stage
from seqmodels.cells.past import hold_past, put_back, read_all


def scan(
    cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
) -> tuple[Tensor, S]:
    """Run a cell over a sequence: the reference, slow and differentiable any number of times.

    Args:
        cell: the equation.
        x: (T, B, I), T >= 1.
        state: the state before the first step, fields (B, ·); None is the cell's initial state.
        keep: (T, B) bool. Where False the step does not happen: the state is carried bit for bit,
            the output is zero, and x, whatever it is (NaN too), reaches no value and no gradient.

    Returns:
        The outputs (T, B, H) and the state after the last step. Both have the dtype of x: under
        autocast the products run in its dtype and the state stays in that of x.

    Raises:
        ValueError: x, state or keep do not fit the cell (`Cell.check`).
    """
    cell.check(x, state, keep)
    if state is None:
        state = cell.initial_state(x.shape[1], x)
    if keep is not None:
        # Masking the results alone would let NaN through the backward pass: 0 · NaN = NaN.
        x = x.masked_fill(~keep.unsqueeze(-1), 0.0)
    kept = None if keep is None else keep.unbind(0)  # T × (B)
    stages, state, before = hold_past(cell, cell.prepare(), state, keep)
    # Outputs of the past, by reference: the last one is that of the step before.
    past = [] if before is None else list(before.unbind(0))
    outputs = []
    # unbind, since indexing gates_x[t] makes the backward pass cost O(T²).
    for t, gates_x in enumerate(cell.project(x).unbind(0)):  # T × (B, G)
        new = _step(stages, gates_x, state, past)
        if kept is None:
            state, output = new, new[0]
        else:
            output = torch.where(_over(kept[t], new[0]), new[0], torch.zeros_like(new[0]))
            state = _choose(kept[t], new, state)
        outputs.append(output)
        if before is not None:
            past.append(state[0])
    y = torch.stack(outputs)  # (T, B, H)
    return y, state if before is None else put_back(state, before, y, keep)


def _step(stages: tuple[Stage[S], ...], gates_x: Tensor, state: S, past: list[Tensor]) -> S:
    for stage in stages:
        read = read_all(stage, state, past)
        gates_h = stage.operator.apply(read).to(read.dtype)  # (B, H) -> (B, G); autocast lowers it
        state = stage.update(gates_x, gates_h, state, *stage.params)
    return state


def _choose(keep: Tensor, new: S, old: S) -> S:
    """Row by row: the new state where keep (B), else the old one."""
    pairs = zip(new, old, strict=True)
    return type(new)(*(torch.where(_over(keep, n), n, o) for n, o in pairs))


def _over(keep: Tensor, field: Tensor) -> Tensor:
    return keep.reshape(-1, *[1] * (field.dim() - 1))  # (B) -> (B, 1, ...)
