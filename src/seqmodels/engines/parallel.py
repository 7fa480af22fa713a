"""The engine of linear recurrences: all time steps at once instead of one after the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmodels.cells import Affine, Cell, S, Stage
from seqmodels.engines.generated import WORTHWHILE
from seqmodels.engines.kernels.build import compiler
from seqmodels.engines.linear_scan import linear_scan

FEW = 2  # rows


class Parallel:
    """A chunked scan for cells that say they are linear (`Cell.linear`).

    The coefficients a and b of s_t = a_t · s_{t-1} + b_t are computed for the whole sequence, then
    `linear_scan` solves for all s_t in O(T) work and some 50 operations a factor 16 of T. A later
    stage (the mixing matrix of the LRU) runs once over all steps together.

    Nothing is divided and no logarithm taken, so signs, zeros and long products are harmless.
    Padding is a = 1, b = 0, which carries the state bit for bit. Double backward works.

    Limits: linear cells; a wrapper that changes the equation (zoneout, recurrent dropout) is no
    longer one. Under autocast the products run in the lower precision and the recurrence in that
    of the state.
    """

    name = "parallel"

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        kind = type(cell)
        if kind.linear is Cell.linear:
            return "it runs linear recurrences, and the cell does not say that it is one"
        if not issubclass(_owner(kind, "linear"), _owner(kind, "prepare")):
            return f"{kind.__name__} overrides prepare and does not say anew whether it is linear"
        if x.dtype not in (torch.float32, torch.float64):
            return f"it is made for float32 and float64, and x is of {x.dtype}"
        if torch._C._are_functorch_transforms_active():
            return "torch.func's transforms do not go through it"
        if torch.compiler.is_compiling():
            return "it cannot be part of what torch.compile compiles"
        return None

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        """Whether `auto` should take it: `pays` below, where `generated` may run or not."""
        if type(cell).linear is Cell.linear:
            return False
        steps, batch = x.shape[:2]
        printed = (
            x.device.type == "cpu"
            and compiler() is not None
            and steps * batch * cell.hidden_size >= WORTHWHILE
        )
        mixes = printed and batch <= FEW and len(cell.prepare()) > 1
        return pays(steps, batch, cell.hidden_size, printed=printed, mixes=mixes)

    def __call__(
        self, cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
    ) -> tuple[Tensor, S]:
        cell.check(x, state, keep)
        if state is None:
            state = cell.initial_state(x.shape[1], x)
        if keep is not None:
            # As in `scan`: 0 · NaN = NaN in the backward pass.
            x = x.masked_fill(~keep.unsqueeze(-1), 0.0)
        gates_x = cell.project(x).to(state[0].dtype)  # (T, B, G)
        parts = cell.linear(gates_x)
        assert parts is not None, "why_not has let through a cell that is not linear"
        fields: dict[str, Tensor] = {}  # (T, B, H) each
        for part in parts:
            fields.update(_solved(part, state, keep))
        solved = set(fields)
        _, *later = cell.prepare()
        if later:
            fields = _later(tuple(later), gates_x, state, fields)
        names: tuple[str, ...] = state._fields  # type: ignore[attr-defined]
        y = fields[names[0]]
        if keep is not None:
            y = y.masked_fill(~keep.unsqueeze(-1), 0.0)
        last = (
            # A copy, or the state would hold on to the whole sequence.
            fields[name][-1].clone()
            if name in solved or keep is None
            else _last_kept(fields[name], first, keep)
            for name, first in zip(names, state, strict=True)
        )
        return y, type(state)(*last)


def pays(steps: int, batch: int, size: int, *, printed: bool, mixes: bool) -> bool:
    """The rule of `auto` for T, B and H, as measured on two x86 cores (benchmarks/linear_scan.py).

    Where the loop is one in Python, the scan is faster from 4 steps on, by tens of times for
    long and narrow sequences.

    Where the loop is printed (`generated`), it passes over memory once and wins, but where a later
    stage has a product (`mixes`): the loop reads that matrix anew for each step, for a row or two,
    and the scan once for all. From H = 128 on, that decides.
    """
    if printed:
        return mixes and batch <= FEW and size >= 128
    return steps >= 4


def _owner(kind: type, name: str) -> type:
    """The class whose own method this is."""
    return next(base for base in kind.__mro__ if name in vars(base))


def _solved(part: Affine, state: Any, keep: Tensor | None) -> dict[str, Tensor]:
    first = [getattr(state, name) for name in part.fields]
    if len(first) == 2:
        # torch.complex wants equal types; under autocast the parts may have others.
        kind = first[0].dtype
        a, b, start = (torch.complex(*(t.to(kind) for t in p)) for p in (part.a, part.b, first))
    elif len(first) == 1:
        start = first[0]
        a, b = (p[0].to(start.dtype) for p in (part.a, part.b))
    else:
        raise ValueError(f"expected one field or two (real, imaginary), got {part.fields}")
    a = a.expand_as(b)  # (T, B, H)
    if keep is not None:
        gone = ~keep.unsqueeze(-1)  # (T, B, 1)
        a, b = a.masked_fill(gone, 1.0), b.masked_fill(gone, 0.0)
    s = linear_scan(a, b, start)
    values = (s.real, s.imag) if s.is_complex() else (s,)
    return dict(zip(part.fields, values, strict=True))


def _later(
    stages: tuple[Stage[Any], ...], gates_x: Tensor, first: Any, fields: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The stages without memory, for all steps as if they were one batch of T·B rows."""
    steps, batch = gates_x.shape[:2]
    # Nobody may read what a step has not set: NaN shows who does.
    unset = {
        name: f.new_full((), float("nan")).expand(steps * batch, *f.shape[1:])
        for name, f in zip(first._fields, first, strict=True)
        if name not in fields
    }
    rows = type(first)(**unset, **{name: f.flatten(0, 1) for name, f in fields.items()})
    flat = gates_x.flatten(0, 1)  # (T, B, G) -> (T·B, G)
    for stage in stages:
        parts = [getattr(rows, name) for name in stage.reads]
        read = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        gates_h = stage.operator.apply(read).to(read.dtype)
        rows = stage.update(flat, gates_h, rows, *stage.params)
    return {
        name: f.unflatten(0, (steps, batch)) for name, f in zip(rows._fields, rows, strict=True)
    }


def _last_kept(field: Tensor, first: Tensor, keep: Tensor) -> Tensor:
    """Each sequence's value at its own last step: (T, B, H) -> (B, H)."""
    steps = torch.arange(len(keep), device=keep.device).unsqueeze(1)
    at = (steps * keep).amax(0)  # (B)
    value = field[at, torch.arange(len(at), device=at.device)]
    return torch.where(keep.any(0).unsqueeze(-1), value, first)
