"""The coupled oscillatory network: units that swing, driven by one another."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Dense


class CoRNNState(NamedTuple):
    """h (B, H): where the oscillators are, y_t, also the output; z (B, H): their velocities."""

    h: Tensor
    z: Tensor


def _update(
    dt: float, gamma: float, epsilon: float, gates_x: Tensor, gates_h: Tensor, state: CoRNNState
) -> CoRNNState:
    force = torch.tanh(gates_x + gates_h) - gamma * state.h - epsilon * state.z
    z = state.z + dt * force
    return CoRNNState(state.h + dt * z, z)


class CoRNNCell(Cell[CoRNNState]):
    """Damped, driven and coupled oscillators, one a unit, by small steps in time.

        z_t = z_{t-1} + Δt (tanh(b + W [y_{t-1}, z_{t-1}] + U x_t) - γ y_{t-1} - ε z_{t-1})
        y_t = y_{t-1} + Δt z_t

    Symbols:
        x_t (I): the input. y_t (H) in (-∞, ∞): the state h and output; z_t (H) in (-∞, ∞): its
        velocity; y_0 = z_0 = 0.
        U (H, I) = `weight_ih`; W (H, 2H) = `weight_hh`, the columns of y before those of z;
        b (H) = `bias_ih`.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        dt: the step Δt, 0 < dt < 1.
        gamma: the stiffness γ, 0 < γ < ∞: its root is the frequency of a unit left to itself.
        epsilon: the damping ε, 0 <= ε < ∞. Left to itself a unit comes to rest where ε > 0
            and Δt (γ Δt + 2 ε) < 4.
        bias: whether there is a b.

    Against the paper: of its two discretisations this is the one damped by z_{t-1}, that of the
    published programs, and not by z_t. The defaults are the paper's for sequential MNIST, where one
    input moves y by Δt² at most; Δt = 0.9, γ = ε = 1 is near the plain network and does for text.

    Reference: Rusch & Mishra, "Coupled oscillatory recurrent neural network (coRNN): an accurate
    and (gradient) stable architecture for learning long time dependencies", ICLR 2021.
    https://arxiv.org/abs/2010.00951

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(CoRNNCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), tuple(state.z.shape)
    ((5, 2, 4), (2, 4), (2, 4))
    """

    gates = ("a",)
    bias_ih: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dt: float = 0.042,
        gamma: float = 2.7,
        epsilon: float = 4.7,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        for name, value in (("dt", dt), ("gamma", gamma), ("epsilon", epsilon)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"CoRNNCell: {name} must be a number, got {value!r}")
        if not 0 < dt < 1:
            raise ValueError(f"CoRNNCell: expected 0 < dt < 1, got {dt!r}")
        if not (gamma > 0 and math.isfinite(gamma)):
            raise ValueError(f"CoRNNCell: expected 0 < gamma < ∞, got {gamma!r}")
        if not (epsilon >= 0 and math.isfinite(epsilon)):
            raise ValueError(f"CoRNNCell: expected 0 <= epsilon < ∞, got {epsilon!r}")
        self.dt, self.gamma, self.epsilon = float(dt), float(gamma), float(epsilon)
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, 2 * hidden_size))
        self.register_parameter("bias_ih", nn.Parameter(torch.empty(hidden_size)) if bias else None)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih, self.bias_ih)  # (T, B, I) -> (T, B, H)

    def prepare(self) -> tuple[Stage[CoRNNState], ...]:
        update = partial(_update, self.dt, self.gamma, self.epsilon)
        return (Stage(Dense(self.weight_hh), update, reads=("h", "z")),)

    def initial_state(self, batch_size: int, like: Tensor) -> CoRNNState:
        zeros = like.new_zeros(batch_size, self.hidden_size)
        return CoRNNState(zeros, zeros)

    def extra_repr(self) -> str:
        numbers = f"dt={self.dt}, gamma={self.gamma}, epsilon={self.epsilon}"
        return f"{super().extra_repr()}, {numbers}"
