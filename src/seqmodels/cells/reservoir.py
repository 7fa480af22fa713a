"""The reservoir of an echo state network: leaky units whose weights are drawn once and stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Dense
from seqmodels.cells.reservoir_weights import Distribution, Topology, draw, recurrent_weights
from seqmodels.cells.rnn import RNNState

Sigma = Literal["tanh", "identity"]


def _update(sigma: str, leak: float, gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    drive = gates_x + gates_h
    drive = torch.tanh(drive) if sigma == "tanh" else drive
    return RNNState(drive if leak == 1.0 else (1 - leak) * state.h + leak * drive)


class ReservoirCell(Cell[RNNState]):
    """A fixed random recurrence, of which only a readout is trained.

        a_t = b + W s_{t-1} + U x_t + ν_t
        s_t = (1 - α) s_{t-1} + α σ(a_t)

    Its weights are buffers: no optimiser touches them, and checkpoints hold them. Apart from that
    it is a cell like any other: it stacks, runs both ways and takes lengths, and gradients flow
    through it to what lies below.

    Symbols:
        x_t (I): the input. s_t (H): the state and output, s_0 = 0; in (-1, 1) for tanh.
        U (H, I) = `weight_ih`; W (H, H) = `weight_hh`; b (H) = `bias`.
        α: the leak, 0 < α <= 1; 1/α is the time constant in steps.
        ν_t (H): normal noise, new at every step, in training alone.
        σ: tanh, or the identity (a linear network).

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        topology: of W. "random": a share `density` of the entries, from `distribution`, scaled such
            that the spectral radius is the one asked for. "orthogonal": a random rotation times
            `spectral_radius`. "ring": unit i reads unit i - 1 alone, the first the last, with the
            weight `spectral_radius` (Rodan & Tiňo 2011). "delay_line": the ring without the
            connection that closes it; whose spectral radius is 0, so that the number is its weight.
        density: share of entries of W that are not zero, 0 < density <= 1; of "random" alone.
        distribution: of these entries: "uniform" on [-1, 1], "normal", or "sign" (-1 or 1).
        spectral_radius: the greatest modulus of an eigenvalue of W, >= 0.
        leak: α.
        input_scaling: the greatest weight of U ("uniform", "sign") or their standard deviation
            ("normal"), >= 0; or a list of I, one for each number of the input.
        input_density: share of entries of U that are not zero.
        input_distribution: as `distribution`.
        bias_scaling, bias_density: as of U, for b. 0: no bias.
        nonlinearity: σ, "tanh" or "identity".
        noise: standard deviation of ν, >= 0.

    Against the papers: Jaeger's (1 - δCγ) s + δC σ(a) is this equation for s / γ with α = δCγ, so
    that W read from s counts as W / γ: his C = 0.44, γ = 0.9 and radius 0.79 are α = 0.396 and
    radius 0.878. Feedback of the output is an input like any other: see `task=ridge`.

    References: Jaeger, "The 'echo state' approach to analysing and training recurrent neural
    networks", GMD Report 148, 2001; Lukoševičius, "A practical guide to applying echo state
    networks", 2012, https://doi.org/10.1007/978-3-642-35289-8_36; Rodan & Tiňo, "Minimum
    complexity echo state network", 2011, https://doi.org/10.1109/TNN.2010.2089641.

    >>> from seqmodels.scan import scan
    >>> y, state = scan(ReservoirCell(3, 50), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 50), (2, 50))
    """

    gates = ("a",)
    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        topology: Topology = "random",
        density: float = 0.1,
        distribution: Distribution = "uniform",
        spectral_radius: float = 0.9,
        leak: float = 1.0,
        input_scaling: float | Sequence[float] = 1.0,
        input_density: float = 1.0,
        input_distribution: Distribution = "uniform",
        bias_scaling: float = 0.0,
        bias_density: float = 1.0,
        nonlinearity: Sigma = "tanh",
        noise: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        for name, value, names in (
            ("topology", topology, get_args(Topology)),
            ("distribution", distribution, get_args(Distribution)),
            ("input_distribution", input_distribution, get_args(Distribution)),
            ("nonlinearity", nonlinearity, get_args(Sigma)),
        ):
            if value not in names:
                raise ValueError(
                    f"ReservoirCell: {name} must be one of {', '.join(names)}, got {value!r}"
                )
        for name, number in (
            ("density", density),
            ("leak", leak),
            ("input_density", input_density),
            ("bias_density", bias_density),
        ):
            if not 0 < number <= 1:
                raise ValueError(f"ReservoirCell: expected 0 < {name} <= 1, got {number!r}")
        scales = list(input_scaling) if isinstance(input_scaling, Sequence) else [input_scaling]
        for name, values in (
            ("spectral_radius", [spectral_radius]),
            ("input_scaling", scales),
            ("bias_scaling", [bias_scaling]),
            ("noise", [noise]),
        ):
            if not all(0 <= v < math.inf for v in values):
                raise ValueError(f"ReservoirCell: expected 0 <= {name} < ∞, got {values}")
        if len(scales) not in (1, input_size):
            raise ValueError(
                f"ReservoirCell: input_scaling takes one number or one for each of the "
                f"{input_size} inputs, got {scales}"
            )
        self.topology: Topology = topology
        self.density = density
        self.distribution: Distribution = distribution
        self.spectral_radius = float(spectral_radius)
        self.leak = float(leak)
        self.input_scaling = scales
        self.input_density = input_density
        self.input_distribution: Distribution = input_distribution
        self.bias_scaling = bias_scaling
        self.bias_density = bias_density
        self.nonlinearity: Sigma = nonlinearity
        self.noise = noise
        self.register_buffer("weight_ih", torch.empty(hidden_size, input_size))
        self.register_buffer("weight_hh", torch.empty(hidden_size, hidden_size))
        self.register_buffer("bias", torch.empty(hidden_size) if bias_scaling > 0 else None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws all weights anew.

        Raises:
            ValueError: the spectral radius cannot be reached, since the matrix that was drawn has
                no eigenvalue but 0.
        """
        rows, columns = self.weight_ih.shape
        weights = recurrent_weights(
            rows, self.topology, self.density, self.distribution, self.spectral_radius
        )
        self.weight_hh.copy_(weights)
        scale = torch.tensor(self.input_scaling, dtype=torch.float64)
        drawn = draw((rows, columns), self.input_distribution, self.input_density)
        self.weight_ih.copy_(drawn * scale)
        if self.bias is not None:
            drawn = draw((rows,), self.input_distribution, self.bias_density)
            self.bias.copy_(drawn * self.bias_scaling)

    def project(self, x: Tensor) -> Tensor:
        drive = functional.linear(x, self.weight_ih, self.bias)  # (T, B, I) -> (T, B, H)
        if self.training and self.noise > 0:
            drive = drive + self.noise * torch.randn_like(drive)
        return drive

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        update = partial(_update, self.nonlinearity, self.leak)
        return (Stage(Dense(self.weight_hh), update),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, topology={self.topology!r}, "
            f"spectral_radius={self.spectral_radius}, leak={self.leak}"
        )
