"""Cells and other maps as dynamical systems, against the loop and known results."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cell_cases import Case, each_cell, random_state, sequence
from seqmodels.analysis.portraits import (
    bifurcation,
    phase_portrait,
    principal_plane,
    scaled,
    shifted,
    unit_plane,
)
from seqmodels.analysis.steps import flatten
from seqmodels.analysis.systems import Autonomous, driven, lorenz, rk4, roessler, trajectory
from seqmodels.cells import LSTMCell, RNNCell
from seqmodels.scan import scan


@each_cell
def test_a_cell_on_its_own_and_driven_is_the_loop(case: Case) -> None:
    cell, state = case.make(), None
    x = sequence(steps=4)
    state = random_state(cell, batch=x.shape[1])
    for t, s in enumerate(driven(cell, x, state), start=1):
        torch.testing.assert_close(s, flatten(scan(cell, x[:t], state)[1]), rtol=1e-12, atol=1e-13)
    constant = torch.linspace(-1, 1, cell.input_size, dtype=torch.float64)
    f = Autonomous(cell, constant)
    path = trajectory(f, flatten(state), 4)
    same = driven(cell, constant.expand(4, x.shape[1], -1), state)
    torch.testing.assert_close(path[1:], same, rtol=1e-12, atol=1e-13)
    assert path[0].equal(flatten(state)) and f.initial(3).shape == (3, f.size)


def test_trajectories_burn_in_and_skip() -> None:
    def double(s: Tensor) -> Tensor:
        return 2 * s

    start = torch.ones(1, 1)
    assert trajectory(double, start, 3).flatten().tolist() == [1, 2, 4, 8]
    assert trajectory(double, start, 4, burn_in=1, every=2).flatten().tolist() == [2, 8, 32]


def test_wrong_starts_inputs_and_settings_are_refused() -> None:
    cell = LSTMCell(2, 3)
    with pytest.raises(ValueError, match="a constant input is one vector"):
        Autonomous(cell, torch.zeros(5, 2))
    f = Autonomous(cell)
    with pytest.raises(ValueError, match=r"expected starts \(B, N\)"):
        trajectory(f, torch.zeros(6), 3)
    with pytest.raises(ValueError, match="steps >= 1"):
        trajectory(f, f.initial(), 0)
    with pytest.raises(ValueError, match="two different units"):
        unit_plane((1, 1), torch.zeros(3))
    with pytest.raises(ValueError, match="two states of two entries"):
        principal_plane(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="has no parameter 'w'"):
        scaled(cell, "w", 2.0)
    with pytest.raises(ValueError, match="at least one value"):
        bifurcation(lambda _: cell, [], f.initial())


def test_the_fourth_order_step_has_an_error_of_fourth_order() -> None:
    """A turning circle, whose flow is known."""

    def turn(s: Tensor) -> Tensor:
        return torch.stack((-s[:, 1], s[:, 0]), 1)

    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    true = torch.tensor([math.cos(1), math.sin(1)], dtype=torch.float64)
    ends = [trajectory(rk4(turn, 1.0 / steps), start, steps)[-1, 0] for steps in (20, 40)]
    errors = [float((end - true).norm()) for end in ends]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.1)


def test_the_lorenz_and_roessler_systems_stand_still_at_their_known_points() -> None:
    root = math.sqrt(8 / 3 * 27)
    points = torch.tensor([[0, 0, 0], [root, root, 27], [-root, -root, 27]], dtype=torch.float64)
    assert float(lorenz()(points).abs().max()) < 1e-12
    low = (5.7 - math.sqrt(5.7**2 - 4 * 0.2 * 0.2)) / (2 * 0.2)
    point = torch.tensor([[0.2 * low, -low, low]], dtype=torch.float64)
    assert float(roessler()(point).abs().max()) < 1e-12


def test_planes_project_and_lift() -> None:
    torch.manual_seed(0)
    origin = torch.randn(5).double()
    plane = unit_plane((3, 1), origin)
    points = torch.randn(7, 2).double()
    lifted = plane.lift(points)
    torch.testing.assert_close(plane.project(lifted), points)
    assert lifted[:, [3, 1]].equal(points) and lifted[:, 0].eq(origin[0]).all()
    flat = torch.randn(50, 2).double() @ torch.randn(2, 5).double() + origin
    main = principal_plane(flat.reshape(10, 5, 5))
    torch.testing.assert_close(main.lift(main.project(flat)), flat)


def test_a_phase_portrait_of_a_contraction_points_home() -> None:
    portrait = phase_portrait(
        lambda s: 0.5 * s, unit_plane((0, 2), torch.zeros(3)), points=4, steps=3
    )
    assert portrait.grid.shape == (16, 2) and portrait.paths.shape == (4, 16, 2)
    torch.testing.assert_close(portrait.arrows, -0.5 * portrait.grid)
    torch.testing.assert_close(portrait.paths[-1], portrait.grid / 8)
    assert portrait.grid.min() == -1 and portrait.grid.max() == 1


def test_the_logistic_map_doubles_its_period_where_it_is_known_to() -> None:
    """1 until r = 3, 2 until 1 + √6 ≈ 3.449, 4 until 3.544, 3 in the window at 3.83."""
    start = torch.tensor([[0.4]], dtype=torch.float64)
    found = bifurcation(
        lambda r: lambda s: r * s * (1 - s), [2.9, 3.2, 3.5, 3.83], start, burn_in=2000
    )
    assert found.distinct() == [1, 2, 4, 3]


def test_a_recurrent_unit_splits_at_weight_one() -> None:
    """h' = tanh(w h): one point at 0 for w < 1, two others beside it for w > 1."""
    cell = RNNCell(1, 1, bias=False).double()
    with torch.no_grad():
        cell.weight_hh.fill_(1.0)
    start = torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
    found = bifurcation(lambda g: scaled(cell, "weight_hh", g), [0.5, 1.5], start)
    assert found.distinct() == [1, 2] and cell.weight_hh.item() == 1.0
    biased = RNNCell(1, 1).double()
    moved = shifted(biased, "bias_ih", 0.25)
    assert biased.bias_ih is not None and moved.bias_ih is not None
    torch.testing.assert_close(moved.bias_ih, biased.bias_ih + 0.25)


def test_a_sweep_that_follows_shows_hysteresis() -> None:
    """h' = tanh(2 h + b): two branches at b = 0, which one depends on where the sweep came from."""
    cell = RNNCell(1, 1).double()
    with torch.no_grad():
        cell.weight_hh.fill_(2.0)
        for parameter in (cell.bias_ih, cell.bias_hh):
            assert parameter is not None
            parameter.zero_()
    start = torch.zeros(1, 1, dtype=torch.float64)
    up, down = (
        bifurcation(lambda b: shifted(cell, "bias_ih", b), values, start, follow=True)
        for values in ([-1.0, 0.0], [1.0, 0.0])
    )
    assert float(up.points[1].max()) < -0.9 and float(down.points[1].min()) > 0.9
