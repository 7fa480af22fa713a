"""Dropout of what the recurrence reads, with one mask for a whole sequence."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.wrapper import Wrapper, checked_rate, extended, probe, read

Reads = tuple[str, ...]


def _inside(
    update: Any, kind: type, gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor
) -> Any:
    """The update of the cell inside, the further fields handed on."""
    count = len(kind._fields)  # type: ignore[attr-defined]
    new = update(gates_x, gates_h, kind(*state[:count]), *params)
    return type(state)(*new, *state[count:])


def _masked(
    update: Any, kind: type, number: int, reads: Reads,
    gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor,
) -> Any:  # fmt: skip
    """The same, and then what the next product reads."""
    new = _inside(update, kind, gates_x, gates_h, state, *params)
    dropped = getattr(new, f"mask{number}") * read(reads, new)
    return new._replace(**{f"dropped{number}": dropped})


class RecurrentDropout(Wrapper):
    """Dropout on the way from step to step, the same units at every step of a sequence.

        gates_h = W (m · h_{t-1}) + b        m_i = 1/(1-p) with probability 1 - p, else 0

    The memory itself is left alone; only what the products read is masked, in each stage. The
    masks are part of the state: they are drawn with the initial state, each sequence its own, and
    a sequence that is carried on keeps them. In evaluation there are none.

    Args:
        cell: a cell whose products read fields (B, ·).
        rate: p in [0, 1).

    Reference: Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent
    neural networks", NeurIPS 2016. https://arxiv.org/abs/1512.05287
    """

    def __init__(self, cell: Cell[Any], rate: float) -> None:
        super().__init__(cell)
        self.rate = checked_rate("recurrent_dropout", rate)
        state, stages, _ = probe(cell)
        self._kind: Any = type(state)
        self._count = len(state)
        # Stages without a product read nothing that could be dropped.
        self._reads: tuple[Reads | None, ...] = tuple(
            s.reads if s.operator.weights else None for s in stages
        )
        if not any(self._reads):
            raise ValueError(f"recurrent_dropout: {type(cell).__name__} has no recurrent product")
        wide = [n for r in self._reads for n in r or () if getattr(state, n).dim() != 2]
        if wide:
            raise ValueError(
                f"recurrent_dropout is for products of fields (B, ·), and {type(cell).__name__} "
                f"reads {', '.join(wide)} with more axes"
            )
        numbers = [i for i, reads in enumerate(self._reads) if reads]
        names = [f"{what}{i}" for i in numbers for what in ("mask", "dropped")]
        self._outer = extended(self._kind, after=tuple(names))

    def adopt(self, state: Any) -> Any:
        inside = state
        further = []
        for reads in filter(None, self._reads):
            value = read(reads, inside)
            mask = torch.ones_like(value, requires_grad=False)
            mask = functional.dropout(mask, self.rate, self.training)
            further += [mask, mask * value]
        return self._outer(*inside, *further)

    def initial_state(self, batch_size: int, like: Tensor) -> Any:
        return self.adopt(self.cell.initial_state(batch_size, like))

    def release(self, state: Any) -> Any:
        return self._kind(*state[: self._count])

    def prepare(self) -> tuple[Stage[Any], ...]:
        stages = self.cell.prepare()
        made = []
        for number, stage in enumerate(stages):
            update = partial(_inside, stage.update, self._kind)
            if not self.training:
                made.append(replace(stage, update=update))
                continue
            following = (number + 1) % len(stages)
            next_reads, reads = self._reads[following], stage.reads
            if next_reads:
                update = partial(_masked, stage.update, self._kind, following, next_reads)
            if self._reads[number]:
                reads = (f"dropped{number}",)
            made.append(replace(stage, update=update, reads=reads))
        return tuple(made)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
