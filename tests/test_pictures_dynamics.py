"""Pictures of dynamics: what is drawn is what was found, and what cannot be drawn is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from seqmodels.analysis import pictures_dynamics as pictures
from seqmodels.analysis.capacity import memory_capacity
from seqmodels.analysis.fixed_points import FixedPoints, fixed_points
from seqmodels.analysis.lyapunov import Exponents, map_exponents
from seqmodels.analysis.portraits import bifurcation, phase_portrait, unit_plane
from seqmodels.analysis.systems import Autonomous, trajectory
from seqmodels.cells import RNNCell


def bistable() -> Autonomous[object]:
    """One tanh unit of weight 2 beside one that only forgets: three fixed points."""
    cell = RNNCell(1, 2).double()
    with torch.no_grad():
        cell.weight_hh.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.5]]))
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    return Autonomous(cell)


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in _legend(axis)]


def _legend(axis: object) -> list[object]:
    legend = axis.get_legend()  # type: ignore[attr-defined]
    return [] if legend is None else list(legend.get_texts())


def test_a_portrait_marks_its_fixed_points_by_stability(tmp_path: Path) -> None:
    f = bistable()
    points = fixed_points(f, f.around(40))
    portrait = phase_portrait(f, unit_plane((0, 1), f.initial()[0]), points=5, steps=10)
    figure = pictures.portrait_picture(portrait, points, labels=("a", "b"), title="t")
    assert set(labels(figure)) == {"stable fixed point", "saddle fixed point"}
    assert figure.axes[0].get_xlabel() == "a"
    figure.savefig(tmp_path / "portrait.png")
    # A path that diverges is left out, and the rest is drawn.
    wild = phase_portrait(lambda s: 1e200 * s * s, unit_plane((0, 1), torch.zeros(2)), steps=5)
    pictures.portrait_picture(wild).savefig(tmp_path / "wild.png")


def test_fixed_points_and_their_eigenvalues_are_drawn_and_none_is_refused(tmp_path: Path) -> None:
    f = bistable()
    points = fixed_points(f, f.around(40))
    figure = pictures.fixed_points_picture(points)
    assert figure.axes[0].get_title() == "3 points from 40 starts"
    figure.savefig(tmp_path / "points.png")
    none = FixedPoints(torch.zeros(0, 2), *(torch.zeros(0),) * 3, 40, 1e-20)
    with pytest.raises(ValueError, match="no point to draw"):
        pictures.fixed_points_picture(none)


def test_states_over_time(tmp_path: Path) -> None:
    f = bistable()
    states = trajectory(f, f.around(3), 10)
    figure = pictures.trajectory_picture(states, units=1)
    assert labels(figure) == ["s[0]"]
    figure.savefig(tmp_path / "states.png")
    with pytest.raises(ValueError, match="22 entries that are not finite"):
        pictures.trajectory_picture(states[:, :1] * math.nan)
    with pytest.raises(ValueError, match=r"\(T, B, N\)"):
        pictures.trajectory_picture(states[0])


def test_a_bifurcation_has_a_colour_per_start(tmp_path: Path) -> None:
    start = torch.tensor([[0.3], [0.4]], dtype=torch.float64)
    found = bifurcation(lambda r: lambda s: r * s * (1 - s), (2.8, 3.2), start, keep=4)
    figure = pictures.bifurcation_picture(found, parameter="r")
    assert len(figure.axes[0].lines) == 2 and figure.axes[0].get_xlabel() == "r"
    figure.savefig(tmp_path / "bifurcation.png")


def test_spectra_beside_each_other(tmp_path: Path) -> None:
    linear = map_exponents(lambda s: 0.5 * s, torch.ones(1, 2, dtype=torch.float64), 5)
    gone = Exponents(
        torch.tensor([0.1, -math.inf]), torch.zeros(1, 2), torch.full((2,), math.nan), 5.0
    )
    figure = pictures.exponents_picture({"half": linear, "cut": gone})
    assert labels(figure) == ["half, dimension 0.00", "cut, dimension 1.00, 1 at −∞"]
    figure.savefig(tmp_path / "exponents.png")
    with pytest.raises(ValueError, match="at least one spectrum"):
        pictures.exponents_picture({})


def test_memory_by_lag(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = memory_capacity(RNNCell(1, 3), steps=200, lags=5, washout=10)
    figure = pictures.capacity_picture({"three units": found})
    assert labels(figure) == [f"three units: {found.total:.1f} of 3"]
    figure.savefig(tmp_path / "capacity.png")
    with pytest.raises(ValueError, match="at least one network"):
        pictures.capacity_picture({})
