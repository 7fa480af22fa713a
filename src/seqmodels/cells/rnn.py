"""The plain recurrent network."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense

Nonlinearity = Literal["tanh", "sigmoid", "relu"]


class RNNState(NamedTuple):
    """h (B, H): the activations s_t, which are also the output."""

    h: Tensor


def _tanh(gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    return RNNState(torch.tanh(gates_x + gates_h))


def _sigmoid(gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    return RNNState(torch.sigmoid(gates_x + gates_h))


def _relu(gates_x: Tensor, gates_h: Tensor, state: RNNState) -> RNNState:
    return RNNState(torch.relu(gates_x + gates_h))


_UPDATES = {"tanh": _tanh, "sigmoid": _sigmoid, "relu": _relu}


class RNNCell(Cell[RNNState]):
    """The simple recurrent network.

        a_t = b + W s_{t-1} + U x_t
        s_t = σ(a_t)

    Symbols:
        x_t (I): the input. s_t (H): the activations, the output h; s_0 = 0. In [-1, 1] for tanh,
        [0, 1] for sigmoid, [0, ∞) for relu.
        U (H, I) = `weight_ih`; W (H, H) = `weight_hh`; b (H) = `bias_ih` + `bias_hh`.
        σ: tanh, the logistic sigmoid, or relu.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        nonlinearity: σ, one of "tanh", "sigmoid", "relu".
        bias: whether there is a b.

    Against the paper: Elman's σ is the sigmoid and tanh is what is used today; b is stored as the
    sum of two vectors, as torch does, so that torch's weights load.

    Reference: Elman, "Finding structure in time", Cognitive Science 14 (1990).
    https://doi.org/10.1207/s15516709cog1402_1

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(RNNCell(3, 4), torch.zeros(5, 2, 3))  # (T, B, I)
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
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if nonlinearity not in _UPDATES:
            raise ValueError(
                f"RNNCell: nonlinearity must be one of {', '.join(_UPDATES)}, got {nonlinearity!r}"
            )
        self.nonlinearity: Nonlinearity = nonlinearity
        gated_parameters(self, bias)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        bias = None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, H)

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return (Stage(Dense(self.weight_hh), _UPDATES[self.nonlinearity]),)

    def initial_state(self, batch_size: int, like: Tensor) -> RNNState:
        return RNNState(like.new_zeros(batch_size, self.hidden_size))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"
