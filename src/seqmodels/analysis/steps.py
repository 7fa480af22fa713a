"""One step of a cell as a function of one vector, and its derivative.

All floating fields of the state, flattened and side by side, make the vector s (B, N). Row by row,
s_t = f(s_{t-1}): the form in which Jacobians, exponents and fixed points are defined.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Generic

import torch
from torch import Tensor

from seqmodels.cells.base import Cell, S
from seqmodels.cells.wrapper import read

# (B, N) -> (B, N), each row by itself.
Map = Callable[[Tensor], Tensor]


def flatten(state: tuple[Tensor, ...]) -> Tensor:
    """All fields of a state side by side: (B, ·) each -> (B, N)."""
    return torch.cat([field.flatten(1) for field in state], dim=1)


def unflatten(flat: Tensor, like: S) -> S:
    """The other way round: (B, N) -> a state with the fields of `like`, of which one row is enough.

    Raises:
        ValueError: N is not the width of such a state.
    """
    widths = [field[0].numel() for field in like]
    if flat.dim() != 2 or flat.shape[1] != sum(widths):
        names: Any = getattr(like, "_fields", ())
        raise ValueError(
            f"expected (B, {sum(widths)}), the fields {', '.join(names)} side by side, "
            f"got {tuple(flat.shape)}"
        )
    parts = torch.split(flat, widths, dim=1)
    fields = [p.reshape(-1, *f.shape[1:]) for p, f in zip(parts, like, strict=True)]
    return type(like)(*fields)


class Step(Generic[S]):
    """The step of a cell, with the effective weights that it has now.

    Args:
        cell: any cell whose state has floating fields alone.

    Calls: gates_x (B, G) as from `gates`, s_{t-1} (B, N) -> s_t (B, N).

    Of a cell over the P places of a line (`Cell.places`) s and gates_x are those of all of them,
    field by field.

    Attributes:
        size: N.
        fields: the fields of the state, in their order in s.

    Raises:
        ValueError: a field of the state is not floating: a step is then no function of s alone.
    """

    def __init__(self, cell: Cell[S]) -> None:
        like = cell.like()
        self._cell, self._places = cell, cell.places
        self._first = cell.initial_state(self._places, like.detach())
        self.fields: tuple[str, ...] = self._first._fields  # type: ignore[attr-defined]
        for name, field in zip(self.fields, self._first, strict=True):
            if not field.is_floating_point():
                raise ValueError(
                    f"{type(cell).__name__} has state.{name} of {field.dtype}: its step is no "
                    "function of floating numbers alone; hold it as floating, or leave this cell"
                )
        self.size = sum(field.numel() for field in self._first)
        self._stages = cell.prepare()

    def __call__(self, gates_x: Tensor, flat: Tensor) -> Tensor:
        state = self.state(flat)
        rows, width = len(flat) * self._places, gates_x.shape[1] // self._places
        gates_x = gates_x.reshape(rows, width)  # (B, P·G) -> (B·P, G)
        for stage in self._stages:
            gates_h = stage.operator.apply(read(stage.reads, state))
            state = stage.update(gates_x, gates_h, state, *stage.params)
        return self.flat(state)

    def gates(self, x: Tensor) -> Tensor:
        """What the cell makes of its input: (T, B·P, I) -> (T, B, P·G)."""
        return self.rows(self._cell.project(x))

    def rows(self, values: Tensor) -> Tensor:
        """The places of each line side by side: (T, B·P, ·) -> (T, B, P·)."""
        return values.reshape(len(values), values.shape[1] // self._places, -1)

    def state(self, flat: Tensor) -> S:
        """s (B, N) as a state of the cell, of B·P rows."""
        if self._places == 1:
            return unflatten(flat, self._first)
        parts = torch.split(flat, [field.numel() for field in self._first], dim=1)
        pairs = zip(parts, self._first, strict=True)
        return type(self._first)(*(p.reshape(-1, *f.shape[1:]) for p, f in pairs))

    def flat(self, state: S) -> Tensor:
        """A state of the cell, of B·P rows, as s (B, N)."""
        rows = [field.flatten(1) for field in state]  # (B·P, ·) each
        lines = [r.reshape(len(r) // self._places, r.shape[1] * self._places) for r in rows]
        return torch.cat(lines, dim=1)

    def initial(self, batch_size: int = 1) -> Tensor:
        """The cell's initial state as s (B, N)."""
        return self.flat(self._first).repeat(batch_size, 1)


def step(cell: Cell[S], gates_x: Tensor, flat: Tensor) -> Tensor:
    """One step: gates_x (B, G), s_{t-1} (B, N) -> s_t (B, N). `Step` for many of them.

    >>> from seqmodels.cells import LSTMCell
    >>> cell = LSTMCell(3, 4)
    >>> tuple(step(cell, cell.project(torch.zeros(1, 2, 3))[0], torch.zeros(2, 8)).shape)
    (2, 8)
    """
    return Step(cell)(gates_x, flat)


def push(f: Callable[..., Tensor], s: Tensor, v: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
    """f and its derivative along directions, all in one forward pass.

    Forward differentiation of B·K rows: it needs no vmap, so any f that treats its rows alike will
    do, and costs K evaluations however large N is.

    Args:
        f: (s (B, N), *given (B, ·)) -> (B, M), row by row.
        s: (B, N).
        v: directions (B, N, K).
        given: what f takes besides, a row for each of s; not differentiated.

    Returns:
        f(s) (B, M) and J v (B, M, K), J_ij = ∂f_i/∂s_j.
    """
    batch, size, count = v.shape
    tangents = v.transpose(1, 2).reshape(batch * count, size)
    _load()
    repeated = [g.repeat_interleave(count, 0) for g in given]  # (B·K, ·)
    run = functools.partial(_with, f, repeated)
    value: Tensor
    pushed: Tensor
    value, pushed = torch.func.jvp(run, (s.repeat_interleave(count, 0),), (tangents,))  # type: ignore[misc]
    return value[::count], pushed.reshape(batch, count, -1).transpose(1, 2)


def _with(f: Callable[..., Tensor], given: list[Tensor], rows: Tensor) -> Tensor:
    return f(rows, *given)


@functools.cache
def _load() -> None:
    """torch's forward mode scripts its formulas at the first use, which torch itself deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))


def jacobian(f: Callable[..., Tensor], s: Tensor, *given: Tensor, rows: int = 32_768) -> Tensor:
    """J (B, M, N), J_ij = ∂f_i/∂s_j of each row; arguments as of `push`.

    Args:
        rows: at most so many rows (B·N) are differentiated at once, which bounds memory.
    """
    size = s.shape[1]
    eye = torch.eye(size, dtype=s.dtype, device=s.device)
    whole = max(1, rows // size)
    parts = zip(*(torch.split(each, whole) for each in (s, *given)), strict=True)
    found = [push(f, s_, eye.expand(len(s_), -1, -1), *rest)[1] for s_, *rest in parts]
    return torch.cat(found)


def step_jacobian(cell: Cell[S], gates_x: Tensor, flat: Tensor) -> Tensor:
    """∂s_t/∂s_{t-1} of the whole state: gates_x (B, G), s_{t-1} (B, N) -> (B, N, N)."""
    own = Step(cell)
    return jacobian(lambda s, gates: own(gates, s), flat, gates_x)
