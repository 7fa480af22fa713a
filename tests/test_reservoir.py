"""What a reservoir promises: its weights are as asked for, and nobody trains them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cell_cases import Case, able, sequence
from seqmodels.analysis.units import spectral_radii, time_constants
from seqmodels.cells import ReservoirCell
from seqmodels.cells.reservoir_weights import spectral_radius
from seqmodels.engines import ENGINES
from seqmodels.layers import Bidirectional, Stacked
from seqmodels.scan import scan


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def radius(cell: ReservoirCell) -> float:
    return float(torch.linalg.eigvals(cell.weight_hh.double()).abs().max())


@pytest.mark.parametrize("distribution", ["uniform", "normal", "sign"])
@pytest.mark.parametrize(("units", "density"), [(60, 1.0), (60, 0.1), (500, 0.02)])
def test_a_random_matrix_has_its_radius_and_density(
    units: int, density: float, distribution: Any
) -> None:
    cell = ReservoirCell(1, units, density=density, distribution=distribution, spectral_radius=1.25)
    assert radius(cell) == pytest.approx(1.25, rel=1e-5)
    share = float((cell.weight_hh != 0).double().mean())
    assert share == pytest.approx(density, rel=0.2)
    if distribution == "sign":
        assert len(cell.weight_hh.abs().unique()) == (1 if density == 1 else 2)


def test_the_sparse_eigensolver_agrees_with_the_dense_one() -> None:
    matrix = torch.randn(450, 450) * (torch.rand(450, 450) < 0.05)
    dense = float(torch.linalg.eigvals(matrix.double()).abs().max())
    assert spectral_radius(matrix) == pytest.approx(dense, rel=1e-8)


def test_structured_reservoirs() -> None:
    rotation = ReservoirCell(1, 20, topology="orthogonal", spectral_radius=0.9).weight_hh
    torch.testing.assert_close(rotation @ rotation.T, 0.81 * torch.eye(20))
    ring = ReservoirCell(1, 20, topology="ring", spectral_radius=0.9)
    assert radius(ring) == pytest.approx(0.9, rel=1e-5)
    assert int((ring.weight_hh != 0).sum()) == 20
    line = ReservoirCell(
        1, 5, topology="delay_line", spectral_radius=1.0, nonlinearity="identity"
    ).double()
    y, _ = scan(line, torch.eye(9)[:, :1].unsqueeze(1).double())  # an impulse
    assert not y[5:].any()  # it holds its last five inputs alone


@pytest.mark.parametrize("kind", ["uniform", "normal", "sign"])
def test_inputs_are_scaled_one_by_one(kind: Any) -> None:
    cell = ReservoirCell(
        2, 4000, topology="ring", input_scaling=[0.5, 2.0], input_distribution=kind,
        input_density=0.5, bias_scaling=0.1,
    )  # fmt: skip
    assert float((cell.weight_ih != 0).double().mean()) == pytest.approx(0.5, abs=0.03)
    greatest = {"uniform": (0.5, 2.0), "sign": (0.5, 2.0)}
    if kind in greatest:
        found = cell.weight_ih.abs().amax(0)
        torch.testing.assert_close(found, torch.tensor(greatest[kind]), rtol=0.01, atol=0)
    else:
        spread = [float(w[w != 0].std()) for w in cell.weight_ih.unbind(1)]
        assert spread == pytest.approx([0.5, 2.0], rel=0.06)
    assert cell.bias is not None and cell.bias.abs().max() < 0.5


def test_nothing_of_it_is_trained_and_all_of_it_is_saved() -> None:
    cell = ReservoirCell(2, 30, bias_scaling=0.2)
    assert not list(cell.parameters())
    other = ReservoirCell(2, 30, bias_scaling=0.2)
    assert not torch.equal(other.weight_hh, cell.weight_hh)
    other.load_state_dict(cell.state_dict())
    x = torch.randn(5, 3, 2, requires_grad=True)
    y, _ = scan(other, x)
    assert torch.equal(y, scan(cell, x)[0])
    y.sum().backward()  # what lies below is trained through it
    assert x.grad is not None and x.grad.abs().min() > 0


def test_the_same_seed_draws_the_same_weights() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(ReservoirCell(1, 410, density=0.05).weight_hh)
    assert torch.equal(*weights)


def test_noise_is_of_training_alone() -> None:
    cell = ReservoirCell(1, 50, noise=0.1)
    x = torch.zeros(200, 1, 1)
    assert not scan(cell.eval(), x)[0].any()
    noisy = scan(cell.train(), x)[0]
    assert 0.05 < float(noisy.std()) < 0.3


def test_two_starts_meet_below_radius_one_and_not_far_above() -> None:
    x = 0.1 * torch.randn(300, 1, 1).double()

    def apart(scale: float) -> float:
        torch.manual_seed(1)
        cell = ReservoirCell(1, 80, spectral_radius=scale).double()
        starts = torch.stack([torch.zeros(80), torch.rand(80)]).double()
        kind: Any = type(cell.initial_state(2, x))
        y, _ = scan(cell, x.expand(-1, 2, -1), kind(starts))
        return float((y[-1, 0] - y[-1, 1]).norm())

    assert apart(0.9) < 1e-6 < 1e-2 < apart(3.0)


def test_the_leak_is_seen_by_what_describes_units() -> None:
    cell = ReservoirCell(1, 12, leak=0.25, density=0.5)
    constants = time_constants(cell, {})
    assert constants is not None and constants.tolist() == [4.0] * 12
    radii = spectral_radii(cell)
    assert radii["a"] == pytest.approx(0.9, rel=1e-4) and 0.75 < radii["effective"] < 1.0


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3, 21])
def test_a_sparse_product_is_the_dense_one(batch: int, kind: torch.dtype) -> None:
    """From 4,096 entries on the printed kernels take those alone that are not zero."""
    cell = ReservoirCell(2, 70, density=0.1, spectral_radius=0.95).to(kind)
    if "generated" not in able(Case("reservoir", ReservoirCell, {"density": 0.6})):
        pytest.skip("no compiler")
    x = sequence(9, batch, 2).to(kind)
    found: list[Any] = []
    expected: list[Any] = []
    for engine, results in ((ENGINES["generated"], found), (ENGINES["eager"], expected)):
        given = x.clone().requires_grad_()
        y, last = engine(cell, given)
        (y.square().sum() + last.h.sum()).backward()
        results += [y.detach(), last.h.detach(), given.grad]
    limit = 1e-12 if kind == torch.float64 else 1e-4
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=limit, atol=limit / 10)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"density": 0.0}, "0 < density <= 1, got 0.0"),
        ({"leak": 1.5}, "0 < leak <= 1"),
        ({"spectral_radius": -1.0}, "0 <= spectral_radius"),
        ({"spectral_radius": math.inf}, "0 <= spectral_radius < ∞"),
        ({"input_scaling": [1.0, 2.0, 3.0]}, "one for each of the 2 inputs"),
        ({"topology": "small_world"}, "topology must be one of random, orthogonal, ring"),
        ({"density": 0.001}, "form no cycle; raise the density"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ReservoirCell(2, 10, **arguments)


def test_signs_that_cancel_are_refused() -> None:
    """Two units whose signs make a nilpotent matrix, [[1, −1], [1, −1]] or the like."""
    refused = 0
    for seed in range(40):
        torch.manual_seed(seed)
        try:
            cell = ReservoirCell(1, 2, density=1.0, distribution="sign")
        except ValueError as error:
            assert "form no cycle that does not cancel" in str(error)
            refused += 1
        else:
            assert cell.weight_hh.abs().max() < 1
    assert 0 < refused < 20


def test_reservoirs_stack_and_read_lengths_both_ways() -> None:
    both = Bidirectional(lambda: ReservoirCell(2, 20))
    y, _ = both(torch.randn(3, 6, 2), lengths=torch.tensor([6, 4, 1]))
    assert y.shape == (3, 6, 40) and not y[1, 4:].any()
    deep = Stacked(2, cell=ReservoirCell, hidden_size=[20, 30], num_layers=2)
    assert deep(torch.randn(3, 6, 2))[0].shape == (3, 6, 30)
