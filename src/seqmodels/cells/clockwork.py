"""The clockwork recurrent network: modules of units that move at periods of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.operators import Dense

# Steps are counted up to the periods' least common multiple, exactly in any dtype of a state.
MOST = 2**11


class ClockworkState(NamedTuple):
    """h (B, H): the state and output; t (B, 1): the number of the step to come."""

    h: Tensor
    t: Tensor


def _update(
    gates_x: Tensor, gates_h: Tensor, state: ClockworkState, periods: Tensor, cycle: Tensor
) -> ClockworkState:
    now = torch.round(state.t)  # (B, 1)
    moves = now - periods * torch.floor(now / periods) < 0.5  # (B, H)
    h = torch.where(moves, torch.tanh(gates_x + gates_h), state.h)
    t = state.t + 1
    return ClockworkState(h, torch.where(now + 1 < cycle, t, t - cycle))


class ClockworkCell(Cell[ClockworkState]):
    """Modules of units, of which the slow ones move only now and then.

        h_t = tanh(b + W h_{t-1} + U x_t)  for the modules with t mod T_i = 0
        h_t = h_{t-1}                      for the others

    Units are ordered by period, and W is block-triangular: a module reads itself and those that
    are slower. A slow module is the memory of the fast ones, with paths back that are T_i times
    shorter, and needs no gates for it.

    Symbols:
        x_t (I): the input. h_t (H) in (-1, 1): the state and output, h_0 = 0. t = 0 at the first
        step, at which all modules move; it is carried on with the state.
        U (H, I) = `weight_ih`; W (H, H) = `weight_hh`, of which what lies below the diagonal of
        blocks is not used; b (H) = `bias_ih` + `bias_hh`.
        T_1 < T_2 < …: `periods`, in steps.

    Args:
        input_size: I >= 1.
        hidden_size: H >= the number of periods. The modules are equal in size, the fastest one
            unit larger where H cannot be shared out evenly.
        periods: in ascending order, each once, from 1; their least common multiple <= 2048.

    Cost: that of the plain network. The paper's saving, leaving out the rows of modules that rest,
    is not made: the products of a batch are whole.

    Against the paper: b is the sum of two vectors, for each module one; the paper's readout is a
    head of its own here.

    Reference: Koutník, Greff, Gomez & Schmidhuber, "A clockwork RNN", ICML 2014.
    https://arxiv.org/abs/1402.3511

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(ClockworkCell(3, 4, periods=(1, 4)), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), state.t[0].item()
    ((5, 2, 4), (2, 4), 1.0)
    """

    gates = ("a",)
    not_activations = ("t",)
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    unit_periods: Tensor
    used: Tensor
    cycle: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, *, periods: Sequence[int] = (1, 2, 4, 8)
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.periods = _checked(periods)
        count = len(self.periods)
        if hidden_size < count:
            raise ValueError(
                f"ClockworkCell: {count} periods need as many units, got hidden_size="
                f"{hidden_size}: raise it or leave periods out"
            )
        gated_parameters(self, True)
        sizes = [hidden_size // count + (n < hidden_size % count) for n in range(count)]
        each = torch.tensor(self.periods).repeat_interleave(torch.tensor(sizes))  # (H)
        # They follow from the arguments: no part of what is saved.
        dtype = torch.get_default_dtype()
        used = each.unsqueeze(1) <= each  # row i reads the columns at least as slow
        cycle = torch.tensor([math.lcm(*self.periods)])
        for name, value in (("unit_periods", each), ("used", used), ("cycle", cycle)):
            self.register_buffer(name, value.to(dtype), persistent=False)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)  # -> (T, B, H)

    def prepare(self) -> tuple[Stage[ClockworkState], ...]:
        weight = self.weight_hh * self.used  # (H, H)
        return (Stage(Dense(weight), _update, params=(self.unit_periods, self.cycle)),)

    def initial_state(self, batch_size: int, like: Tensor) -> ClockworkState:
        return ClockworkState(
            like.new_zeros(batch_size, self.hidden_size), like.new_zeros(batch_size, 1)
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, periods={self.periods}"


def _checked(periods: Sequence[int]) -> tuple[int, ...]:
    whole = all(isinstance(p, int) and not isinstance(p, bool) and p >= 1 for p in periods)
    if not periods or not whole or sorted({*periods}) != list(periods):
        raise ValueError(
            "ClockworkCell: periods must be distinct whole numbers >= 1 in ascending order, such "
            f"as [1, 2, 4], got {list(periods)}"
        )
    if math.lcm(*periods) > MOST:
        raise ValueError(
            f"ClockworkCell: the least common multiple of periods must be at most {MOST}, got "
            f"{math.lcm(*periods)} for {list(periods)}: take multiples of one another"
        )
    return tuple(periods)
