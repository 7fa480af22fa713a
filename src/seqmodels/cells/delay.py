"""Any cell with more lags: recurrent connections from further back than the last step."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Dense

State = Any  # the inner cell's fields and then h_2 … h_D; a type for each pair, see `_kind`
MOST = 256


@cache
def _kind(inner: Any, depth: int) -> Any:
    """The inner cell's fields, then the outputs of 2 … depth steps ago."""
    fields = [*inner._fields, *(f"h_{lag}" for lag in range(2, depth + 1))]
    return namedtuple(f"Delayed{inner.__name__}", fields)


def _update(
    update: Callable[..., Any],
    inner: Any,
    count: int,
    kind: Any,
    gates_x: Tensor,
    gates_h: Tensor,
    state: State,
    *params: Tensor,
) -> State:
    """The inner cell's update on its own fields; the outputs move on by one step."""
    new = update(gates_x, gates_h, inner(*state[:count]), *params)
    if len(state) == count:
        return kind(*new)
    # What was the output one step ago is now that of two steps ago, and so on.
    return kind(*new, state[0], *state[count:-1])


class Delay(Cell[State]):
    """A cell whose recurrent map reads outputs of several past steps.

        W h_{t-1}    becomes    W h_{t-d_1} + Σ_{k>1} W_k h_{t-d_k}

    Everything else is the inner cell's: its gates, memory and biases. Each unit gets shorter paths
    to the past, so that gradients travel d_k steps at once. Around the plain recurrent network it
    is a NARX network; with lags=(1,) it is the cell itself.

    Symbols:
        d_1 < d_2 < … (steps): the lags. W (G, H): the inner cell's own `weight_hh`.
        W_k (G, H): `weight_hh_d`, with the lag in place of d, for each further lag d.
        Outputs from before the first step are zero. The state holds the inner cell's fields, h
        first, and then the outputs of 2 … d_K steps ago, h_2, h_3, ….

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        cell: called as cell(input_size, hidden_size), gives the inner cell: one stage, with a dense
            map of h alone (RNNCell, LSTMCell, GRUCell).
        lags: in ascending order, each once, from 1 to 256 steps. The smallest need not be 1.

    Cost: the product is K times as large for K lags, and the state D = d_K times as large; the
    reference loop copies none of it, the other engines move D fields a step.

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
    >>> tuple(y.shape), state._fields
    ((5, 2, 4), ('h', 'h_2', 'h_3'))
    """

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
        weight = _dense_map(self.cell).weight
        inner: Any = type(self.cell.initial_state(1, weight))
        self._inner = inner
        self._kind = _kind(inner, self.lags[-1])
        for lag in self.lags[1:]:
            self.register_parameter(f"weight_hh_{lag}", nn.Parameter(torch.empty_like(weight)))
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
        (stage,) = self.cell.prepare()
        own = cast(Dense, stage.operator)
        further = [cast(Tensor, getattr(self, f"weight_hh_{lag}")) for lag in self.lags[1:]]
        weight = torch.cat((own.weight, *further), dim=1) if further else own.weight  # (G, K·H)
        count = len(self._inner._fields)
        update = partial(_update, stage.update, self._inner, count, self._kind)
        reads = tuple("h" if lag == 1 else f"h_{lag}" for lag in self.lags)
        return (Stage(Dense(weight, own.bias), update, reads, stage.params),)

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        state = self.cell.initial_state(batch_size, like)
        past = torch.zeros_like(state[0])
        # One tensor for all: fields are never written to.
        return self._kind(*state, *[past] * (self.lags[-1] - 1))

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


def _dense_map(cell: Cell[Any]) -> Dense:
    """The recurrent map of a cell that can have more lags."""
    with torch.no_grad():
        stages = cell.prepare()
    name = type(cell).__name__
    reason = None
    if len(stages) != 1:
        reason = f"has {len(stages)} stages"
    elif not isinstance(stages[0].operator, Dense):
        reason = f"has a {type(stages[0].operator).__name__} map"
    elif stages[0].reads != ("h",):
        reason = f"reads {', '.join(stages[0].reads)}"
    if reason is not None:
        raise ValueError(
            f"Delay needs a cell of one stage with a dense map of h alone, and {name} {reason}: "
            "use another, such as RNNCell, LSTMCell or GRUCell"
        )
    return cast(Dense, stages[0].operator)
