"""A cell whose states can be asked for their gradient, on every engine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.wrapper import Wrapper, probe

Widths = tuple[tuple[str, int], ...]


def _plain(
    update: Any, extra: int, gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor
) -> Any:
    return update(gates_x[..., : gates_x.shape[-1] - extra], gates_h, state, *params)


def _probed(
    update: Any, widths: Widths, gates_x: Tensor, gates_h: Tensor, state: Any, *params: Tensor
) -> Any:
    inner = gates_x.shape[-1] - sum(width for _, width in widths)
    gates, *zeros = torch.split(gates_x, [inner, *(width for _, width in widths)], dim=-1)
    new = update(gates, gates_h, state, *params)
    added = {
        name: getattr(new, name) + zero.reshape(-1, *getattr(new, name).shape[1:])
        for (name, _), zero in zip(widths, zeros, strict=True)
    }
    return new._replace(**added)


class Probed(Wrapper):
    """The same cell; zeros are added to its states, whose gradients are ∂L/∂s_t.

    Inside back-propagation through time nothing outside an engine sees the gradient of a state: it
    is the sum of what the output of its step and all later steps send back. A zero that is added to
    the state has that gradient, and comes in with the input.

    Attributes:
        widths: (field, width) of the floating fields of the state.
        zeros: (T, B, all widths) of the last call; requires a gradient, and is a leaf.
    """

    def __init__(self, cell: Cell[Any]) -> None:
        super().__init__(cell)
        state = probe(cell)[0]
        self.widths: Widths = tuple(
            (name, field.numel())
            for name, field in zip(state._fields, state, strict=True)
            if field.is_floating_point()
        )
        self.zeros: Tensor | None = None

    def project(self, x: Tensor) -> Tensor:
        gates_x = self.cell.project(x)
        extra = sum(width for _, width in self.widths)
        self.zeros = x.new_zeros(*x.shape[:2], extra, requires_grad=torch.is_grad_enabled())
        return torch.cat((gates_x, self.zeros), dim=-1)  # (T, B, G) -> (T, B, G + ΣW)

    def prepare(self) -> tuple[Stage[Any], ...]:
        *before, last = self.cell.prepare()
        extra = sum(width for _, width in self.widths)
        made = [replace(s, update=partial(_plain, s.update, extra)) for s in before]
        return (*made, replace(last, update=partial(_probed, last.update, self.widths)))
