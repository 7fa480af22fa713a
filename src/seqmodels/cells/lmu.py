"""The Legendre memory unit: a linear memory of a sliding window, read by a nonlinear layer."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense


class LMUState(NamedTuple):
    """h (B, H): the output; m (B, d): the memory."""

    h: Tensor
    m: Tensor


def _move_memory(gates_x: Tensor, gates_h: Tensor, state: LMUState) -> LMUState:
    return state._replace(m=gates_x[..., : state.m.shape[-1]] + gates_h)


def _move_output(gates_x: Tensor, gates_h: Tensor, state: LMUState) -> LMUState:
    return state._replace(h=torch.tanh(gates_x[..., state.m.shape[-1] :] + gates_h))


def legendre(order: int, theta: float) -> tuple[Tensor, Tensor]:
    """The memory's Ā (d, d) and B̄ (d), float64: its differential equation stepped exactly.

    θ ṁ = A m + B u with a_ij = (2i + 1)·(-1 if i < j else (-1)^(i-j+1)), b_i = (2i + 1)(-1)^i,
    and u held over a step of length 1 (zero-order hold):

        [Ā B̄; 0 1] = exp([A B; 0 0] / θ)

    Args:
        order: d >= 1.
        theta: θ > 0, the length of the window in steps.
    """
    i = torch.arange(order, dtype=torch.float64)
    sign = 1 - 2 * (i % 2)  # (-1)^i
    lower = -sign.unsqueeze(1) * sign
    above = i.unsqueeze(1) < i
    a = (2 * i + 1).unsqueeze(1) * torch.where(above, -torch.ones_like(lower), lower)
    whole = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    whole[:order, :order], whole[:order, order] = a, (2 * i + 1) * sign
    stepped = torch.linalg.matrix_exp(whole / theta)
    return stepped[:order, :order].contiguous(), stepped[:order, order].contiguous()


def legendre_readout(order: int, fraction: float) -> Tensor:
    """c (d), float64, with c·m_t ≈ u_{t - fraction·θ}: the shifted Legendre polynomials there.

    Args:
        order: d >= 1.
        fraction: in [0, 1]: 0 is now, 1 the far end of the window.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction of the window must lie in [0, 1], got {fraction!r}")
    x = 2.0 * fraction - 1.0
    values = [1.0, x]
    for n in range(1, order):
        values.append(((2 * n + 1) * x * values[n] - n * values[n - 1]) / (n + 1))
    return torch.tensor(values[:order], dtype=torch.float64)


class LMUCell(Cell[LMUState]):
    """A memory that holds the last θ steps of a signal as d Legendre coefficients.

        u_t = e_x x_t + e_h h_{t-1} + e_m m_{t-1}                     one number a step
        m_t = Ā m_{t-1} + B̄ u_t
        h_t = tanh(b + W_x x_t + W_h h_{t-1} + W_m m_t)

    The memory is the best polynomial of degree d - 1 through the window, and its dynamics are
    linear and stable: gradients reach θ steps back whatever is learned around it. `legendre` gives
    Ā and B̄, `legendre_readout` what reads a past u out of m.

    Symbols:
        x_t (I): the input. h_t (H) in (-1, 1): the output. m_t (d): the memory. h_0 = m_0 = 0.
        W_x (H, I) = `weight_ih`; W_h (H, H) = `weight_hh`; W_m (H, d) = `weight_mh`; b (H) =
        `bias_ih` + `bias_hh`. e_x (I), e_h (H), e_m (d): `encoder_x`, `encoder_h`, `encoder_m`.
        Ā (d, d), B̄ (d): `memory_a`, `memory_b`, fixed.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        order: d >= 1. Details shorter than some 2θ/d steps are lost.
        theta: θ, the length of the window in steps, 1 <= θ < ∞.

    Against the paper: there is a b; e_x and e_h start uniform in ±1/√H, as all weights do, and e_m
    at zero as there. Engines run the memory as one product, with e_h and e_m within its matrix.

    Reference: Voelker, Kajić & Eliasmith, "Legendre memory units: continuous-time representation in
    recurrent neural networks", NeurIPS 2019.
    https://proceedings.neurips.cc/paper/2019/hash/952285b9b7e7a1be5aa7849f32ffff05-Abstract.html

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(LMUCell(3, 4, order=6, theta=20.0), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), tuple(state.m.shape)
    ((5, 2, 4), (2, 4), (2, 6))
    """

    gates = ("a",)
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    memory_a: Tensor
    memory_b: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, *, order: int = 16, theta: float = 100.0
    ) -> None:
        super().__init__(input_size, hidden_size)
        if isinstance(order, bool) or not isinstance(order, int) or order < 1:
            raise ValueError(f"LMUCell: order must be a whole number >= 1, got {order!r}")
        number = isinstance(theta, int | float) and not isinstance(theta, bool)
        if not number or not math.isfinite(theta) or theta < 1:
            raise ValueError(
                f"LMUCell: theta is the length of the window in steps, 1 <= theta < ∞, "
                f"got {theta!r}"
            )
        self.order, self.theta = order, float(theta)
        gated_parameters(self, True)
        self.weight_mh = nn.Parameter(torch.empty(hidden_size, order))
        self.encoder_x = nn.Parameter(torch.empty(input_size))
        self.encoder_h = nn.Parameter(torch.empty(hidden_size))
        self.encoder_m = nn.Parameter(torch.empty(order))
        # They follow from the arguments: no part of what is saved.
        for name, value in zip(("memory_a", "memory_b"), legendre(order, self.theta), strict=True):
            self.register_buffer(name, value.to(torch.get_default_dtype()), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As every cell, but e_m = 0."""
        super().reset_parameters()
        nn.init.zeros_(self.encoder_m)

    def project(self, x: Tensor) -> Tensor:
        # B̄ e_x as one matrix: (d, I).
        into_memory = torch.outer(self.memory_b, self.encoder_x)
        weight = torch.cat((into_memory, self.weight_ih))
        bias = functional.pad(self.bias_ih + self.bias_hh, (self.order, 0))
        return functional.linear(x, weight, bias)  # (T, B, I) -> (T, B, d + H)

    def prepare(self) -> tuple[Stage[LMUState], ...]:
        memory = torch.cat(
            (
                torch.outer(self.memory_b, self.encoder_h),
                self.memory_a + torch.outer(self.memory_b, self.encoder_m),
            ),
            dim=1,
        )  # (d, H + d)
        output = torch.cat((self.weight_hh, self.weight_mh), dim=1)  # (H, H + d)
        return (
            Stage(Dense(memory), _move_memory, reads=("h", "m")),
            Stage(Dense(output), _move_output, reads=("h", "m")),
        )

    def initial_state(self, batch_size: int, like: Tensor) -> LMUState:
        return LMUState(
            like.new_zeros(batch_size, self.hidden_size), like.new_zeros(batch_size, self.order)
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, order={self.order}, theta={self.theta}"
