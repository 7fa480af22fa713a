"""The cliff: the loss of one recurrent unit over its weight and bias, and two descents to it.

    s_t = w · sigmoid(s_{t-1}) + b,  s_0 given            E(w, b) = (sigmoid(s_T) − target)²

After some 50 steps this smooth function of two numbers has a wall where the long-run state jumps
from one fixed point to another. A descent that steps onto the wall is thrown far off, unless its
step is clipped.

Reference: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks",
ICML 2013, figure 6. https://arxiv.org/abs/1211.5063
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def loss(
    weight: Tensor, bias: Tensor, *, start: float = 0.5, steps: int = 50, target: float = 0.7
) -> Tensor:
    """E at each (w, b); weight and bias of one shape.

    Args:
        weight, bias: any shape.
        start: s_0. steps: T. target: of sigmoid(s_T).
    """
    s = torch.full_like(weight, start)
    for _ in range(steps):
        s = weight * torch.sigmoid(s) + bias
    return (torch.sigmoid(s) - target).square()


@dataclass(frozen=True)
class Surface:
    """E on a grid: losses[i, j] at biases[i], weights[j]."""

    weights: Tensor
    biases: Tensor
    losses: Tensor


def surface(
    weights: tuple[float, float] = (4.7, 7.0),
    biases: tuple[float, float] = (-3.2, -2.2),
    points: int = 200,
) -> Surface:
    """E on a grid of points × points between the given ends."""
    w = torch.linspace(*weights, points, dtype=torch.float64)
    b = torch.linspace(*biases, points, dtype=torch.float64)
    b_grid, w_grid = torch.meshgrid(b, w, indexing="ij")
    return Surface(w, b, loss(w_grid, b_grid))


def descend(
    weight: float, bias: float, *, rate: float, max_norm: float | None, updates: int
) -> Tensor:
    """The path of gradient descent on E from (w, b): (updates + 1, 3) of w, b and E.

    Args:
        rate: the learning rate.
        max_norm: the gradient's norm is cut to this; None: never.
        updates: how many; the path ends early where w or b is no number any more.
    """
    at = torch.tensor([weight, bias], dtype=torch.float64)
    path = []
    for _ in range(updates + 1):
        point = at.clone().requires_grad_()
        value = loss(point[0], point[1])
        (gradient,) = torch.autograd.grad(value, point)
        path.append(torch.cat((at, value.detach().unsqueeze(0))))
        norm = float(gradient.norm())
        if max_norm is not None and norm > max_norm:
            gradient = gradient * (max_norm / norm)
        at = at - rate * gradient
        if not bool(at.isfinite().all()):
            break
    return torch.stack(path)
