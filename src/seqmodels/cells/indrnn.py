"""The independently recurrent network: every unit has a past of its own."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Diagonal
from seqmodels.cells.rnn import RNNState

_SIGMA = {"relu": torch.relu, "tanh": torch.tanh}


def _update(sigma: str, gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    return RNNState(_SIGMA[sigma](gates_x + gates_h))


class _Bounded(Function):
    """Clamped to ±bound; at the bound only the gradient that leads back inside passes.

    A plain clamp has no gradient outside, and a weight that one step took there would never return.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.bound = bound
        return weight.clamp(-bound, bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        (grad,) = grads
        outwards = (weight >= ctx.bound) & (grad < 0) | (weight <= -ctx.bound) & (grad > 0)
        return grad.masked_fill(outwards, 0.0), None


class IndRNNCell(Cell[RNNState]):
    """The plain network whose units read their own past and no other's.

        h_t = σ(b + u ⊙ h_{t-1} + W x_t)        |u| <= bound

    Over T steps a unit's gradient is u^T times the slopes of σ. With relu, whose slope is 1 where
    it is open, u alone says how long a unit remembers, and bound = 2^(1/T) keeps the gradient over
    T steps at most 2. Units meet in the layer above: stack two or more.

    Symbols:
        x_t (I): the input. h_t (H): the state and output; h_0 = 0. In [0, ∞) for relu, (-1, 1) for
        tanh.
        W (H, I) = `weight_ih`; u (H) = `weight_hh`, clamped to ±bound; b (H) = `bias_ih` +
        `bias_hh`.
        σ: relu or tanh.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        nonlinearity: σ, "relu" or "tanh".
        bound: of |u|, 0 < bound < ∞; None: no bound.
        bias: whether there is a b.

    u starts uniform in (0, min(1, bound)), so that memories of every length are there; the rest as
    in the other cells. `weight_hh` may lie outside the bound, u never does; from there it moves
    only back.

    Against the paper: it clips u after each step of the optimiser and starts it in (0, bound); its
    authors' code starts it in (0, 1), and where only the last output counts the uppermost layer's
    near 1. Batch normalisation is not here.

    Reference: Li, Li, Cook, Zhu & Gao, "Independently recurrent neural network (IndRNN): building a
    longer and deeper RNN", CVPR 2018. https://arxiv.org/abs/1803.04831

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(IndRNNCell(3, 4, bound=2 ** (1 / 5)), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape)
    ((5, 2, 4), (2, 4))
    """

    gates = ("a",)
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Literal["relu", "tanh"] = "relu",
        bound: float | None = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if nonlinearity not in _SIGMA:
            raise ValueError(
                f"IndRNNCell: nonlinearity must be one of {', '.join(_SIGMA)}, got {nonlinearity!r}"
            )
        if bound is not None:
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if not number or not 0 < bound < math.inf:
                raise ValueError(
                    "IndRNNCell: expected 0 < bound < ∞, or None for no bound, "
                    f"got bound={bound!r}: 2 ** (1 / T) keeps gradients over T steps at most 2"
                )
            bound = float(bound)
        self.nonlinearity: Literal["relu", "tanh"] = nonlinearity
        self.bound = bound
        gated_parameters(self, bias)
        self.weight_hh = nn.Parameter(torch.empty(hidden_size))  # in place of the matrix
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As every cell, but u uniform in (0, min(1, bound))."""
        super().reset_parameters()
        nn.init.uniform_(self.weight_hh, 0.0, 1.0 if self.bound is None else min(1.0, self.bound))

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        weight = self.weight_hh
        if self.bound is not None:
            weight = _Bounded.apply(weight, self.bound)  # type: ignore[no-untyped-call]
        return (Stage(Diagonal(weight), partial(_update, self.nonlinearity)),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}, bound={self.bound}"
