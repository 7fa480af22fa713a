"""More lags: what the state holds, which outputs are read, and what cells may have them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from cell_cases import HIDDEN, INPUT, gradients, random_state, run, sequence
from seqmodels.cells import Cell, Delay, Dense, Diagonal, GRUCell, LSTMCell, RNNCell, Stage
from seqmodels.cells.rnn import RNNState
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

KINDS = [RNNCell, LSTMCell, GRUCell]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
each_engine = pytest.mark.parametrize("engine", ["eager", "compiled"])


def delayed(kind: Any, *lags: int) -> Delay:
    torch.manual_seed(0)
    return Delay(INPUT, HIDDEN, cell=kind, lags=lags).double()


@each_kind
@each_engine
def test_the_lag_of_one_step_is_the_cell_itself(kind: Any, engine: str) -> None:
    cell, state = delayed(kind, 1), random_state(delayed(kind, 1))
    inner: Any = type(random_state(cell.cell))
    ours = gradients(partial(run, engine), cell, sequence(), state)
    theirs = gradients(partial(run, engine), cell.cell, sequence(), inner(*state))
    assert [name.replace("cell.", "") for name in ours] == list(theirs)
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        assert torch.equal(a, b)


@each_kind
@each_engine
def test_further_lags_without_weight_change_nothing(kind: Any, engine: str) -> None:
    cell = delayed(kind, 1, 2, 5)
    nn.init.zeros_(cell.weight_hh_2)
    nn.init.zeros_(cell.weight_hh_5)
    y, _ = run(engine, cell, sequence())
    expected, _ = scan(cell.cell, sequence())
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)


@each_kind
def test_the_state_remembers_the_outputs_and_nothing_is_copied(kind: Any) -> None:
    cell = delayed(kind, 1, 4)
    y, last = scan(cell, sequence())
    assert torch.equal(last.h, y[-1])
    for lag in (2, 3, 4):
        assert torch.equal(getattr(last, f"h_{lag}"), y[-lag])
    state = cell.initial_state(2, y)
    (stage,) = cell.prepare()
    gates = torch.zeros(2, len(cell.gates) * HIDDEN, dtype=y.dtype)
    new = stage.update(gates, gates, state)
    assert new.h_2 is state.h and new.h_3 is state.h_2


@each_engine
def test_the_outputs_of_the_lags_are_read_and_no_others(engine: str) -> None:
    cell = delayed(RNNCell, 2, 3)
    state = random_state(cell)
    first, _ = run(engine, cell, sequence(1), state)
    for field, read in {"h": False, "h_2": True, "h_3": True}.items():
        other = state._replace(**{field: getattr(state, field) + 1})
        assert torch.equal(run(engine, cell, sequence(1), other)[0], first) != read


def test_a_gradient_takes_the_short_way() -> None:
    """Through a lag of 4 the first input reaches the fifth output although W is zero."""
    cell, x = delayed(RNNCell, 1, 4), sequence(6).requires_grad_()
    nn.init.zeros_(cell.weight_hh)
    for t, reached in enumerate([True, False, False, False, True, False]):
        (grad,) = torch.autograd.grad(scan(cell, x)[0][t].sum(), x)
        assert bool(grad[0].any()) == reached


class TwoStages(RNNCell):
    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return super().prepare() * 2


class Elementwise(RNNCell):
    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return (Stage(Diagonal(self.weight_hh[0]), super().prepare()[0].update),)


class ReadsTwice(RNNCell):
    def prepare(self) -> tuple[Stage[RNNState], ...]:
        weight = torch.cat((self.weight_hh, self.weight_hh), 1)
        return (Stage(Dense(weight), super().prepare()[0].update, ("h", "h")),)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(TwoStages, "has 2 stages"), (Elementwise, "Diagonal map"), (ReadsTwice, "reads h, h")],
)
def test_cells_of_another_form_are_refused(kind: type[Cell[Any]], reason: str) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__} .*{reason}.*use another"):
        delayed(kind, 1, 2)


@pytest.mark.parametrize("lags", [(), (0, 1), (-1,), (2, 1), (1, 1), (1, 257), (1.0, 2), (True,)])
def test_lags_that_make_no_sense_are_refused(lags: Any) -> None:
    with pytest.raises(ValueError, match=r"lags must be distinct steps from 1 to 256"):
        delayed(RNNCell, *lags)


def test_a_state_of_other_lags_is_refused() -> None:
    with pytest.raises(ValueError, match="DelayedRNNState"):
        Recurrent(delayed(RNNCell, 1, 2))(
            sequence().transpose(0, 1), random_state(delayed(RNNCell, 1, 3))
        )
