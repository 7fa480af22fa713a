"""Any cell with more lags: recurrent connections from further back than the last step."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Dense
from seqmodels.cells.past import Lagged

State = Any  # the inner cell's fields and then `past`; a type for each inner one, see `_kind`
MOST = 4096


@cache
def _kind(inner: Hashable) -> Any:
    """The inner cell's fields, then the outputs of the steps before the last one."""
    kind: Any = inner
    return namedtuple(f"Delayed{kind.__name__}", (*kind._fields, "past"))


def _first(
    update: Callable[..., Any], inner: Any,
    gates_x: Tensor, gates_h: Tensor, state: State, *params: Tensor,
) -> State:  # fmt: skip
    """The inner cell's update on its own fields; the past outputs move on by one step."""
    past = state.past
    width = past.shape[-1]
    if width > 0:  # an engine that holds them itself hands in none
        past = torch.cat((state[0], past), dim=-1)[..., :width]
    return type(state)(*update(gates_x, gates_h, inner(*state[:-1]), *params), past)


def _further(
    update: Callable[..., Any], inner: Any,
    gates_x: Tensor, gates_h: Tensor, state: State, *params: Tensor,
) -> State:  # fmt: skip
    return type(state)(*update(gates_x, gates_h, inner(*state[:-1]), *params), state.past)


class Delay(Cell[State]):
    """A cell whose recurrent map reads outputs of several past steps.

        W h_{t-1}    becomes    W h_{t-d_1} + Σ_{k>1} W_k h_{t-d_k}

    Everything else is the inner cell's: its gates, memory and biases. Each unit gets shorter paths
    to the past, so that gradients travel d_k steps at once. Around the plain recurrent network it
    is a NARX network; with lags=(1,) it is the cell itself.

    Symbols:
        d_1 < d_2 < … (steps): the lags. W (G, H): the inner cell's own map: dense, diagonal or in
        blocks; of its first stage, if it has several.
        W_k (G, H): `weight_hh_d`, with the lag in place of d, for each further lag d; dense.
        Outputs from before the first step are zero. The state holds the inner cell's fields, h
        first, and then `past` (B, (d_K - 1)·H): the outputs of 2, 3, … d_K steps ago.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        cell: called as cell(input_size, hidden_size), gives the inner cell: one whose first stage
            has a recurrent map of h.
        lags: in ascending order, each once, from 1 to 4096 steps. The smallest need not be 1 where
            that map reads h alone.

    Cost: the product is K times as large for K lags. The engines read past outputs where they lie,
    whatever the largest lag; a call copies d_K of them at its beginning and its end, for the state.
    Under recurrent dropout, or a mask with gaps, every step moves them.

    Raises:
        ValueError: lags out of range or order, or a cell of another form.

    References: Lin, Horne, Tiňo & Giles, "Learning long-term dependencies in NARX recurrent neural
    networks", IEEE Transactions on Neural Networks 7 (1996), https://doi.org/10.1109/72.548162;
    with gated cells: DiPietro et al., "Analyzing and exploiting NARX recurrent neural networks for
    long-term dependencies", 2017, https://arxiv.org/abs/1702.07805.

    >>> import torch
    >>> from seqmodels.cells import RNNCell
    >>> from seqmodels.scan import scan
    >>> y, state = scan(Delay(3, 4, cell=RNNCell, lags=(1, 3)), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), tuple(state.past.shape)
    ((5, 2, 4), (2, 4), (2, 8))
    """

    past_apart = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        cell: Callable[[int, int], Cell[Any]],
        lags: Sequence[int] = (1, 2, 4, 8),
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.lags = _checked(lags)
        self.cell = cell(input_size, hidden_size)
        self.output_size = self.cell.output_size
        self.gates = self.cell.gates
        self.memory_gate, self.write_gate = self.cell.memory_gate, self.cell.write_gate
        self.only_eager = self.cell.only_eager
        self.not_activations = (*self.cell.not_activations, "past")
        with torch.no_grad():
            rows = _matrix(self.cell, self.cell.prepare()[0], self.lags).shape[0]
        like = self.cell.like()
        self._inner: Any = type(self.cell.initial_state(1, like))
        self._kind = _kind(cast(Hashable, self._inner))
        for lag in self.lags[1:]:
            weight = nn.Parameter(like.new_empty(rows, self.output_size))
            self.register_parameter(f"weight_hh_{lag}", weight)
        self.reset_parameters()

    @property
    def weight_ih(self) -> Tensor:
        """The inner cell's."""
        return cast(Tensor, self.cell.weight_ih)

    @property
    def weight_hh(self) -> Tensor:
        """The inner cell's: of the smallest lag."""
        return cast(Tensor, self.cell.weight_hh)

    @property
    def bias_ih(self) -> Tensor | None:
        """The inner cell's."""
        return cast("Tensor | None", self.cell.bias_ih)

    @property
    def bias_hh(self) -> Tensor | None:
        """The inner cell's."""
        return cast("Tensor | None", self.cell.bias_hh)

    def project(self, x: Tensor) -> Tensor:
        return self.cell.project(x)  # (T, B, I) -> (T, B, G)

    def prepare(self) -> tuple[Stage[State], ...]:
        first, *rest = self.cell.prepare()
        further = [cast(Tensor, getattr(self, f"weight_hh_{lag}")) for lag in self.lags[1:]]
        own = _matrix(self.cell, first, self.lags)  # (G, fields read)
        weight = torch.cat((own, *further), dim=1)  # (G, fields read + …)
        operator = Lagged(
            weight,
            getattr(first.operator, "bias", None),
            fields=own.shape[1],
            own=own.shape[1] if self.lags[0] == 1 else 0,
            units=self.output_size,
            lags=tuple(lag for lag in self.lags if lag > 1),
        )
        stage = replace(
            first,
            operator=operator if self.lags[-1] > 1 else Dense(weight, operator.bias),
            update=partial(_first, first.update, self._inner),
            reads=(*first.reads, "past") if self.lags[-1] > 1 else first.reads,
        )
        later = (replace(s, update=partial(_further, s.update, self._inner)) for s in rest)
        return (stage, *later)

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        state = self.cell.initial_state(batch_size, like)
        past = state[0].new_zeros(batch_size, (self.lags[-1] - 1) * self.output_size)
        return self._kind(*state, past)

    def reset_parameters(self) -> None:
        """The inner cell's own; the further lags' as the recurrent weights of torch.nn."""
        super().reset_parameters()
        self.cell.reset_parameters()

    def extra_repr(self) -> str:
        return f"lags={self.lags}"


def _checked(lags: Sequence[int]) -> tuple[int, ...]:
    whole = all(isinstance(lag, int) and not isinstance(lag, bool) for lag in lags)
    if not lags or not whole or lags[0] < 1 or lags[-1] > MOST or sorted({*lags}) != list(lags):
        raise ValueError(
            f"Delay: lags must be distinct steps from 1 to {MOST} in ascending order, such as "
            f"[1, 2, 4], got {list(lags)}"
        )
    return tuple(lags)


def _matrix(cell: Cell[Any], stage: Stage[Any], lags: tuple[int, ...]) -> Tensor:
    """The recurrent map of a cell that can have more lags, as one matrix (G, fields read)."""
    operator, name = stage.operator, type(cell).__name__
    reason = None
    if not operator.weights:
        reason = "has no recurrent map: give its layer a dilation"
    elif stage.reads[0] != "h" or "past" in stage.reads:
        reason = f"reads {', '.join(stage.reads)} instead of h"
    elif stage.reads != ("h",) and lags[0] > 1:
        reason = f"reads {', '.join(stage.reads)} of the last step: begin lags with 1"
    if reason is not None:
        raise ValueError(f"Delay needs a cell with a recurrent map of h, and {name} {reason}")
    if type(operator) is Dense:
        return operator.weight
    like = operator.weights[0]
    eye = torch.eye(cell.output_size, dtype=like.dtype, device=like.device)
    return operator.apply(eye).t()  # of maps without a bias
