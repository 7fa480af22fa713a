"""A cell round a cell: the same equation with something done to it, run by every engine."""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from seqmodels.cells.base import Cell, Stage


class Wrapper(Cell[Any]):
    """What cells around a cell have in common: all that one does not change is the cell's own.

    A wrapper has no parameters. Its state may have further fields after (or before) those of the
    cell; `adopt` makes such a state from the cell's, and `release` gives the cell's back.

    Args:
        cell: any cell, a wrapper too.

    Attributes:
        cell: the one inside.
    """

    def __init__(self, cell: Cell[Any]) -> None:
        super().__init__(cell.input_size, cell.hidden_size)
        self.cell = cell
        self.output_size = cell.output_size
        self.gates = cell.gates
        self.memory_gate = cell.memory_gate
        self.write_gate = cell.write_gate
        self.not_activations = cell.not_activations
        self.only_eager = cell.only_eager
        self.training = cell.training

    @property
    def places(self) -> int:
        return self.cell.places

    def project(self, x: Tensor) -> Tensor:
        return self.cell.project(x)

    def prepare(self) -> tuple[Stage[Any], ...]:
        return self.cell.prepare()

    def initial_state(self, batch_size: int, like: Tensor) -> Any:
        return self.adopt(self.cell.initial_state(batch_size, like))

    def adopt(self, state: Any) -> Any:
        """The wrapper's state that goes with a state of the cell inside."""
        return state

    def release(self, state: Any) -> Any:
        """The state of the cell inside, out of the wrapper's."""
        return state

    def reset_parameters(self) -> None:
        self.cell.reset_parameters()

    def extra_repr(self) -> str:
        return ""


def extended(kind: Any, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Any:
    """The NamedTuple `kind` with further fields: one and the same type for the same arguments."""
    return _extended(kind, kind.__name__, (*before, *kind._fields, *after))


@functools.cache
def _extended(kind: Hashable, name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)


def probe(cell: Cell[Any]) -> tuple[Any, tuple[Stage[Any], ...], tuple[tuple[str, ...], ...]]:
    """A state of one row, the stages, and the fields that each stage changes.

    A field is unchanged where a stage hands on the very tensor that it was given.
    """
    parameter = cell.like()
    x = parameter.new_zeros(1, cell.places, cell.input_size)
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # a wrapper inside may draw
        stages = cell.prepare()
        first, state = cell.initial_state(1, x), cell.initial_state(cell.places, x)
        gates_x = cell.project(x)[0]  # (P, G)
        changed = []
        for stage in stages:
            gates_h = stage.operator.apply(read(stage.reads, state))
            new = stage.update(gates_x, gates_h, state, *stage.params)
            pairs = zip(new._fields, new, state, strict=True)
            changed.append(tuple(name for name, n, old in pairs if n is not old))
            state = new
    return first, stages, tuple(changed)


def read(names: tuple[str, ...], state: Any) -> Tensor:
    """The fields of the state that a stage reads, side by side."""
    fields = [getattr(state, name) for name in names]
    return fields[0] if len(fields) == 1 else torch.cat(fields, dim=-1)


def checked_rate(what: str, rate: float) -> float:
    """A probability that may be 0 and not 1, or a ValueError."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
        raise ValueError(f"{what} must lie in [0, 1), got {rate!r}")
    return float(rate)


def adopt(outer: Cell[Any], inner: Cell[Any], state: Any) -> Any:
    """A state of `inner` as one of `outer`, the wrappers round it."""
    if outer is inner or not isinstance(outer, Wrapper):
        return state
    return outer.adopt(adopt(outer.cell, inner, state))


def release(outer: Cell[Any], inner: Cell[Any], state: Any) -> Any:
    """The other way round."""
    while outer is not inner and isinstance(outer, Wrapper):
        state, outer = outer.release(state), outer.cell
    return state
