"""Fixed and slow points, where they are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cell_cases import Case, each_cell
from seqmodels.analysis.fixed_points import fixed_points
from seqmodels.analysis.systems import Autonomous
from seqmodels.cells import RNNCell


def units(weights: list[float]) -> RNNCell:
    """Independent units h' = tanh(w h)."""
    cell = RNNCell(1, len(weights), bias=False).double()
    with torch.no_grad():
        cell.weight_hh.copy_(torch.tensor(weights).diag())
    return cell


def test_one_unit_has_one_point_below_weight_one_and_three_above() -> None:
    f = Autonomous(units([0.8]))
    found = fixed_points(f, f.around(20))
    assert found.points.shape == (1, 1) and found.stability == ["stable"]
    assert float(found.points.abs()) < 1e-6 and int(found.found) == 20
    f = Autonomous(units([2.0]))
    found = fixed_points(f, f.around(60))
    assert found.fixed.all()
    by_place = found.points[:, 0].sort()
    at = torch.tensor(0.9575040240772688, dtype=torch.float64)  # h = tanh(2 h)
    torch.testing.assert_close(
        by_place.values, torch.stack((-at, 0 * at, at)), rtol=1e-9, atol=1e-9
    )
    kinds = [found.stability[int(i)] for i in by_place.indices]
    assert kinds == ["stable", "unstable", "stable"]
    slopes = found.eigenvalues[by_place.indices, 0].real
    expected = 2 * (1 - by_place.values**2)
    torch.testing.assert_close(slopes, expected, rtol=1e-6, atol=1e-8)


def test_two_units_have_nine_points_of_three_kinds() -> None:
    f = Autonomous(units([1.5, 2.0]))
    found = fixed_points(f, f.around(400))
    assert sorted(found.stability) == ["saddle"] * 4 + ["stable"] * 4 + ["unstable"]
    assert int(found.found.sum()) <= 400 == found.starts
    plain = found.as_dict()["points"]
    assert len(plain) == 9 and {p["kind"] for p in plain} == {"fixed"}
    assert sum(p["unstable_directions"] for p in plain) == 4 + 2


def test_a_constant_input_moves_the_point() -> None:
    cell = units([0.5])
    with torch.no_grad():
        cell.weight_ih.fill_(1.0)
    f = Autonomous(cell, torch.tensor([0.3], dtype=torch.float64))
    found = fixed_points(f, f.around(5))
    h = float(found.points)
    assert h == pytest.approx(math.tanh(0.5 * h + 0.3), abs=1e-12)


def test_a_ghost_of_a_point_is_slow_not_fixed() -> None:
    """s' = s + s² + e: no point for e > 0, but at 0 the speed is e²/2."""

    def f(s: Tensor) -> Tensor:
        return s + s**2 + 1e-3

    found = fixed_points(f, torch.linspace(-0.5, 0.5, 9).double().unsqueeze(1))
    assert len(found.points) == 1 and not found.fixed.any()
    assert float(found.points.abs()) < 1e-3
    assert float(found.speed) == pytest.approx(5e-7, rel=1e-3)
    assert found.as_dict()["points"][0]["kind"] == "slow"
    none = fixed_points(f, torch.zeros(3, 1).double(), slow_below=1e-8)
    assert none.points.shape == (0, 1) and none.stability == [] and none.eigenvalues.shape == (0, 1)


@each_cell
def test_points_of_every_cell_stand_still(case: Case) -> None:
    f = Autonomous(case.make())
    found = fixed_points(f, f.around(4, spread=0.3), steps=25)
    torch.testing.assert_close(0.5 * (f(found.points) - found.points).square().sum(1), found.speed)
    assert (found.eigenvalues[:, 0].abs() >= found.eigenvalues[:, -1].abs()).all()


def test_settings_out_of_range_are_refused() -> None:
    f = Autonomous(units([0.5]))
    with pytest.raises(ValueError, match="fixed_below <= slow_below"):
        fixed_points(f, f.around(2), fixed_below=1.0)
    with pytest.raises(ValueError, match="expected starts"):
        fixed_points(f, torch.zeros(3).double())
