"""Zoneout: units that now and then keep their old value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.wrapper import Wrapper, checked_rate, probe

Rates = tuple[tuple[str, float], ...]
Widths = tuple[tuple[str, int], ...]


def _kept(
    update: Any, widths: Widths, changed: tuple[str, ...],
    gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor,
) -> Any:  # fmt: skip
    inner = gates_x.shape[-1] - sum(width for _, width in widths)
    gates, *masks = torch.split(gates_x, [inner, *(width for _, width in widths)], dim=-1)
    new = update(gates, gates_h, state, *params)
    mixed = {}
    for (name, _), mask in zip(widths, masks, strict=True):
        if name in changed:
            old, came = getattr(state, name), getattr(new, name)
            wide = mask if came.dim() == 2 else mask.reshape(-1, *came.shape[1:])
            mixed[name] = torch.where(wide > 0.5, old, came)
    return new._replace(**mixed)


def _expected(
    update: Any, rates: Rates, changed: tuple[str, ...],
    gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor,
) -> Any:  # fmt: skip
    new = update(gates_x, gates_h, state, *params)
    mixed = {
        name: rate * getattr(state, name) + (1.0 - rate) * getattr(new, name)
        for name, rate in rates
        if name in changed
    }
    return new._replace(**mixed)


class Zoneout(Wrapper):
    """Each unit keeps its old value with a probability, at each step anew.

        training       s_t = m_t · s_{t-1} + (1 - m_t) · f(x_t, s_{t-1})     m_t ~ Bernoulli(p)
        evaluation     s_t =   p · s_{t-1} + (1 - p)   · f(x_t, s_{t-1})

    A kept value is kept bit for bit. Where a cell changes its state in several stages, each field
    is mixed with its value before the stage that changes it.

    Args:
        cell: any cell.
        rate: p in [0, 1), for all floating fields of the state or by the field's name; fields that
            are not named have 0. The reference takes 0.05 for h and 0.5 for c of an LSTM.

    Reference: Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden
    activations", ICLR 2017. https://arxiv.org/abs/1606.01305
    """

    def __init__(self, cell: Cell[Any], rate: float | Mapping[str, float]) -> None:
        super().__init__(cell)
        self.past_apart = cell.past_apart
        state, _, self._changed = probe(cell)
        floating = [
            name
            for name, field in zip(state._fields, state, strict=True)
            if field.is_floating_point() and name not in cell.not_activations
        ]
        if isinstance(rate, Mapping):
            unknown = sorted(set(rate) - set(floating))
            if unknown:
                raise ValueError(
                    f"zoneout names {', '.join(map(repr, unknown))} and the state of "
                    f"{type(cell).__name__} has the fields {', '.join(floating)}"
                )
            rates = {name: checked_rate(f"zoneout of {name}", p) for name, p in rate.items()}
        else:
            rates = dict.fromkeys(floating, checked_rate("zoneout", rate))
        self.rates: Rates = tuple((name, rates[name]) for name in floating if rates.get(name))
        self._widths: Widths = tuple((name, getattr(state, name).numel()) for name, _ in self.rates)

    def project(self, x: Tensor) -> Tensor:
        gates_x = self.cell.project(x)
        if not self.training or not self.rates:
            return gates_x
        masks = [
            torch.bernoulli(gates_x.new_full((*gates_x.shape[:2], width), rate))
            for (_, rate), (_, width) in zip(self.rates, self._widths, strict=True)
        ]
        return torch.cat((gates_x, *masks), dim=-1)  # (T, B, G) -> (T, B, G + the fields' widths)

    def prepare(self) -> tuple[Stage[Any], ...]:
        stages = self.cell.prepare()
        if not self.rates:
            return stages
        pairs = zip(stages, self._changed, strict=True)
        if self.training:
            return tuple(
                replace(s, update=partial(_kept, s.update, self._widths, changed))
                for s, changed in pairs
            )
        return tuple(
            replace(s, update=partial(_expected, s.update, self.rates, changed))
            for s, changed in pairs
        )

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={rate}" for name, rate in self.rates)
