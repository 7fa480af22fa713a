"""The scalar LSTM of the xLSTM: exponential gates, and heads of units."""

from __future__ import annotations

from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import BlockDiagonal, Dense

_FORGET = ("sigmoid", "exp")
_NOTHING = -1e4  # log of the scale of a memory that holds nothing: exp of it is 0


class SLSTMState(NamedTuple):
    """The output h, the memory c, its normaliser n, and the log m of their scale; (B, H) each."""

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


def _update(forget: str, gates_x: Tensor, gates_h: Tensor, state: SLSTMState) -> SLSTMState:
    i, f, z, o = (gates_x + gates_h).chunk(4, dim=-1)  # (B, 4H) -> 4 × (B, H)
    log_f = f if forget == "exp" else -functional.softplus(-f)  # log sigmoid(f)
    before = torch.where(state.n == 0, _NOTHING, state.m) + log_f
    m = torch.maximum(before, i)
    retained, written = torch.exp(before - m), torch.exp(i - m)  # one of them is 1
    c = retained * state.c + written * torch.tanh(z)
    n = retained * state.n + written
    return SLSTMState(torch.sigmoid(o) * c / n.clamp_min(1.0), c, n, m)


class SLSTMCell(Cell[SLSTMState]):
    """Long short-term memory that can revise: its memory is a weighted mean, of any weights.

        i_t = exp(ĩ_t),  f_t = sigmoid(f̃_t) or exp(f̃_t),  z_t = tanh(z̃_t),  o_t = sigmoid(õ_t)
        ã_t = b_a + W_a h_{t-1} + U_a x_t               for a = i, f, z, o
        C_t = f_t · C_{t-1} + i_t · z_t,   N_t = f_t · N_{t-1} + i_t
        h_t = o_t · C_t / N_t

    The exponentials are kept in range by a scale that cancels in h: with
    m_t = max(log f_t + m_{t-1}, log i_t), the state holds c_t = C_t e^{-m_t}, n_t = N_t e^{-m_t}:

        c_t = e^{log f_t + m_{t-1} - m_t} · c_{t-1} + e^{log i_t - m_t} · z_t,   n_t alike
        h_t = o_t · c_t / max(n_t, 1)

    Symbols:
        x_t (I): the input. h_t (H) in (-1, 1): the output.
        c (H), n (H), m (H) in (-∞, ∞): n_t >= 1 after the first step. All are 0 before it, and
        n = 0 says that there is nothing yet, whatever m is. The 1 counts for a made-up state alone.
        U (4H, I) = `weight_ih`; W (4H, H / num_heads) = `weight_hh`; b (4H) = `bias_ih` +
        `bias_hh`; the rows are those of i, f, z, o.
        Heads: unit k reads only the units of its head, k // (H / num_heads), of h_{t-1}.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        num_heads: a divisor of H; 1: every unit reads every other.
        forget: f, "sigmoid" or "exp".
        bias: whether there is a b.

    Against the paper: the cell alone, without the block around it (convolution, group norm, gated
    projections). Parameters start as in the other cells, uniform in ±1/√H;
    `seqmodels.initialisers.Chrono` or `ForgetBias` spread or raise the forget gate's bias. The
    authors' code has the sigmoid.

    Reference: Beck et al., "xLSTM: extended long short-term memory", NeurIPS 2024.
    https://arxiv.org/abs/2405.04517

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(SLSTMCell(3, 4, num_heads=2), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), [tuple(field.shape) for field in state]
    ((5, 2, 4), [(2, 4), (2, 4), (2, 4), (2, 4)])
    """

    gates = ("i", "f", "z", "o")
    memory_gate = "f"
    write_gate = "i"
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_heads: int = 1,
        forget: Literal["sigmoid", "exp"] = "sigmoid",
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        whole = isinstance(num_heads, int) and not isinstance(num_heads, bool)
        if not whole or num_heads < 1 or hidden_size % num_heads:
            divisors = [d for d in range(1, hidden_size + 1) if hidden_size % d == 0]
            raise ValueError(
                f"SLSTMCell: num_heads must divide hidden_size = {hidden_size} "
                f"({', '.join(map(str, divisors))}), got {num_heads!r}"
            )
        if forget not in _FORGET:
            raise ValueError(
                f"SLSTMCell: forget must be one of {', '.join(_FORGET)}, got {forget!r}"
            )
        self.num_heads = num_heads
        self.forget: Literal["sigmoid", "exp"] = forget
        gated_parameters(self, bias)
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size // num_heads))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, 4H)

    def prepare(self) -> tuple[Stage[SLSTMState], ...]:
        update = partial(_update, self.forget)
        if self.num_heads == 1:
            return (Stage(Dense(self.weight_hh), update),)
        return (Stage(BlockDiagonal(self.weight_hh, self.num_heads), update),)

    def initial_state(self, batch_size: int, like: Tensor) -> SLSTMState:
        shape = (batch_size, self.hidden_size)
        return SLSTMState(*(like.new_zeros(shape) for _ in SLSTMState._fields))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_heads={self.num_heads}, forget={self.forget!r}"
