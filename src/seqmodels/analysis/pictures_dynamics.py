"""What was found of a dynamical system, as pictures: each function returns a matplotlib Figure.

phase_portrait(f, plane)  →  portrait_picture        figure.savefig("portrait.png")
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from seqmodels.analysis.capacity import MemoryCapacity
from seqmodels.analysis.fixed_points import FixedPoints
from seqmodels.analysis.lyapunov import Exponents
from seqmodels.analysis.pictures import colour
from seqmodels.analysis.portraits import Bifurcation, Plane, Portrait, principal_plane

# Of points: marker, and whether it is filled. Colour is kept for paths and systems.
MARKS = {"stable": ("o", True), "saddle": ("X", True), "unstable": ("o", False)}


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


def _mark_points(axis: Axes, points: FixedPoints, plane: Plane) -> None:
    """Fixed points black, slow ones orange, by stability; they may lie beside the plane."""
    at = _numbers(plane.project(points.points.to(plane.axes)))
    fixed = points.fixed.tolist()
    seen: set[str] = set()
    for place, is_fixed, stability in zip(at, fixed, points.stability, strict=True):
        marker, filled = MARKS[stability]
        edge = "black" if is_fixed else "tab:orange"
        label = f"{stability} {'fixed' if is_fixed else 'slow'} point"
        axis.plot(
            *place,
            marker,
            ms=9,
            mec="white" if filled else edge,
            mfc=edge if filled else "white",
            mew=0.8 if filled else 2.0,
            ls="none",
            zorder=5,
            label=None if label in seen else label,
        )
        seen.add(label)
    if seen:
        axis.legend(loc="upper right", fontsize=8, framealpha=0.9)


def portrait_picture(
    portrait: Portrait,
    points: FixedPoints | None = None,
    *,
    labels: tuple[str, str] = ("first direction", "second direction"),
    title: str = "",
) -> Figure:
    """Where each state of a plane moves next, and where it goes in the long run.

    Arrows show the direction of f(s) − s, their colour its length; thin lines are paths, points
    on top of them what `fixed_points` found. A path that is not finite is left out.
    """
    figure = Figure(figsize=(6.6, 5.4), layout="constrained")
    axis = figure.subplots()
    paths = _numbers(portrait.paths)
    for index in range(paths.shape[1]):
        path = paths[:, index]
        if np.isfinite(path).all():
            axis.plot(path[:, 0], path[:, 1], "-", lw=0.6, color="tab:blue", alpha=0.35)
    grid, arrows = _numbers(portrait.grid), _numbers(portrait.arrows)
    length = np.hypot(*arrows.T)
    unit = arrows / np.maximum(length, 1e-300)[:, None]
    drawn = axis.quiver(
        *grid.T,
        *unit.T,
        length,
        cmap="viridis",
        pivot="mid",
        angles="uv",
        scale=1.4 * math.sqrt(len(grid)),
        width=0.004,
        zorder=3,
    )
    figure.colorbar(drawn, ax=axis, label=r"length of $f(s) - s$ in the plane")
    if points is not None:
        _mark_points(axis, points, portrait.plane)
    # The grid says what is looked at; paths that leave it do not shrink it.
    low, high = grid.min(0), grid.max(0)
    margin = 0.06 * (high - low)
    axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axis.set_ylim(low[1] - margin[1], high[1] + margin[1])
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.set_title(title)
    return figure


def trajectory_picture(
    states: Tensor,
    plane: Plane | None = None,
    points: FixedPoints | None = None,
    *,
    units: int = 4,
    title: str = "",
) -> Figure:
    """Left, the first entries of the state over time, from the first start; right, all paths.

    Args:
        states: (T, B, N), as from `trajectory` or `driven`; finite.
        plane: of the right side; None is that of the first two principal components.
        points: to mark there.
        units: how many entries, at most.
        title: over both.

    Raises:
        ValueError: the states are no (T, B, N), or some are not finite.
    """
    if states.dim() != 3 or not states.isfinite().all():
        raise ValueError(
            f"expected finite states (T, B, N), got {tuple(states.shape)} with "
            f"{int((~states.isfinite()).sum())} entries that are not finite"
        )
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.4, 1]})
    values = _numbers(states)
    for unit in range(min(units, values.shape[2])):
        left.plot(values[:, 0, unit], lw=1.1, color=colour(unit), label=f"s[{unit}]")
    left.set_xlabel("step t")
    left.set_ylabel("entries of the state")
    left.legend(loc="upper right", fontsize=8, framealpha=0.9)
    left.grid(alpha=0.3)
    names = ("first entry in the plane", "second")
    if plane is None:
        plane = principal_plane(states)
        names = ("first principal direction", "second")
    flat = _numbers(plane.project(states))
    for start in range(flat.shape[1]):
        right.plot(*flat[:, start].T, lw=0.7, color=colour(start), alpha=0.8)
        right.plot(*flat[0, start], "o", ms=5, color=colour(start))
    if points is not None:
        _mark_points(right, points, plane)
    right.set_xlabel(names[0])
    right.set_ylabel(names[1])
    right.set_title("○ where each path begins", fontsize=9, loc="left")
    right.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def bifurcation_picture(
    found: Bifurcation, *, parameter: str = "parameter", entry: str = "s", title: str = ""
) -> Figure:
    """Every value that the entry still takes in the long run, above the parameter.

    One dot: a fixed point; two: a cycle of two; a cloud: chaos or a quasi-periodic motion. Each
    start has a colour of its own as long as there are no more than ten, so that coexisting
    attractors are told apart.
    """
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axis = figure.subplots()
    values, points = _numbers(found.values), _numbers(found.points)
    starts = points.shape[2]
    size = 3.0 if points.shape[0] * points.shape[1] < 20_000 else 0.6
    for start in range(starts):
        axis.plot(
            np.repeat(values, points.shape[1]),
            points[:, :, start].ravel(),
            ".",
            ms=size,
            mew=0,
            alpha=0.6,
            color=colour(start) if 1 < starts <= 10 else "black",
        )
    axis.set_xlabel(parameter)
    axis.set_ylabel(f"{entry} in the long run")
    axis.set_title(title)
    axis.grid(alpha=0.3)
    return figure


def exponents_picture(
    found: Mapping[str, Exponents], *, per: str = "step", title: str = ""
) -> Figure:
    """Lyapunov spectra of several systems, with their standard errors where there are any.

    Above the line differences grow, below they shrink. −∞ is not drawn; the legend counts it.

    Args:
        found: by the name for the legend.
        per: the unit of time: of a map "step", of a flow "unit of time".
        title: over the picture.
    """
    if not found:
        raise ValueError("expected at least one spectrum")
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axis = figure.subplots()
    longest = max(each.values.numel() for each in found.values())
    for index, (name, each) in enumerate(found.items()):
        values, error = _numbers(each.values), _numbers(each.error)
        finite = np.isfinite(values)
        label = name
        if each.dimension is not None:
            label += f", dimension {each.dimension:.2f}"
        if not finite.all():
            label += f", {int((~finite).sum())} at −∞"
        axis.errorbar(
            np.arange(1, len(values) + 1)[finite],
            values[finite],
            np.nan_to_num(error[finite]),
            fmt="o-",
            ms=5 if longest <= 30 else 2.5,
            lw=0.8,
            capsize=2,
            color=colour(index),
            label=label,
        )
    axis.axhline(0, color="black", lw=1)
    if longest <= 12:
        axis.set_xticks(range(1, longest + 1))
    axis.set_xlabel("k")
    axis.set_ylabel(rf"$\lambda_k$ per {per}")
    axis.set_title(title)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def fixed_points_picture(
    points: FixedPoints, plane: Plane | None = None, *, title: str = ""
) -> Figure:
    """Left, the points in a plane; right, the eigenvalues at each beside the unit circle.

    Args:
        points: one at least.
        plane: None is that of their principal components, for which two points are needed.
        title: over both.
    """
    if len(points.points) == 0:
        raise ValueError("there is no point to draw: none was found from these starts")
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    plane = principal_plane(points.points) if plane is None else plane
    _mark_points(left, points, plane)
    at = _numbers(plane.project(points.points.to(plane.axes)))
    for index, place in enumerate(at[:10]):
        left.plot(*place, ".", ms=4, color=colour(index), zorder=6)
    left.margins(0.15)
    left.set_xlabel("first direction")
    left.set_ylabel("second")
    left.set_title(f"{len(at)} points from {points.starts} starts")
    left.grid(alpha=0.3)
    turn = np.linspace(0, 2 * np.pi, 200)
    right.plot(np.cos(turn), np.sin(turn), color="gray", lw=1)
    values = points.eigenvalues.detach().cpu().numpy()
    for index, own in enumerate(values):
        many = index >= 10
        right.plot(
            own.real, own.imag, ".", ms=6, alpha=0.7, color="gray" if many else colour(index)
        )
    reach = 1.1 * max(1.0, float(np.abs(values).max()))
    right.set_xlim(-reach, reach)
    right.set_ylim(-reach, reach)
    right.set_aspect("equal")
    right.set_xlabel("real")
    right.set_ylabel("imaginary")
    right.set_title("eigenvalues there, in the colour of the point")
    right.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def capacity_picture(found: Mapping[str, MemoryCapacity], *, title: str = "") -> Figure:
    """How well each past input can be read from the state, by lag; one line a network."""
    if not found:
        raise ValueError("expected at least one network")
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for index, (name, each) in enumerate(found.items()):
        values = _numbers(each.by_lag)
        lags = range(each.first_lag, each.first_lag + len(values))
        label = f"{name}: {each.total:.1f} of {each.bound}"
        axis.plot(lags, values, color=colour(index), label=label)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlabel("lag k")
    axis.set_ylabel("squared correlation with the input k steps ago")
    axis.set_title(title)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    return figure
