"""The update gate network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense
from seqmodels.cells.rnn import RNNState


def _update(gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    g, c = (gates_x + gates_h).chunk(2, dim=-1)  # (B, 2H) -> 2 × (B, H)
    candidate = torch.tanh(c)
    return RNNState(candidate + torch.sigmoid(g) * (state.h - candidate))


class UGRNNCell(Cell[RNNState]):
    """The update gate network: the plain network and one gate, the least that a gated unit can be.

        g_t = sigmoid(b_g + W_g h_{t-1} + U_g x_t)      what is retained
        c_t = tanh(b_c + W_c h_{t-1} + U_c x_t)         the candidate
        h_t = g_t · h_{t-1} + (1 - g_t) · c_t

    Symbols:
        x_t (I): the input. h_t (H) in (-1, 1): the state and output; h_0 = 0.
        g (H) in (0, 1); c (H) in (-1, 1).
        U (2H, I) = `weight_ih`; W (2H, H) = `weight_hh`; b (2H) = `bias_ih` + `bias_hh`; the rows
        are those of g, c.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        bias: whether there is a b.

    Against the paper: the same, where its nonlinearity is tanh; b is the sum of two vectors, as in
    the other cells. Its constant bias of the gate is init=forget_bias here.

    Reference: Collins, Sohl-Dickstein & Sussillo, "Capacity and trainability in recurrent neural
    networks", ICLR 2017. https://arxiv.org/abs/1611.09913

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(UGRNNCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("g", "c")
    memory_gate = "g"
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
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, 2H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return (Stage(Dense(self.weight_hh), _update),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))
