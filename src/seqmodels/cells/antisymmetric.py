"""The antisymmetric network: a stable differential equation, discretised."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense
from seqmodels.cells.rnn import RNNState


def _update(epsilon: float, gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    return RNNState(state.h + epsilon * torch.tanh(gates_x + gates_h))


def _gated(epsilon: float, gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    a, z = gates_x.chunk(2, dim=-1)  # (B, 2H) -> 2 × (B, H)
    step = epsilon * torch.sigmoid(z + gates_h)
    return RNNState(state.h + step * torch.tanh(a + gates_h))


class AntisymmetricCell(Cell[RNNState]):
    """A step of Euler's method along an equation that neither grows nor forgets.

        h_t = h_{t-1} + ε z_t · tanh(b + (W - Wᵀ - γ 1) h_{t-1} + V x_t)
        z_t = 1, or gated: z_t = sigmoid(b_z + (W - Wᵀ - γ 1) h_{t-1} + V_z x_t)

    W - Wᵀ has imaginary eigenvalues alone, so the flow turns h; γ damps it, against what the
    discrete steps add. The gate chooses the step anew each time, with the same recurrent matrix.

    Symbols:
        x_t (I): the input. h_t (H) in (-∞, ∞): the state and output; h_0 = 0.
        V (H, I) = `weight_ih`; W (H, H) = `weight_hh`, of which only W - Wᵀ counts;
        b (H) = `bias_ih` + `bias_hh`.
        V_z (H, I) = `weight_gate`; b_z (H) = `bias_gate`, of the gated form alone. z (H) in (0, 1].

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        epsilon: the step ε, 0 < ε <= 1: what one input can change. 0.1 for long sequences, 0.5 for
            text, which turns on the last few symbols.
        gamma: the damping γ, 0 <= γ < ∞. A finite step widens the turns: small states do not grow
            where 2 γ >= ε (ω² + γ²), ω the largest frequency, the spectral radius of W - Wᵀ (1.63
            at the start). With less they grow to where tanh saturates, and carried from chunk to
            chunk without end.
        gated: whether there is a gate z on the step.
        bias: whether there is a b, and a b_z.

    Against the paper: W is a whole matrix, of which the antisymmetric part is taken, and starts
    uniform in ±1/√H like the other cells'; its ε and γ of 0.01 are for states that start anew with
    each sequence.

    Reference: Chang, Chen, Haber & Chi, "AntisymmetricRNN: a dynamical system view on recurrent
    neural networks", ICLR 2019. https://arxiv.org/abs/1902.09689

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(AntisymmetricCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("a",)
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    bias_gate: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        epsilon: float = 0.1,
        gamma: float = 0.15,
        gated: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        for name, value in (("epsilon", epsilon), ("gamma", gamma)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"AntisymmetricCell: {name} must be a number, got {value!r}")
        if not 0 < epsilon <= 1:
            raise ValueError(f"AntisymmetricCell: expected 0 < epsilon <= 1, got {epsilon!r}")
        if not (gamma >= 0 and math.isfinite(gamma)):
            raise ValueError(f"AntisymmetricCell: expected 0 <= gamma < ∞, got {gamma!r}")
        self.epsilon = float(epsilon)
        self.gamma = float(gamma)
        self.gated = gated
        gated_parameters(self, bias)
        if gated:
            self.weight_gate = nn.Parameter(torch.empty(hidden_size, input_size))
            self.register_parameter(
                "bias_gate", nn.Parameter(torch.empty(hidden_size)) if bias else None
            )
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        drive = functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, H)
        if not self.gated:
            return drive
        gate = functional.linear(x, self.weight_gate, self.bias_gate)  # (T, B, I) -> (T, B, H)
        return torch.cat((drive, gate), dim=-1)  # (T, B, 2H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        weight = self.weight_hh
        one = torch.eye(self.hidden_size, dtype=weight.dtype, device=weight.device)
        operator = Dense(weight - weight.t() - self.gamma * one)
        return (Stage(operator, partial(_gated if self.gated else _update, self.epsilon)),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        gated = ", gated" if self.gated else ""
        return f"{super().extra_repr()}, epsilon={self.epsilon}, gamma={self.gamma}{gated}"
