"""Jacobians of the whole state over one step and over many."""

from __future__ import annotations

import pytest
import torch

from cell_cases import Case, each_cell, random_state, sequence
from seqmodels.analysis.jacobians import (
    eigenvalues,
    log_singular_values,
    product_spectra,
    step_jacobians,
)
from seqmodels.analysis.steps import flatten
from seqmodels.analysis.systems import Autonomous
from seqmodels.cells import PixelLSTMCell, RNNCell
from seqmodels.scan import scan


def test_singular_values_over_three_hundred_orders_of_magnitude() -> None:
    torch.manual_seed(0)
    scales = torch.tensor([10.0, 1.0, 1e-3, 1e-6]).double()
    # Orthogonal · diagonal · orthogonal', so that neighbours cancel: σ = scales^100 exactly.
    turns = [torch.linalg.qr(torch.randn(1, 4, 4).double())[0] for _ in range(101)]
    factors = [turns[i + 1] @ torch.diag(scales) @ turns[i].mT for i in range(100)]
    found = log_singular_values(factors)
    torch.testing.assert_close(found[0], 100 * scales.log(), rtol=1e-10, atol=1e-10)
    most = log_singular_values(factors, count=2)
    torch.testing.assert_close(most, found[:, :2], rtol=1e-9, atol=1e-9)


def test_few_factors_against_the_product_itself() -> None:
    torch.manual_seed(1)
    factors = list(torch.randn(3, 2, 5, 5).double())
    expected = torch.linalg.svdvals(factors[2] @ factors[1] @ factors[0]).log()
    torch.testing.assert_close(log_singular_values(factors), expected)
    torch.testing.assert_close(
        log_singular_values(factors[:1]), torch.linalg.svdvals(factors[0]).log()
    )
    singular = torch.diag(torch.tensor([1.0, 0.0])).double()[None]
    assert log_singular_values([singular]).tolist()[0] == [0.0, -torch.inf]
    with pytest.raises(ValueError, match="at least one factor"):
        log_singular_values([])


@each_cell
def test_the_product_is_autograds_derivative_over_the_whole_stretch(case: Case) -> None:
    cell, x = case.make(), sequence(steps=3, batch=1)
    state = random_state(cell, batch=1)
    kind = type(state)
    shapes = [field.shape for field in state]

    def last(flat: torch.Tensor) -> torch.Tensor:
        parts = torch.split(flat, [s.numel() for s in shapes])
        fields = (p.reshape(s) for p, s in zip(parts, shapes, strict=True))
        return flatten(scan(cell, x, kind(*fields))[1])[0]

    whole = torch.autograd.functional.jacobian(last, flatten(state)[0].detach())
    found = product_spectra(cell, x, state, lags=(1, 3))
    assert found.log_singular_values.shape[:2] == (2, 1)
    expected = torch.linalg.svdvals(whole).log()[0]
    torch.testing.assert_close(found.log_singular_values[1, 0, 0], expected, rtol=1e-8, atol=1e-8)
    assert found.growth()[1, 0] == found.log_singular_values[1, 0, 0] / 3


def test_the_places_of_an_image_are_one_system() -> None:
    torch.manual_seed(0)
    cell = PixelLSTMCell(3, 2, positions=4, offsets=(-1, 0, 1)).double()
    x = torch.randn(3, 2 * 4, 3).double()
    x[..., -1] = 0.0
    x[:, ::4, -1] = 1.0  # the first place of each of the two images is outside
    state = type(cell.initial_state(8, x))(*torch.randn(2, 8, 2).double().unbind(0))

    def after(h: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        _, last = scan(cell, x, type(state)(h, c))
        return torch.stack(tuple(last), 1).reshape(2, 4, 2, 2).transpose(1, 2).flatten(1)

    by_h, by_c = torch.autograd.functional.jacobian(after, tuple(state))  # (2, 16, 8, 2) each
    own = [torch.stack([j[b, :, 4 * b : 4 * b + 4] for b in range(2)]) for j in (by_h, by_c)]
    whole = torch.cat([j.flatten(2) for j in own], 2)  # (2, N, N), N = h and c of four places
    found = product_spectra(cell, x, state, lags=(3,)).log_singular_values[0]
    expected = torch.linalg.svdvals(whole)
    torch.testing.assert_close(found.exp(), expected, rtol=1e-8, atol=1e-12)
    f = Autonomous(cell)
    assert f.size == 16 and f(f.around(5)).shape == (5, 16)


def test_a_linear_network_by_its_powers() -> None:
    cell = RNNCell(2, 3, nonlinearity="relu", bias=False).double()
    with torch.no_grad():
        cell.weight_hh.copy_(torch.diag(torch.tensor([0.9, 0.5, 0.1])))
        cell.weight_ih.fill_(1.0)
    x = torch.ones(50, 1, 2).double()
    found = product_spectra(cell, x, lags=(10, 50))
    rates = torch.tensor([0.9, 0.5, 0.1]).log().double()
    torch.testing.assert_close(found.growth(), rates.expand(2, 3), rtol=1e-6, atol=1e-6)
    at_rest = step_jacobians(cell, torch.ones(1, 3).double(), torch.ones(1, 3).double())
    torch.testing.assert_close(eigenvalues(at_rest)[0].real, rates.exp(), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="within 1 … T = 50"):
        product_spectra(cell, x, lags=(51,))
