"""All measures of a model's layers from one call, which leaves the model as it was."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cell_cases import Case, each_cell, sequence
from seqmodels.analysis.courses import courses
from seqmodels.analysis.describe import NotFiniteError, describe_layers
from seqmodels.analysis.gradients import norms_by_lag
from seqmodels.analysis.steps import Step, flatten
from seqmodels.cells import Dense, LSTMCell, RNNCell, RNNState, Stage
from seqmodels.layers import Bidirectional, Recurrent, Residual, Stacked


def answer(outputs: Tensor) -> Tensor:
    return outputs.square().sum()


@each_cell
def test_the_course_of_a_layer_is_its_steps(case: Case) -> None:
    cell, x = case.make(), sequence().transpose(0, 1)
    lengths = torch.tensor([7, 3, 5, 1])
    (course,) = courses(Recurrent(cell), x, lengths).values()
    rows, before = course.rows()
    assert len(rows) == int(lengths.sum())
    try:
        own = Step(cell)
    except ValueError:
        return  # a clock in the state
    after = own.state(own(rows, flatten(before)))
    torch.testing.assert_close(after[0], course.outputs[course.keep], rtol=1e-10, atol=1e-12)


def test_a_reversed_layer_is_followed_as_it_runs() -> None:
    torch.manual_seed(0)
    cell, x = RNNCell(3, 4).double(), sequence().transpose(0, 1)
    lengths = torch.tensor([7, 3, 5, 1])
    (course,) = courses(Recurrent(cell, reverse=True), x, lengths).values()
    rows, before = course.rows()
    expected = torch.tanh(rows + before.h @ cell.weight_hh.T).detach()
    torch.testing.assert_close(course.outputs[course.keep], expected)
    torch.testing.assert_close(course.before.h[0], torch.zeros(4, 4).double())


def test_a_model_is_measured_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    layer = partial(Recurrent, zoneout=0.1)
    stack = Stacked(3, cell=LSTMCell, hidden_size=6, num_layers=2, dropout=0.5, layer=layer)
    stack.train()
    frozen = stack.layers[0].eval()
    x = torch.randn(4, 12, 3)
    before = torch.get_rng_state()
    found = describe_layers(stack, x, loss=answer, spectra=True, lags=(1, 5, 12, 99), points=3)
    assert torch.get_rng_state().equal(before)
    assert stack.training and not frozen.training and stack.layers[1].training
    assert all(p.grad is None for p in stack.parameters())
    layers = [m for m in stack.modules() if isinstance(m, Recurrent)]
    assert all(m.engine == "auto" and m.engine_used is None for m in layers)
    stack.eval()
    norms = norms_by_lag(stack, x, answer)
    for name, report in found.items():
        assert set(report.gates) == set("fgio") and len(report.time_constants) == 5
        assert report.norm_by_lag == norms[name].tolist() and len(report.norm_by_lag) == 12
        assert report.spectrum is not None and report.spectrum.lags == [1, 5, 12]
        assert len(report.spectrum.eigenvalues) == 3 * 12 and report.notes == []
        assert [len(v) for v in report.spectrum.log_singular_values] == [12] * 3
        assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["cell"] == "LSTMCell"


def test_directions_lengths_and_wide_states_are_said_and_not_failed_upon() -> None:
    torch.manual_seed(0)
    model = Residual(Bidirectional(lambda: RNNCell(3, 4)), 3)
    found = describe_layers(model, torch.randn(2, 5, 3), loss=answer, spectra=True, most_units=3)
    assert [report.reverse for report in found.values()] == [False, True]
    ahead, back = found.values()
    assert len(ahead.norm_by_lag) == 5 and back.norm_by_lag == []
    assert ahead.spectrum is None and "more than most_units = 3" in ahead.notes[0]
    only = describe_layers(Recurrent(RNNCell(3, 4), recompute=2), torch.randn(2, 5, 3), loss=answer)
    assert "no gradient by lag" in next(iter(only.values())).notes[0]
    plain = describe_layers(Recurrent(RNNCell(3, 4, nonlinearity="relu")), torch.randn(2, 5, 3))
    assert [report.gates for report in plain.values()] == [{}]
    assert next(iter(plain.values())).notes == ["no gates: none was found in the update of RNNCell"]
    with pytest.raises(ValueError, match="no recurrent layer"):
        describe_layers(nn.Linear(3, 3), torch.randn(2, 5, 3))


@pytest.mark.parametrize("cell", [LSTMCell, partial(RNNCell, nonlinearity="relu")])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_states_that_are_no_numbers_are_refused(bad: float, cell: Any) -> None:
    layer = Recurrent(cell(3, 4))
    with torch.no_grad():
        layer.cell.weight_hh[0] = bad
    with pytest.raises(NotFiniteError, match="hold NaN or infinite numbers"):
        describe_layers(layer, torch.ones(2, 9, 3), loss=answer, spectra=True)


class Doubling(RNNCell):
    """h_t = 2 (W h_{t-1} + U x_t)"""

    def prepare(self) -> tuple[Stage[RNNState], ...]:
        return (Stage(Dense(self.weight_hh), lambda x, h, state: RNNState(2 * (x + h))),)


def test_a_jacobian_that_overflows_is_noted() -> None:
    layer = Recurrent(Doubling(3, 4))
    with torch.no_grad():
        layer.cell.weight_hh.fill_(3e38)
    (report,) = describe_layers(layer, torch.ones(2, 1, 3), spectra=True, lags=(1,)).values()
    assert report.spectrum is None
    assert report.notes[-1] == "no Jacobian: it is not finite"
    assert report.as_dict()["states"]["units"] == 4
