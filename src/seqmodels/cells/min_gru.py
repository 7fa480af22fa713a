"""The least GRU: gates that see the input alone, so that the recurrence is linear."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Affine, Cell, Stage
from seqmodels.cells.operators import Nothing
from seqmodels.cells.rnn import RNNState

Candidate = Literal["linear", "positive"]


def _linear(a: Tensor) -> Tensor:
    return a


def _positive(a: Tensor) -> Tensor:
    return torch.where(a >= 0, a + 0.5, torch.sigmoid(a))


CANDIDATES: dict[str, Callable[[Tensor], Tensor]] = {"linear": _linear, "positive": _positive}


def _update(
    shape: Callable[[Tensor], Tensor], gates_x: Tensor, gates_h: Tensor, state: RNNState
) -> RNNState:
    z, c = gates_x.chunk(2, dim=-1)  # (B, 2H) -> 2 × (B, H)
    return RNNState(torch.sigmoid(z) * state.h + torch.sigmoid(-z) * shape(c))


def checked_candidate(cell: str, candidate: str) -> Callable[[Tensor], Tensor]:
    """The function by its name, or a ValueError."""
    if candidate not in CANDIDATES:
        names = ", ".join(CANDIDATES)
        raise ValueError(f"{cell}: candidate must be one of {names}, got {candidate!r}")
    return CANDIDATES[candidate]


class MinGRUCell(Cell[RNNState]):
    """The GRU whose gates do not see the state.

        z_t = sigmoid(b_z + U_z x_t)        what is replaced
        c_t = g(b_c + U_c x_t)              the candidate
        h_t = (1 - z_t) · h_{t-1} + z_t · c_t

    Nothing multiplies the state but 1 - z_t, which does not depend on it: all steps can be computed
    at once (engine "parallel").

    Symbols:
        x_t (I): the input. h_t (H): the state and output, in (-∞, ∞), or (0, ∞) with the positive
        candidate and from a positive state on; h_0 = 0. z (H) in (0, 1).
        U (2H, I) = `weight_ih`; b (2H) = `bias_ih`; the rows are those of z, with the sign turned
        as torch's GRU has it (z_t = sigmoid(-a_z), so that a larger bias retains), and of c.
        g: "linear", g(a) = a; "positive", g(a) = a + 0.5 where a >= 0, else sigmoid(a).

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        candidate: g. The paper's simplest form has "linear", its form in logarithms "positive".
        bias: whether there is a b.

    Against the paper: the sign of z's rows. Logarithms are not needed, since nothing is divided by
    a product of many factors; h_0 may have any sign, and 0 is the start.

    Reference: Feng, Tung, Ahmed, Bengio & Hajimirsadeghi, "Were RNNs all we needed?", 2024.
    https://arxiv.org/abs/2410.01201

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(MinGRUCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("z", "c")
    memory_gate = "z"
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
        self._shape = checked_candidate("MinGRUCell", candidate)
        self.candidate: Candidate = candidate
        rows = 2 * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.register_parameter("bias_ih", nn.Parameter(torch.empty(rows)) if bias else None)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih, self.bias_ih)  # (T, B, I) -> (T, B, 2H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return (Stage(Nothing(), partial(_update, self._shape)),)

    def linear(self, gates_x: Tensor) -> tuple[Affine, ...]:
        z, c = gates_x.chunk(2, dim=-1)  # (T, B, 2H) -> 2 × (T, B, H)
        return (Affine(("h",), (torch.sigmoid(z),), (torch.sigmoid(-z) * self._shape(c),)),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, candidate={self.candidate!r}"
