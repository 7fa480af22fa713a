"""What happens to the gradient between the backward pass and the optimiser's step.

Exploding gradients are the reason: in back-propagation through time ‖∂L_T/∂h_t‖ can grow
exponentially with T − t (Pascanu, Mikolov & Bengio 2013, https://arxiv.org/abs/1211.5063).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class Clipped(NamedTuple):
    """What a policy did to one gradient; tensors, so that nothing waits for the device."""

    norm: Tensor  # Euclidean norm of the whole gradient as it came, before any clipping
    engaged: Tensor  # bool: the gradient was changed


class Clip(Protocol):
    """A policy: called once per optimiser step, when the gradients are whole; works in place."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped: ...


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}; clip=none switches clipping off")
    return float(value)


class NoClip:
    """Leaves the gradient as it is, and measures its norm."""

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        norm = torch.nn.utils.get_total_norm(_gradients(parameters))
        return Clipped(norm, torch.zeros((), dtype=torch.bool, device=norm.device))


class NormClip:
    """g ← g · min(1, max_norm / ‖g‖), over all parameters together (Pascanu et al. 2013).

    Args:
        max_norm: the largest Euclidean norm that the whole gradient may have; > 0.
    """

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = _positive("max_norm", max_norm)

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        gradients = _gradients(parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        # Not clip_grad_norm_: its 1e-6 in the denominator also shrinks gradients within the bound.
        scale = torch.clamp(self.max_norm / norm, max=1.0)
        torch._foreach_mul_(gradients, scale)
        return Clipped(norm, norm > self.max_norm)


class ValueClip:
    """g_i ← min(max(g_i, −max_value), max_value), element by element (Mikolov 2012).

    Args:
        max_value: the largest magnitude of an element; > 0.
    """

    def __init__(self, max_value: float = 1.0) -> None:
        self.max_value = _positive("max_value", max_value)

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        gradients = _gradients(parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        largest = torch.nn.utils.get_total_norm(gradients, norm_type=float("inf"))
        torch._foreach_clamp_max_(gradients, self.max_value)
        torch._foreach_clamp_min_(gradients, -self.max_value)
        return Clipped(norm, largest > self.max_value)
