"""Long expressive memory: two states, each moving at a pace that the input chooses."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense


class LEMState(NamedTuple):
    """h (B, H): the slower state y_t, also the output; z (B, H): the other one."""

    h: Tensor
    z: Tensor


def _move_z(dt: float, gates_x: Tensor, gates_h: Tensor, state: LEMState) -> LEMState:
    size = state.z.shape[-1]
    pace, candidate = (gates_x[..., : 2 * size] + gates_h).chunk(2, dim=-1)  # 2 × (B, H)
    step = dt * torch.sigmoid(pace)
    return state._replace(z=state.z + step * (torch.tanh(candidate) - state.z))


def _move_y(dt: float, gates_x: Tensor, gates_h: Tensor, state: LEMState) -> LEMState:
    size = state.h.shape[-1]
    pace, candidate = (gates_x[..., 2 * size :] + gates_h).chunk(2, dim=-1)  # 2 × (B, H)
    step = dt * torch.sigmoid(pace)
    return state._replace(h=state.h + step * (torch.tanh(candidate) - state.h))


class LEMCell(Cell[LEMState]):
    """Two coupled states whose time steps depend on the input: many time scales at once.

        u_t = Δt sigmoid(b_u + W_u y_{t-1} + U_u x_t)                   the pace of z
        v_t = Δt sigmoid(b_v + W_v y_{t-1} + U_v x_t)                   the pace of y
        z_t = (1 - u_t) · z_{t-1} + u_t · tanh(b_z + W_z y_{t-1} + U_z x_t)
        y_t = (1 - v_t) · y_{t-1} + v_t · tanh(b_y + W_y z_t + U_y x_t)

    y is driven by the new z of the same step.

    Symbols:
        x_t (I): the input. y_t (H) in (-1, 1): the state h and output; z_t (H) in (-1, 1);
        y_0 = z_0 = 0. u, v (H) in (0, Δt).
        U (4H, I) = `weight_ih`; W (4H, H) = `weight_hh`; b (4H) = `bias_ih` + `bias_hh`; the rows
        are those of u, z, v, y.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        dt: the longest step Δt, 0 < dt <= 1.
        bias: whether there is a b.

    Against the paper: the order of the rows; b is stored as the sum of two vectors. The product of
    the second stage reads y_{t-1} and z_t side by side, so that its state is y and z alone.

    Reference: Rusch, Mishra, Erichson & Mahoney, "Long expressive memory for sequence modeling",
    ICLR 2022. https://arxiv.org/abs/2110.04744

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(LEMCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), tuple(state.z.shape)
    ((5, 2, 4), (2, 4), (2, 4))
    """

    gates = ("u", "z", "v", "y")
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self, input_size: int, hidden_size: int, *, dt: float = 1.0, bias: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        if isinstance(dt, bool) or not isinstance(dt, int | float) or not math.isfinite(dt):
            raise ValueError(f"LEMCell: dt must be a number, got {dt!r}")
        if not 0 < dt <= 1:
            raise ValueError(f"LEMCell: expected 0 < dt <= 1, got {dt!r}")
        self.dt = float(dt)
        gated_parameters(self, bias)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, 4H)

    def prepare(self) -> tuple[Stage[LEMState], ...]:
        first, second = self.weight_hh.chunk(2)
        # The pace reads y alone and the candidate z alone: blocks (H, H) on a diagonal.
        pace, candidate = second.chunk(2)
        zeros = torch.zeros_like(pace)
        second = torch.cat((torch.cat((pace, zeros), 1), torch.cat((zeros, candidate), 1)))
        return (
            Stage(Dense(first), partial(_move_z, self.dt)),
            Stage(Dense(second), partial(_move_y, self.dt), reads=("h", "z")),
        )

    def initial_state(self, batch_size: int, like: Tensor) -> LEMState:
        zeros = like.new_zeros(batch_size, self.hidden_size)
        return LEMState(zeros, zeros)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dt={self.dt}"
