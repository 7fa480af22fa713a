"""Noise on what a cell's gates are made of."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seqmodels.cells.base import Cell
from seqmodels.cells.wrapper import Wrapper


class GateNoise(Wrapper):
    """Adds noise to the input's part of the gates, at each step anew.

        training       g_t = project(x_t) + σ ε_t        ε_t ~ N(0, 1), of each gate of each unit
        evaluation     g_t = project(x_t)

    Within a nonlinearity it is noise on the state: what a network holds over k steps must stand
    out of a random walk of k of them, so that memory in states that attract is learned before
    memory in states that slowly decay, and holds for longer than the sequences it was learned on.

    Args:
        cell: any cell.
        sigma: σ >= 0, finite, in units of the gates' argument (a tanh saturates beyond 2).

    References: Jim, Giles & Horne, "An analysis of noise in recurrent neural networks: convergence
    and generalization", IEEE Transactions on Neural Networks 7, 1996 (additive noise within the
    nonlinearity, at each step); Lim et al., "Noisy recurrent neural networks", NeurIPS 2021,
    https://arxiv.org/abs/2102.04877.
    """

    def __init__(self, cell: Cell[Any], sigma: float) -> None:
        super().__init__(cell)
        self.past_apart = cell.past_apart
        number = isinstance(sigma, int | float) and not isinstance(sigma, bool)
        if not number or not 0.0 <= sigma < math.inf:
            raise ValueError(f"noise must be a number >= 0, got {sigma!r}")
        self.sigma = float(sigma)

    def project(self, x: Tensor) -> Tensor:
        gates_x = self.cell.project(x)
        if not self.training or self.sigma == 0.0:
            return gates_x
        return gates_x + self.sigma * torch.randn_like(gates_x)  # (T, B, G)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"
