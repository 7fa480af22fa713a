"""The leaky recurrent network: units that move towards their drive with time constants."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense
from seqmodels.cells.rnn import Nonlinearity, RNNState

Time = Literal["fixed", "per_unit", "learned", "input"]
_TIMES = ("fixed", "per_unit", "learned", "input")
_SIGMA = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu}


def _fixed(sigma: str, rate: float, gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    return RNNState((1 - rate) * state.h + rate * _SIGMA[sigma](gates_x + gates_h))


def _per_unit(
    sigma: str, gates_x: Tensor, gates_h: Tensor, state: RNNState, rate: Tensor
) -> RNNState:
    return RNNState((1 - rate) * state.h + rate * _SIGMA[sigma](gates_x + gates_h))


def _per_step(sigma: str, gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    drive, rate = gates_x.chunk(2, dim=-1)  # (B, 2H) -> 2 × (B, H)
    return RNNState((1 - rate) * state.h + rate * _SIGMA[sigma](drive + gates_h))


class LeakyCell(Cell[RNNState]):
    """The simple recurrent network with a time constant.

        a_t = b + W s_{t-1} + U x_t
        s_t = (1 - 1/τ) s_{t-1} + (1/τ) σ(a_t)

    A constant drive is approached as 1 - (1 - 1/τ)^t: τ is measured in steps. τ = 1 is the plain
    RNN, bit for bit on the same engine.

    Where τ comes from (`time`):
        "fixed": one number, `tau`.
        "per_unit": a fixed vector, from `tau` (unit 1) to `tau_max` (unit H), evenly in log τ.
        "learned": τ = 1 + softplus(θ), a parameter a unit; it starts at `tau`.
        "input": τ_t = 1 + softplus(θ + V x_t), chosen anew at each step; `tau` where V x_t = 0 at
            the start.

    Symbols:
        x_t (I): the input. s_t (H): the state and output, s_0 = 0. In [-1, 1] for tanh, [0, 1] for
        sigmoid, [0, ∞) for relu.
        U (H, I) = `weight_ih`; W (H, H) = `weight_hh`; b (H) = `bias_ih` + `bias_hh`.
        τ: 1 ≤ τ < ∞, in steps. `time_constants` (H), a buffer, holds it for "per_unit".
        θ (H) = `theta`, in (-∞, ∞); V (H, I) = `weight_time`.
        σ: tanh, the logistic sigmoid, or relu.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        tau: 1 <= tau < ∞; > 1 for "learned" and "input", whose τ is above 1 always.
        time: "fixed", "per_unit", "learned" or "input".
        tau_max: the largest τ of "per_unit", tau <= tau_max < ∞; None: 10 · tau. Of no other.
        nonlinearity: σ, one of "tanh", "sigmoid", "relu".
        bias: whether there is a b.

    Against the paper: Jaeger et al. fix W and U and train a readout alone; here all is trained.
    Their leak a and their step δ/c are one number, 1/τ. "input" is a gate on the input alone; with
    h_{t-1} in it, it would be a gated unit (`UGRNNCell`).

    Reference: Jaeger, Lukoševičius, Popovici & Siewert, "Optimization and applications of echo
    state networks with leaky-integrator neurons", Neural Networks 20 (2007).
    https://doi.org/10.1016/j.neunet.2007.04.016

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(LeakyCell(3, 4, tau=5.0), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("a",)
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    time_constants: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        tau: float = 2.0,
        time: Time = "fixed",
        tau_max: float | None = None,
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if time not in _TIMES:
            raise ValueError(f"LeakyCell: time must be one of {', '.join(_TIMES)}, got {time!r}")
        if nonlinearity not in _SIGMA:
            raise ValueError(
                f"LeakyCell: nonlinearity must be one of {', '.join(_SIGMA)}, got {nonlinearity!r}"
            )
        self.time: Time = time
        self.nonlinearity: Nonlinearity = nonlinearity
        self.tau = _time_constant("tau", tau)
        gated_parameters(self, bias)
        if tau_max is not None and time != "per_unit":
            raise ValueError(
                f"LeakyCell: tau_max is for time='per_unit' alone, got tau_max={tau_max!r} with "
                f"time={time!r}: leave it out"
            )
        if time == "per_unit":
            most = _time_constant("tau_max", 10 * self.tau if tau_max is None else tau_max)
            if most < self.tau:
                raise ValueError(f"LeakyCell: expected tau_max >= tau = {tau!r}, got {tau_max!r}")
            logs = torch.linspace(math.log(self.tau), math.log(most), hidden_size).double()
            # exp(log(1)) may fall a rounding below 1.
            constants = logs.exp().clamp(self.tau, most)  # (H)
            self.register_buffer("time_constants", constants.to(torch.get_default_dtype()))
        elif time in ("learned", "input"):
            if self.tau == 1.0:
                raise ValueError(
                    f"LeakyCell: τ = 1 + softplus(θ) of time={time!r} is above 1 always, so tau "
                    f"must be > 1, got {tau!r}: use e.g. tau=1.1, or time='fixed' for τ = 1"
                )
            self.theta = nn.Parameter(torch.empty(hidden_size))
            if time == "input":
                self.weight_time = nn.Parameter(torch.empty(hidden_size, input_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As every cell, but θ such that τ = tau."""
        super().reset_parameters()
        if self.time in ("learned", "input"):
            excess = self.tau - 1
            # softplus⁻¹(y) = log(e^y - 1), written so that no y overflows.
            nn.init.constant_(self.theta, excess + math.log(-math.expm1(-excess)))

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        drive = functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, H)
        if self.time != "input":
            return drive
        shift = functional.linear(x, self.weight_time, self.theta)  # (T, B, I) -> (T, B, H)
        # In the state's precision: under autocast 1 - 1/τ would be lost for long times.
        rate = _rate(shift.to(x.dtype))
        return torch.cat((drive.to(x.dtype), rate), dim=-1)  # (T, B, 2H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        operator, sigma = Dense(self.weight_hh), self.nonlinearity
        if self.time == "fixed":
            return (Stage(operator, partial(_fixed, sigma, 1 / self.tau)),)
        if self.time == "input":
            return (Stage(operator, partial(_per_step, sigma)),)
        rate = 1 / self.time_constants if self.time == "per_unit" else _rate(self.theta)
        return (Stage(operator, partial(_per_unit, sigma), params=(rate,)),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, tau={self.tau}, time={self.time!r}, "
            f"nonlinearity={self.nonlinearity!r}"
        )


def _rate(theta: Tensor) -> Tensor:
    """1/τ with τ = 1 + softplus(θ)."""
    return 1 / (1 + functional.softplus(theta))


def _time_constant(name: str, value: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 1:
        raise ValueError(
            f"LeakyCell: {name} is a time in steps, 1 <= {name} < ∞ (1: the plain RNN), "
            f"got {value!r}"
        )
    return float(value)
