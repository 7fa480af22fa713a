"""A cell whose gradient is bounded between any two steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Nothing
from seqmodels.cells.wrapper import Wrapper, probe

How = Literal["norm", "value", "cut"]
HOWS = ("norm", "value", "cut")


class Told(NamedTuple):
    """Of one backward pass; all ()."""

    seen: Tensor  # pairs of a sequence and a step through which a gradient came
    clipped: Tensor  # those of them where it was changed
    before: Tensor  # the largest norm of one such gradient
    after: Tensor  # and what was let through


class StepTally:
    """Counts what happened at the steps of a backward pass, on the device, without waiting."""

    def __init__(self) -> None:
        self._told: Told | None = None

    def add(self, before: Tensor, after: Tensor, changed: Tensor) -> None:
        """Norms (B) and whether they changed (B), of one step."""
        told = Told((before > 0).sum(), changed.sum(), before.amax(), after.amax())
        old = self._told
        if old is not None:
            told = Told(
                told.seen + old.seen,
                told.clipped + old.clipped,
                torch.maximum(told.before, old.before),
                torch.maximum(told.after, old.after),
            )
        self._told = told

    def take(self, like: Tensor) -> Told:
        """What was counted since the last call; zeros like `like` where nothing was."""
        none = torch.zeros((), dtype=torch.int64, device=like.device)
        told, self._told = self._told, None
        return told or Told(none, none, torch.zeros_like(like), torch.zeros_like(like))


class _Between(Function):
    """The state as it is, and its gradient clipped."""

    @staticmethod
    def forward(ctx: Any, clip: Any, *fields: Tensor) -> Any:
        ctx.clip = clip
        return tuple(field.view_as(field) for field in fields)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return (None, *ctx.clip(grads))


def _between(clip: Any, gates_x: Tensor, gates_h: Tensor, state: Any) -> Any:
    floating = [name for name in state._fields if getattr(state, name).is_floating_point()]
    passed = _Between.apply(clip, *(getattr(state, name) for name in floating))  # type: ignore[no-untyped-call]
    return state._replace(**dict(zip(floating, passed, strict=True)))


class ClippedSteps(Wrapper):
    """The same recurrence; what comes back from one step to the state before it is bounded.

        g_b = (∂L/∂s_{t+1} · ∂s_{t+1}/∂s_t) of sequence b, over all fields of the state
        norm    g_b ← g_b · min(1, c / ‖g_b‖)
        value   g_b ← min(max(g_b, −c), c), element by element
        cut     g_b ← 0 where ‖g_b‖ > c: for this sequence the way back ends here

    What the loss says of an output directly is not touched; steps that do not happen (padding) are
    none. Clipping the derivatives within the recurrence: Graves, "Generating sequences with
    recurrent neural networks", 2013, https://arxiv.org/abs/1308.0850.

    Args:
        cell: any cell.
        bound: gives c > 0 of the present backward pass.
        how: "norm", "value" or "cut".
        tally: counts what happened.
    """

    def __init__(
        self, cell: Cell[Any], bound: Callable[[], float], how: How, tally: StepTally
    ) -> None:
        super().__init__(cell)
        self.check_how(how)
        self.bound = bound
        self.how = how
        self.tally = tally
        self.only_eager = "it hands out no gradient between two steps, which clip=step bounds"
        self._first: str = probe(cell)[0]._fields[0]

    def prepare(self) -> tuple[Stage[Any], ...]:
        between: Stage[Any] = Stage(Nothing(), partial(_between, self._clip), reads=(self._first,))
        return (between, *self.cell.prepare())

    def _clip(self, grads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        before, bound = _norms(grads), self.bound()
        if self.how == "value":
            changed = torch.stack([(g.abs() > bound).flatten(1).any(1) for g in grads]).any(0)
            made = tuple(g.clamp(-bound, bound) for g in grads)
            after = _norms(made)
        elif self.how == "norm":
            changed = before > bound
            room = 8.0 * torch.finfo(before.dtype).eps  # for the rounding of norms and products
            scale = torch.where(changed, bound / before * (1.0 - room), torch.ones_like(before))
            made = tuple(g * _over(scale, g) for g in grads)
            after = before * scale
        else:
            changed = before > bound
            made = tuple(torch.where(_over(changed, g), torch.zeros_like(g), g) for g in grads)
            after = torch.where(changed, torch.zeros_like(before), before)
        self.tally.add(before.detach(), after.detach(), changed)
        return made

    @staticmethod
    def check_how(how: str) -> None:
        """Refuse what is none of the three ways."""
        if how not in HOWS:
            raise ValueError(f"how must be one of {', '.join(HOWS)}, got {how!r}")

    def extra_repr(self) -> str:
        return f"how={self.how!r}"


def _norms(grads: tuple[Tensor, ...]) -> Tensor:
    """‖·‖ of each sequence over all fields (B)."""
    parts = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return whole


def _over(rows: Tensor, field: Tensor) -> Tensor:
    return rows.reshape(-1, *[1] * (field.dim() - 1))  # (B) -> (B, 1, ...)
