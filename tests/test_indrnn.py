"""What the independently recurrent network promises beside its equation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from cell_cases import (
    HIDDEN,
    INPUT,
    Case,
    able,
    assert_same,
    gradients,
    random_state,
    run,
    sequence,
)
from seqmodels.cells import IndRNNCell, RNNCell, RNNState
from seqmodels.scan import scan
from twins_indrnn import indrnn_twin

ENGINES = able(Case("indrnn", IndRNNCell, {"bound": 0.5}))


def outside(bound: float | None) -> IndRNNCell:
    """Recurrent weights on both sides of the bound."""
    torch.manual_seed(0)
    cell = IndRNNCell(INPUT, HIDDEN, bound=bound, nonlinearity="tanh").double()
    with torch.no_grad():
        cell.weight_hh.copy_(torch.linspace(-2.0, 2.0, HIDDEN))
    return cell


@pytest.mark.parametrize("bound", [None, 0.5, 1.5])
def test_weights_outside_the_bound_act_as_if_on_it(bound: float | None) -> None:
    cell, x = outside(bound), sequence()
    state = random_state(cell)
    y, _ = scan(cell, x, state)
    h = state.h.numpy()
    for t in range(len(x)):
        h, _ = indrnn_twin(cell, x[t].numpy(), h)
        np.testing.assert_allclose(y[t].detach().numpy(), h, rtol=1e-12, atol=1e-14)
    assert cell.weight_hh.abs().max() == 2.0  # the parameter is left as it is


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "eager"])
def test_engines_agree_on_weights_outside_the_bound(engine: str) -> None:
    cell = outside(0.5)
    state = random_state(cell)
    found = gradients(lambda c, x, s: run(engine, c, x, s), cell, sequence(), state)
    assert_same(found, gradients(scan, cell, sequence(), state))


def test_a_weight_outside_the_bound_moves_only_back() -> None:
    cell = IndRNNCell(1, 4, bound=1.0).double()
    with torch.no_grad():
        cell.weight_hh.copy_(torch.tensor([1.2, 1.2, -1.2, -1.2]))
    (stage,) = cell.prepare()
    (weight,) = stage.operator.weights
    assert weight.tolist() == [1.0, 1.0, -1.0, -1.0]
    grad = torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64)  # a step goes against it
    (found,) = torch.autograd.grad(weight, cell.weight_hh, grad)
    assert found.tolist() == [0.0, 1.0, -1.0, 0.0]


def test_a_bound_for_a_length_keeps_the_gradient_at_most_two() -> None:
    length = 50
    cell = IndRNNCell(1, 1, bound=2 ** (1 / length), bias=False).double()
    with torch.no_grad():
        cell.weight_hh.fill_(3.0)
    h = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)  # the unit is open
    y, _ = scan(cell, torch.zeros(length, 1, 1, dtype=torch.float64), RNNState(h))
    (slope,) = torch.autograd.grad(y[-1].sum(), h)
    assert slope.item() == pytest.approx(2.0)


@pytest.mark.parametrize(("bound", "most"), [(None, 1.0), (0.3, 0.3), (1.0, 1.0), (2.0, 1.0)])
def test_recurrent_weights_start_between_zero_and_the_bound(bound: Any, most: float) -> None:
    weight = IndRNNCell(3, 2000, bound=bound).weight_hh.detach()
    assert weight.shape == (2000,) and 0 <= weight.min() < 0.01 * most
    assert 0.99 * most < weight.max() <= most
    torch.testing.assert_close(weight.mean(), torch.tensor(most / 2), rtol=0.05, atol=0)


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
def test_it_is_the_plain_network_with_a_diagonal_matrix(nonlinearity: Any) -> None:
    cell = IndRNNCell(INPUT, HIDDEN, nonlinearity=nonlinearity).double()
    plain = RNNCell(INPUT, HIDDEN, nonlinearity=nonlinearity).double()
    plain.load_state_dict({**cell.state_dict(), "weight_hh": torch.diag(cell.weight_hh.detach())})
    torch.testing.assert_close(scan(cell, sequence())[0], scan(plain, sequence())[0])


@pytest.mark.parametrize("bound", [0, 0.0, -1.0, math.inf, math.nan, True, "1"])
def test_a_bound_out_of_range_is_refused(bound: Any) -> None:
    with pytest.raises(ValueError, match=f"0 < bound < ∞, or None .*, got bound={bound!r}"):
        IndRNNCell(3, 4, bound=bound)


def test_an_unknown_nonlinearity_is_refused() -> None:
    with pytest.raises(ValueError, match="one of relu, tanh, got 'sigmoid'"):
        IndRNNCell(3, 4, nonlinearity="sigmoid")  # type: ignore[arg-type]
