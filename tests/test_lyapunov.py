"""Lyapunov exponents against systems whose exponents are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cell_cases import Case, each_cell, random_state, sequence
from seqmodels.analysis.lyapunov import driven_exponents, flow_exponents, map_exponents
from seqmodels.analysis.steps import flatten, step_jacobian
from seqmodels.analysis.systems import Autonomous, lorenz
from seqmodels.cells import RNNCell
from seqmodels.scan import scan


def linear(matrix: Tensor) -> RNNCell:
    """A network that is linear where its states are positive: relu of a positive matrix."""
    cell = RNNCell(1, len(matrix), nonlinearity="relu", bias=False).double()
    with torch.no_grad():
        cell.weight_hh.copy_(matrix)
    return cell


@pytest.mark.parametrize("every", [1, 5])
def test_a_linear_network_has_the_logarithms_of_its_eigenvalues(every: int) -> None:
    torch.manual_seed(0)
    matrix = 0.3 * torch.rand(5, 5).double() + 0.05
    expected = torch.linalg.eigvals(matrix).abs().log().sort(descending=True).values
    f = Autonomous(linear(matrix))
    found = map_exponents(f, torch.rand(3, 5).double() + 0.5, 400, warm_up=100, every=every)
    # Its determinant is exact at every length; the order of directions settles as in a power
    # iteration, and pairs of equal modulus share their mean.
    torch.testing.assert_close(found.values.sum(), expected.sum(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found.values[0], expected[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(found.values, expected, rtol=0.02, atol=0.02)
    assert found.per_start.shape == (3, 5) and found.duration == 400
    few = map_exponents(f, torch.rand(1, 5).double() + 0.5, 400, count=2)
    torch.testing.assert_close(few.values, found.values[:2], rtol=1e-3, atol=1e-3)
    assert few.error.isnan().all()


def test_henon() -> None:
    """a = 1.4, b = 0.3: 0.419 and −1.623 (Sprott 2003); their sum is log b exactly."""

    def henon(s: Tensor) -> Tensor:
        x, y = s.unbind(-1)
        return torch.stack((1 - 1.4 * x**2 + y, 0.3 * x), -1)

    start = 0.1 * torch.rand(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = map_exponents(henon, start, 600)
    torch.testing.assert_close(
        found.values, torch.tensor([0.419, -1.623]).double(), rtol=0.01, atol=0
    )
    assert float(found.values.sum()) == pytest.approx(math.log(0.3), rel=1e-12)
    assert found.dimension == pytest.approx(1.258, abs=0.005)
    assert float(found.error[0]) < 0.005


@pytest.mark.slow
def test_lorenz() -> None:
    """The published 0.906, 0, −14.57; the sum is −(σ + 1 + β) whatever the path."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(512, 3, dtype=torch.float64, generator=generator)
    start += torch.tensor([0.0, 0.0, 25.0])
    found = flow_exponents(lorenz(), start, time=8.0, dt=0.02, warm_up=6.0, every=5)
    first, second, third = found.values.tolist()
    assert first == pytest.approx(0.906, rel=0.02)
    assert abs(second) < 0.02
    assert third == pytest.approx(-14.57, rel=0.02)
    assert sum((first, second, third)) == pytest.approx(-(10 + 1 + 8 / 3), rel=1e-3)
    assert found.dimension == pytest.approx(2.062, abs=0.01)
    assert found.duration == pytest.approx(8.0)
    assert found.as_dict()["starts"] == 512


@each_cell
def test_a_driven_cell_against_the_product_of_its_jacobians(case: Case) -> None:
    """Over few steps the log-determinant is that of the product; the largest by its norm."""
    cell, x = case.make(), sequence(steps=3, batch=1)
    state = random_state(cell, batch=1)
    found = driven_exponents(cell, x, state)
    with torch.no_grad():
        product = torch.eye(found.values.numel(), dtype=torch.float64)
        before = state
        for t in range(3):
            gates = cell.project(x)[t]
            product = step_jacobian(cell, gates, flatten(before))[0] @ product
            before = scan(cell, x[t : t + 1], before)[1]
    expected = torch.linalg.slogdet(product).logabsdet / 3
    if float(found.values.min()) > -10:
        torch.testing.assert_close(found.values.sum(), expected, rtol=1e-6, atol=1e-6)
    else:  # a direction is forgotten: −∞, or what rounding leaves of it
        assert float(expected) < -10
    assert found.values.equal(found.values.sort(descending=True).values)


def test_a_strong_signal_quiets_a_chaotic_network() -> None:
    """Chaos on its own above gain 1 (Sompolinsky et al. 1988); a strong input suppresses it."""
    torch.manual_seed(0)
    cell = RNNCell(1, 60, bias=False).double()
    with torch.no_grad():
        cell.weight_hh.normal_(0, 2.0 / math.sqrt(60))
        cell.weight_ih.normal_(0, 1.0)
    alone = map_exponents(Autonomous(cell), 0.1 * torch.randn(2, 60).double(), 200, count=1)
    noise = torch.randn(300, 2, 1).double()
    weak = driven_exponents(cell, 0.0 * noise, count=1, state=None, warm_up=100)
    strong = driven_exponents(cell, 10 * noise, count=1, warm_up=100)
    assert float(alone.values) > 0.05
    assert float(weak.values) > float(strong.values) and float(strong.values) < 0


def test_what_cannot_be_is_refused() -> None:
    f = Autonomous(linear(torch.eye(2).double()))
    start = torch.ones(1, 2).double()
    with pytest.raises(ValueError, match="1 to 2 exponents, got count=3"):
        map_exponents(f, start, 10, count=3)
    with pytest.raises(ValueError, match="at least one step after the warm-up"):
        map_exponents(f, start, 0)
    with pytest.raises(ValueError, match="dt > 0"):
        flow_exponents(lorenz(), torch.ones(1, 3), 1.0, 0.0)
    with pytest.raises(ValueError, match="diverges"):
        map_exponents(lambda s: s**2, 3 * start, 100)
    cell = linear(torch.eye(2).double())
    with pytest.raises(ValueError, match="at least one step after the warm-up"):
        driven_exponents(cell, torch.zeros(5, 1, 1).double(), warm_up=5)
