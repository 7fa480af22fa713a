"""Past outputs that a cell reads: a map over them, and how an engine holds them uncopied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Dense


class Lagged:
    """W [own, h_{t-d}, …] + b, where the argument is [the fields of before, h_{t-2}, h_{t-3}, …].

    Args:
        weight: (G, own + K·H).
        bias: (G) or None.
        fields: width of the fields before the past outputs.
        own: how many of these are read: all of them or, where no lag is 1, none.
        units: H.
        lags: the K lags d >= 2.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, fields: int, own: int, units: int,
        lags: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.weight, self.bias = weight, bias
        self.fields, self.own, self.units, self.lags = fields, own, units, lags

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    @property
    def columns(self) -> tuple[tuple[int, int], ...]:
        """(first, width) of each part of the argument that is read, in the order of `weight`."""
        places = [self.fields + (lag - 2) * self.units for lag in self.lags]
        first = [(0, self.own)] if self.own else []
        return (*first, *((place, self.units) for place in places))

    def with_weight(self, weight: Tensor) -> Lagged:
        """The same map with another matrix."""
        return Lagged(
            weight, self.bias, fields=self.fields, own=self.own, units=self.units, lags=self.lags
        )

    def apply(self, h: Tensor) -> Tensor:
        return functional.linear(self._read(h), self.weight, self.bias)  # (B, ·) -> (B, G)

    def transpose(self, grad: Tensor) -> Tensor:
        parts = torch.split(grad @ self.weight, [width for _, width in self.columns], dim=-1)
        size = self.fields + (self.lags[-1] - 1) * self.units
        found = grad.new_zeros(*grad.shape[:-1], size)
        for (first, width), part in zip(self.columns, parts, strict=True):
            found[..., first : first + width] = part
        return found

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        weight = grad.t() @ self._read(h)
        return (weight,) if self.bias is None else (weight, grad.sum(0))

    def _read(self, h: Tensor) -> Tensor:
        return torch.cat([h[..., first : first + width] for first, width in self.columns], -1)


def hold_past(
    cell: Cell[Any], stages: tuple[Stage[Any], ...], state: Any, keep: Tensor | None
) -> tuple[tuple[Stage[Any], ...], Any, Tensor | None]:
    """Take the past outputs out of the state for one call, where the cell allows it.

    An engine that keeps its outputs has them there already: the first stage then reads them by its
    `lags`, and the field `past` has no width, so that no step copies it. `put_back` ends it.

    Args:
        keep: (T, B) or None. A mask with gaps is not for this: a row's lags would differ.

    Returns:
        The stages, the state and (D, B, H), the outputs h_{-D} … h_{-1} before the first step; or
        what was given and None.
    """
    operator = stages[0].operator
    if not cell.past_apart or type(operator) is not Lagged:
        return stages, state, None
    if keep is not None and bool((keep[1:] & ~keep[:-1]).any()):
        return stages, state, None
    h, past = state.h, state.past
    earlier = past.reshape(len(past), -1, operator.units).transpose(0, 1).flip(0)  # (D - 1, B, H)
    first = replace(
        stages[0],
        operator=Dense(operator.weight, operator.bias),
        reads=stages[0].reads[:-1] if operator.own else (),
        lags=operator.lags,
    )
    before = torch.cat((earlier, h.unsqueeze(0)))  # (D, B, H)
    return (first, *stages[1:]), state._replace(past=past[:, :0]), before


def put_back(state: Any, before: Tensor, y: Tensor, keep: Tensor | None) -> Any:
    """The state after a call with its past outputs again."""
    return state._replace(past=recent(before, y, keep))


def recent(before: Tensor, y: Tensor, keep: Tensor | None) -> Tensor:
    """The field `past` after a call: before (D, B, H), outputs (T, B, H) -> (B, (D - 1)·H)."""
    depth, steps = len(before), len(y)
    if keep is None:
        tail = y[max(0, steps - depth) : steps - 1]
        if steps < depth:
            tail = torch.cat((before[steps:], tail))
        rows = tail.flip(0)  # (D - 1, B, H), the latest first
    else:
        whole = torch.cat((before, y))  # (D + T, B, H)
        back = torch.arange(2, depth + 1, device=y.device).unsqueeze(1)  # (D - 1, 1)
        places = depth + keep.sum(0) - back  # (D - 1, B)
        rows = whole[places, torch.arange(y.shape[1], device=y.device)]
    return rows.transpose(0, 1).flatten(1)


def read_all(stage: Stage[Any], state: Any, past: list[Tensor]) -> Tensor:
    """What a stage's operator reads: fields of the state, then outputs of `past`, the last one
    being that of the step before."""
    fields = [cast(Tensor, getattr(state, name)) for name in stage.reads]
    fields += [past[-lag] for lag in stage.lags]
    return fields[0] if len(fields) == 1 else torch.cat(fields, dim=-1)
