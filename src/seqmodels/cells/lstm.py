"""The long short-term memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense


class LSTMState(NamedTuple):
    """h (B, H): the output. c (B, H): the memory, written C in the equations."""

    h: Tensor
    c: Tensor


def lstm_update(gates_x: Tensor, gates_h: Tensor, state: LSTMState) -> LSTMState:
    i, f, g, o = (gates_x + gates_h).chunk(4, dim=-1)  # (B, 4H) -> 4 × (B, H)
    c = torch.sigmoid(f) * state.c + torch.sigmoid(i) * torch.tanh(g)
    return LSTMState(torch.sigmoid(o) * torch.tanh(c), c)


class LSTMCell(Cell[LSTMState]):
    """Long short-term memory with a forget gate.

        f_t = sigmoid(b_f + W_f h_{t-1} + U_f x_t)      forget: what is retained
        i_t = sigmoid(b_i + W_i h_{t-1} + U_i x_t)      input: what is written
        o_t = sigmoid(b_o + W_o h_{t-1} + U_o x_t)      output: what is shown
        C̃_t = tanh(b_C + W_C h_{t-1} + U_C x_t)         the candidate
        C_t = f_t · C_{t-1} + i_t · C̃_t
        h_t = o_t · tanh(C_t)

    Symbols:
        x_t (I): the input. h_t (H) in (-1, 1): the output. C_t (H) in (-∞, ∞): the memory.
        h_0 = C_0 = 0. f, i, o (H) in (0, 1); C̃ (H) in (-1, 1).
        U (4H, I) = `weight_ih`; W (4H, H) = `weight_hh`; b (4H) = `bias_ih` + `bias_hh`; the rows
        are those of i, f, C̃, o in torch's order, where C̃ is named g.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        bias: whether there is a b.

    Against the papers: the forget gate is Gers et al.'s; there are no peepholes and the gradient
    is not truncated, unlike in 1997. b is the sum of two vectors, so that torch's weights load.

    References: Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997),
    https://doi.org/10.1162/neco.1997.9.8.1735; Gers, Schmidhuber & Cummins, "Learning to forget",
    Neural Computation 12 (2000), https://doi.org/10.1162/089976600300015015.

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(LSTMCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), tuple(state.c.shape)
    ((5, 2, 4), (2, 4), (2, 4))
    """

    gates = ("i", "f", "g", "o")
    memory_gate = "f"
    write_gate = "i"
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        gated_parameters(self, bias)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, 4H)

    def prepare(self) -> tuple[Stage[LSTMState], ...]:
        return (Stage(Dense(self.weight_hh), lstm_update),)

    def initial_state(self, batch_size: int, like: Tensor) -> LSTMState:
        shape = (batch_size, self.hidden_size)
        return LSTMState(like.new_zeros(shape), like.new_zeros(shape))
