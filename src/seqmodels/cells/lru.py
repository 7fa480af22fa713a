"""The linear recurrent unit: complex numbers that turn and shrink, and a mixture of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Affine, Cell, Stage
from seqmodels.cells.operators import Dense, Nothing


class LRUState(NamedTuple):
    """h (B, H): the output y_t; re, im (B, H): the complex state s_t."""

    h: Tensor
    re: Tensor
    im: Tensor


def _turn(
    gates_x: Tensor, gates_h: Tensor, state: LRUState, real: Tensor, imaginary: Tensor
) -> LRUState:
    b_re, b_im, _ = gates_x.chunk(3, dim=-1)  # (B, 3H) -> 3 × (B, H)
    re = real * state.re - imaginary * state.im + b_re
    im = real * state.im + imaginary * state.re + b_im
    return state._replace(re=re, im=im)


def _mix(gates_x: Tensor, gates_h: Tensor, state: LRUState) -> LRUState:
    return state._replace(h=gates_h + gates_x.chunk(3, dim=-1)[2])


class LRUCell(Cell[LRUState]):
    """A linear recurrence of complex units, and real outputs mixed from them.

        s_t = Λ · s_{t-1} + exp(γ) · (B x_t)        Λ = exp(-exp(ν) + i exp(θ))
        y_t = Re(C s_t) + D x_t

    Λ is diagonal and |Λ| < 1 whatever the parameters: the state neither grows without bound nor
    needs a product, and all steps can be computed at once (engine "parallel"). Take several, with
    something nonlinear between them (`model.layers.skip=residual` and norms).

    Symbols:
        x_t (I): the input. s_t (H) complex: the state, kept as two real fields re and im. y_t (H)
        in (-∞, ∞): the output h, which the next step does not read. s_0 = 0.
        ν, θ, γ (H) = `nu_log`, `theta_log`, `gamma_log`, in (-∞, ∞).
        B (2H, I) = `weight_ih`, the rows of the real before those of the imaginary part.
        Re(C s) = W [re, im] with W (H, 2H) = `weight_out`. D (H, I) = `weight_skip`.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        r_min, r_max: 0 <= r_min < r_max <= 1: Λ starts uniformly in the ring r_min <= |Λ| <= r_max
            (never on |Λ| = 1).
        max_phase: in (0, 2π]: the angle of Λ starts uniformly in (0, max_phase).

    γ starts at log √(1 - |Λ|²), so that a unit driven by noise is as large as what drives it.

    Against the paper: as many units as outputs; D is a matrix, since I may not be H; B, C and D
    start uniform in ±1/√H like the other cells' weights.

    Reference: Orvieto et al., "Resurrecting recurrent neural networks for long sequences", ICML
    2023. https://arxiv.org/abs/2303.06349

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(LRUCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.re.shape)
    ((5, 2, 4), (2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = math.tau,
    ) -> None:
        super().__init__(input_size, hidden_size)
        for name, value in (("r_min", r_min), ("r_max", r_max), ("max_phase", max_phase)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"LRUCell: {name} must be a number, got {value!r}")
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(
                f"LRUCell: expected 0 <= r_min < r_max <= 1, got r_min={r_min!r}, r_max={r_max!r}"
            )
        if not 0 < max_phase <= math.tau:
            raise ValueError(f"LRUCell: expected 0 < max_phase <= 2π, got {max_phase!r}")
        self.r_min, self.r_max, self.max_phase = float(r_min), float(r_max), float(max_phase)
        self.nu_log = nn.Parameter(torch.empty(hidden_size))
        self.theta_log = nn.Parameter(torch.empty(hidden_size))
        self.gamma_log = nn.Parameter(torch.empty(hidden_size))
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.weight_out = nn.Parameter(torch.empty(hidden_size, 2 * hidden_size))
        self.weight_skip = nn.Parameter(torch.empty(hidden_size, input_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Λ uniform in its ring, γ to go with it, the matrices uniform in ±1/√H."""
        super().reset_parameters()
        # Neither end: its logarithm would be infinite.
        drawn = torch.rand(2, self.hidden_size, dtype=torch.float64).clamp(1e-6, 1 - 1e-6)
        squared = self.r_min**2 + drawn[0] * (self.r_max**2 - self.r_min**2)  # |Λ|²
        self.nu_log.copy_((-0.5 * squared.log()).log())
        self.theta_log.copy_((self.max_phase * drawn[1]).log())
        self.gamma_log.copy_(0.5 * torch.log1p(-squared))

    def _eigenvalues(self) -> tuple[Tensor, Tensor]:
        size, angle = torch.exp(-torch.exp(self.nu_log)), torch.exp(self.theta_log)
        return size * torch.cos(angle), size * torch.sin(angle)

    def project(self, x: Tensor) -> Tensor:
        gain = torch.exp(self.gamma_log).repeat(2).unsqueeze(-1)  # (2H, 1)
        weight = torch.cat((gain * self.weight_ih, self.weight_skip))  # (3H, I)
        return functional.linear(x, weight)  # (T, B, I) -> (T, B, 3H)

    def prepare(self) -> tuple[Stage[LRUState], ...]:
        return (
            Stage(Nothing(), _turn, params=self._eigenvalues()),
            Stage(Dense(self.weight_out), _mix, reads=("re", "im")),
        )

    def linear(self, gates_x: Tensor) -> tuple[Affine, ...]:
        b_re, b_im, _ = gates_x.chunk(3, dim=-1)  # (T, B, 3H) -> 3 × (T, B, H)
        return (Affine(("re", "im"), self._eigenvalues(), (b_re, b_im)),)

    def initial_state(self, batch_size: int, like: Tensor) -> LRUState:
        zeros = like.new_zeros(batch_size, self.hidden_size)
        return LRUState(zeros, zeros, zeros)

    def extra_repr(self) -> str:
        ring = f"r_min={self.r_min}, r_max={self.r_max}, max_phase={self.max_phase}"
        return f"{super().extra_repr()}, {ring}"
