"""A cell whose output is its whole state."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.wrapper import Wrapper, extended, probe

Fields = tuple[str, ...]


def _joined(state: Any, fields: Fields) -> Tensor:
    parts = [getattr(state, name) for name in fields]
    return torch.cat([p.flatten(1).to(state[0].dtype) for p in parts], dim=-1)  # (B, all widths)


def _with_all(
    update: Any, kind: type, fields: Fields,
    gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor,
) -> Any:  # fmt: skip
    new = update(gates_x, gates_h, kind(*state[1:]), *params)
    return type(state)(_joined(new, fields), *new)


def _inside(
    update: Any, kind: type, gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor
) -> Any:
    new = update(gates_x, gates_h, kind(*state[1:]), *params)
    return type(state)(state[0], *new)


class Exposed(Wrapper):
    """The same recurrence; the output of a step is every field of its state, side by side.

    Args:
        cell: any cell.
        fields: which fields, in which order; None is all of them.

    Attributes:
        output_size: the widths of the fields together.
    """

    def __init__(self, cell: Cell[Any], fields: Fields | None = None) -> None:
        super().__init__(cell)
        state, _, _ = probe(cell)
        self._kind: Any = type(state)
        self.fields: Fields = state._fields if fields is None else fields
        self._rows = [getattr(state, name) for name in self.fields]
        self.output_size = sum(row.numel() for row in self._rows)
        self._outer = extended(self._kind, before=("everything",))

    def adopt(self, state: Any) -> Any:
        return self._outer(_joined(state, self.fields), *state)

    def release(self, state: Any) -> Any:
        return self._kind(*state[1:])

    def prepare(self) -> tuple[Stage[Any], ...]:
        *before, last = self.cell.prepare()
        made = [replace(s, update=partial(_inside, s.update, self._kind)) for s in before]
        update = partial(_with_all, last.update, self._kind, self.fields)
        return (*made, replace(last, update=update))

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """Outputs (·, ·, output_size) -> one field each, (·, ·, …)."""
        parts = torch.split(y, [row.numel() for row in self._rows], dim=-1)
        return tuple(
            part.reshape(*y.shape[:2], *row.shape[1:]).to(row.dtype)
            for part, row in zip(parts, self._rows, strict=True)
        )

    def extra_repr(self) -> str:
        return ", ".join(self.fields)
