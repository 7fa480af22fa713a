"""What happens to the gradient between the backward pass and the optimiser's step.

Exploding gradients are the reason: in back-propagation through time ‖∂L_T/∂h_t‖ can grow
exponentially with T − t (Pascanu, Mikolov & Bengio 2013, https://arxiv.org/abs/1211.5063).

Here are the policies that look at one gradient as a whole; `clipping_parts` has those that look
at its parts or at the past, `clipping_steps` the one that acts within back-propagation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NOTHING: Mapping[str, Tensor] = MappingProxyType({})
HALVES = (torch.float16, torch.bfloat16)
# How far below a bound clipping stays. Factor and product are rounded: half a unit in the last
# place each; where the norm itself is computed in no wider type, its sum is, too.
ROOM = {
    kind: torch.finfo(kind).eps * (0.5 if kind in HALVES else 8.0)
    for kind in (*HALVES, torch.float32, torch.float64)
}


class Clipped(NamedTuple):
    """What a policy did to one gradient; tensors, so that nothing waits for the device."""

    norm: Tensor  # Euclidean norm of the whole gradient as it came, before any clipping
    after: Tensor  # and of what the optimiser gets
    engaged: Tensor  # bool: the gradient was changed
    skipped: bool | None = None  # the update does not happen; None: the policy refuses none
    details: Mapping[str, Tensor] = NOTHING  # logged too; those in _max by their maximum


class Clip(ABC):
    """A policy: called once per optimiser step, when the gradients are whole; works in place.

    With gradient accumulation the whole gradient is the mean over the batches of a step, under
    mixed precision it is free of the loss scale, and of several optimisers each has its own: the
    policy is called with the parameters of the one that steps.

    Attributes:
        loss_scale: what the loss is multiplied by in the coming backward pass; of interest to what
            acts within it.
    """

    loss_scale: float = 1.0

    @abstractmethod
    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped: ...

    def attach(self, model: nn.Module) -> None:  # noqa: B027 - most need not
        """See the model once, before training: its parameters' names, its layers."""

    def state_dict(self) -> dict[str, Any]:
        """What the next call depends on, as plain values and tensors; part of the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most have none
        """Go on from what `state_dict` gave."""


def gradients_of(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def total_norm(tensors: Sequence[Tensor], order: float = 2.0) -> Tensor:
    """The norm of all elements together (), computed in float32 at least."""
    wide = [t.float() if t.dtype in HALVES else t for t in tensors]
    return torch.nn.utils.get_total_norm(wide, norm_type=order)


def shrink(norm: Tensor, bound: float | Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """What brings a norm above the bound down to it, and 1 elsewhere (NaN, too).

    To just below it: the elements of `gradients` are rounded as they are scaled, and the norm that
    the optimiser gets is never above the bound.
    """
    # Not clip_grad_norm_: its 1e-6 in the denominator also shrinks gradients within the bound.
    room = max((ROOM[g.dtype] for g in gradients), default=0.0)
    return torch.where(norm > bound, bound / norm * (1.0 - room), torch.ones_like(norm))


def positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not value > 0:
        raise ValueError(f"{name} must be positive, got {value}; clip=none switches clipping off")
    return float(value)


class NoClip(Clip):
    """Leaves the gradient as it is, and measures its norm."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        norm = total_norm(gradients_of(parameters))
        return Clipped(norm, norm, torch.zeros((), dtype=torch.bool, device=norm.device))


class NormClip(Clip):
    """g ← g · min(1, max_norm / ‖g‖), over all parameters together (Pascanu et al. 2013).

    Args:
        max_norm: the largest Euclidean norm that the whole gradient may have; > 0.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = positive("max_norm", max_norm)

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        gradients = gradients_of(parameters)
        norm = total_norm(gradients)
        scale = shrink(norm, self.max_norm, gradients)
        torch._foreach_mul_(gradients, scale)
        return Clipped(norm, norm * scale, norm > self.max_norm)


class ValueClip(Clip):
    """g_i ← min(max(g_i, −max_value), max_value), element by element (Mikolov 2012).

    Args:
        max_value: the largest magnitude of an element; > 0.
    """

    def __init__(self, max_value: float = 1.0) -> None:
        self.max_value = positive("max_value", max_value)

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        gradients = gradients_of(parameters)
        norm = total_norm(gradients)
        largest = total_norm(gradients, float("inf"))
        torch._foreach_clamp_max_(gradients, self.max_value)
        torch._foreach_clamp_min_(gradients, -self.max_value)
        return Clipped(norm, total_norm(gradients), largest > self.max_value)


class SkipClip(Clip):
    """Refuses the whole update where ‖g‖ > max_norm, or is NaN or infinite; clips nothing.

    The gradients become None, so that no optimiser touches anything: neither parameters nor
    moments nor weight decay, nor its own count of steps. The run's count of steps and the schedule
    go on: a run has as many steps as were asked for, some of them without effect. A loss that is
    itself NaN or infinite still ends the run. On an accelerator each step waits for the norm.

    Args:
        max_norm: the largest norm of a gradient that is used; > 0.

    The very deep VAE of Child 2021 (https://arxiv.org/abs/2011.10650) trains so.
    """

    def __init__(self, max_norm: float = 10.0) -> None:
        self.max_norm = positive("max_norm", max_norm)

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        norm = total_norm(gradients_of(parameters))
        skip = not bool(norm <= self.max_norm)  # so that NaN is above every bound
        if skip:
            for parameter in parameters:
                parameter.grad = None
        after = torch.zeros_like(norm) if skip else norm
        never = torch.zeros((), dtype=torch.bool, device=norm.device)
        return Clipped(norm, after, never, skipped=skip)
