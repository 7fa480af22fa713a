"""The gated recurrent unit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense


class GRUState(NamedTuple):
    """h (B, H): the state, which is also the output."""

    h: Tensor


def _update(gates_x: Tensor, gates_h: Tensor, state: GRUState) -> GRUState:
    x_r, x_z, x_n = gates_x.chunk(3, dim=-1)  # (B, 3H) -> 3 × (B, H)
    h_r, h_z, h_n = gates_h.chunk(3, dim=-1)  # (B, 3H) -> 3 × (B, H)
    retain = torch.sigmoid(x_z + h_z)  # torch's z, 1 - z of the equation
    candidate = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    return GRUState((1 - retain) * candidate + retain * state.h)


class GRUCell(Cell[GRUState]):
    """Gated recurrent unit, with the reset gate applied after the product.

        z_t = sigmoid(b_z + W_z x_t + U_z h_{t-1})      update: what is replaced
        r_t = sigmoid(b_r + W_r x_t + U_r h_{t-1})      reset: what the candidate sees of the past
        h̃_t = tanh(b_h + W x_t + r_t · (U h_{t-1} + c))          the candidate
        h_t = z_t · h̃_t + (1 - z_t) · h_{t-1}

    Symbols:
        x_t (I): the input. h_t (H) in (-1, 1): the state and output; h_0 = 0.
        z, r (H) in (0, 1); h̃ (H) in (-1, 1).
        W (3H, I) = `weight_ih`; U (3H, H) = `weight_hh`; b_z, b_r are sums of the rows of `bias_ih`
        and `bias_hh`; b_h is in `bias_ih` and c in `bias_hh`. The rows are those of r, z, h̃ in
        torch's order, where h̃ is named n.

    The sign of z: torch writes h_t = (1 - z) · n + z · h_{t-1}. It is the same family with the
    weights of z turned; they are stored in torch's sign, so that its weights load, and the z of the
    equation is z_t = sigmoid(-a_z) with a_z what the stored rows give. A growing stored bias of z
    therefore retains more: it is the memory gate.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        bias: whether there are b and c.

    Against the paper: Cho et al. write U (r · h_{t-1}), the reset before the product. Here it comes
    after it, r · (U h_{t-1}), as in cuDNN: one product a step in place of two.

    Reference: Cho et al., "Learning phrase representations using RNN encoder-decoder for
    statistical machine translation", EMNLP 2014. https://arxiv.org/abs/1406.1078

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(GRUCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("r", "z", "n")
    memory_gate = "z"
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        gated_parameters(self, bias)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih, self.bias_ih)  # (T, B, I) -> (T, B, 3H)

    def prepare(self) -> tuple[Stage[GRUState], ...]:
        # bias_hh belongs inside the reset gate's product, so it stays with the recurrent map.
        return (Stage(Dense(self.weight_hh, self.bias_hh), _update),)

    def initial_state(self, batch_size: int, like: Tensor) -> GRUState:
        return GRUState(like.new_zeros(batch_size, self.hidden_size))
