"""The least LSTM: two gates that see the input alone and share one opening between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Affine, Cell, Stage
from seqmodels.cells.min_gru import Candidate, checked_candidate
from seqmodels.cells.operators import Nothing
from seqmodels.cells.rnn import RNNState


def _shares(f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(f) and sigmoid(i) over their sum.

    They are as 1 + exp(-i) to 1 + exp(-f). All three terms are divided by the largest of them,
    which cancels, so that none is infinite and their sum is not 0.
    """
    least = torch.minimum(f, i).clamp(max=0.0).detach()
    one, low_f, low_i = torch.exp(least), torch.exp(least - f), torch.exp(least - i)
    retained, written = one + low_i, one + low_f
    total = retained + written
    return retained / total, written / total


def _update(
    shape: Callable[[Tensor], Tensor], gates_x: Tensor, gates_h: Tensor, state: RNNState
) -> RNNState:
    f, i, c = gates_x.chunk(3, dim=-1)  # (B, 3H) -> 3 × (B, H)
    retained, written = _shares(f, i)
    return RNNState(retained * state.h + written * shape(c))


class MinLSTMCell(Cell[RNNState]):
    """The LSTM whose gates do not see the state, and without an output gate.

        f_t = sigmoid(b_f + U_f x_t)        i_t = sigmoid(b_i + U_i x_t)
        c_t = g(b_c + U_c x_t)
        h_t = f_t / (f_t + i_t) · h_{t-1} + i_t / (f_t + i_t) · c_t

    Neither share is ever 0 / 0, however far both gates are shut. As in
    `MinGRUCell` all steps can be computed at once (engine "parallel").

    Symbols:
        x_t (I): the input. h_t (H): the state and output, in (-∞, ∞), or (0, ∞) with the positive
        candidate and from a positive state on; h_0 = 0. f, i (H) in (0, 1).
        U (3H, I) = `weight_ih`; b (3H) = `bias_ih`; the rows are those of f, i, c.
        g: "linear", g(a) = a; "positive", g(a) = a + 0.5 where a >= 0, else sigmoid(a).

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        candidate: g. The paper's simplest form has "linear", its form in logarithms "positive".
        bias: whether there is a b.

    Against the paper: the state is not kept in logarithms, and 0 is its start.

    Reference: Feng, Tung, Ahmed, Bengio & Hajimirsadeghi, "Were RNNs all we needed?", 2024.
    https://arxiv.org/abs/2410.01201

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(MinLSTMCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("f", "i", "c")
    memory_gate = "f"
    write_gate = "i"
    bias_ih: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        candidate: Candidate = "linear",
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self._shape = checked_candidate("MinLSTMCell", candidate)
        self.candidate: Candidate = candidate
        rows = 3 * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.register_parameter("bias_ih", nn.Parameter(torch.empty(rows)) if bias else None)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih, self.bias_ih)  # (T, B, I) -> (T, B, 3H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return (Stage(Nothing(), partial(_update, self._shape)),)

    def linear(self, gates_x: Tensor) -> tuple[Affine, ...]:
        f, i, c = gates_x.chunk(3, dim=-1)  # (T, B, 3H) -> 3 × (T, B, H)
        retained, written = _shares(f, i)
        return (Affine(("h",), (retained,), (written * self._shape(c),)),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, candidate={self.candidate!r}"
