"""Pictures of dynamics in numbers: planes through the states, phase portraits, bifurcations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.steps import Map
from seqmodels.analysis.systems import Autonomous, check_start, trajectory
from seqmodels.cells.base import Cell, S


@dataclass(frozen=True)
class Plane:
    """A plane in the space of states: origin (N), axes (2, N), orthonormal."""

    origin: Tensor
    axes: Tensor

    def project(self, states: Tensor) -> Tensor:
        """(…, N) -> coordinates (…, 2)."""
        return (states - self.origin) @ self.axes.T

    def lift(self, points: Tensor) -> Tensor:
        """Coordinates (…, 2) -> states in the plane (…, N)."""
        return self.origin + points @ self.axes


def unit_plane(units: tuple[int, int], origin: Tensor) -> Plane:
    """The plane of two entries of the state, the others as in origin (N)."""
    size = len(origin)
    if units[0] == units[1] or not all(0 <= unit < size for unit in units):
        raise ValueError(f"expected two different units from 0 to {size - 1}, got {units}")
    axes = torch.eye(size, dtype=origin.dtype, device=origin.device)[list(units)]
    return Plane(origin - axes.T @ (axes @ origin), axes)


def principal_plane(states: Tensor) -> Plane:
    """The plane of the first two principal components of states (…, N), through their mean."""
    rows = states.reshape(-1, states.shape[-1])
    if min(rows.shape) < 2:
        raise ValueError(f"a plane takes two states of two entries, got {tuple(rows.shape)}")
    mean = rows.mean(0)
    return Plane(mean, torch.linalg.svd(rows - mean, full_matrices=False).Vh[:2])


@dataclass(frozen=True)
class Portrait:
    """A phase portrait in a plane.

    Attributes:
        plane: where it lies.
        grid (G, 2): the starts; arrows (G, 2): f(s) - s there, seen in the plane.
        paths (T + 1, G, 2): where the starts go; they may leave the plane, this is their shadow.
    """

    plane: Plane
    grid: Tensor
    arrows: Tensor
    paths: Tensor


@torch.no_grad()
def phase_portrait(
    f: Map,
    plane: Plane,
    *,
    span: tuple[float, float] | Tensor = (-1.0, 1.0),
    points: int = 15,
    steps: int = 50,
) -> Portrait:
    """Paths and arrows of f from a grid in a plane.

    Args:
        f: any map.
        plane: `unit_plane` or `principal_plane`.
        span: from and to along both axes, or a tensor (2, 2): a row an axis.
        points: along each axis, so that G = points².
        steps: of each path.
    """
    limits = torch.as_tensor(span).to(plane.origin)
    if limits.shape not in ((2,), (2, 2)) or points < 2:
        raise ValueError(f"expected span (2) or (2, 2) and points >= 2, got {span}, {points}")
    low, high = limits.expand(2, 2).T  # (2) each
    unit = torch.linspace(0, 1, points, dtype=low.dtype, device=low.device)
    grid = low + torch.cartesian_prod(unit, unit) * (high - low)  # (G, 2)
    paths = trajectory(f, plane.lift(grid), steps)
    arrows = (paths[1] - paths[0]) @ plane.axes.T
    return Portrait(plane, grid, arrows, plane.project(paths))


@dataclass(frozen=True)
class Bifurcation:
    """What is left of one entry of the state in the long run, for each value of a parameter.

    Attributes:
        values (P): of the parameter.
        points (P, K, B): the entry's values in the last K steps from each of B starts.
    """

    values: Tensor
    points: Tensor

    def distinct(self, tolerance: float = 1e-4) -> list[int]:
        """How many different values there are at each parameter: 1 a fixed point, 2 a cycle …"""
        ordered = self.points.flatten(1).sort(1).values
        return [int((row.diff() > tolerance).sum()) + 1 for row in ordered]


@torch.no_grad()
def bifurcation(
    make: Callable[[float], Cell[Any] | Map],
    values: Iterable[float],
    start: Tensor,
    *,
    unit: int = 0,
    burn_in: int = 500,
    keep: int = 64,
    follow: bool = False,
) -> Bifurcation:
    """Sweep one parameter and keep where the system ends up.

    Args:
        make: the parameter -> a cell (run with zero input) or any map, such as
            `lambda u: Autonomous(cell, x=u)` for an input level, `lambda tau: LeakyCell(1, 2,
            tau=tau)`, or `lambda g: scaled(cell, "weight_hh", g)`.
        values: of the parameter, in the order of the sweep.
        start: (B, N); more than one start shows coexisting attractors.
        unit: the entry of the state that is kept.
        burn_in: steps before.
        keep: K.
        follow: each value starts where the last one ended, which shows hysteresis; else all start
            at `start`.
    """
    check_start(start)
    found, parameters = [], [float(value) for value in values]
    if not parameters:
        raise ValueError("expected at least one value of the parameter")
    s = start
    for value in parameters:
        made = make(value)
        f = Autonomous(made) if isinstance(made, Cell) else made
        path = trajectory(f, s if follow else start, keep, burn_in=burn_in)[1:]
        found.append(path[:, :, unit])
        s = path[-1]
    return Bifurcation(torch.tensor(parameters, dtype=torch.float64), torch.stack(found))


def scaled(cell: Cell[S], parameter: str, factor: float) -> Cell[S]:
    """A copy of the cell with one parameter times factor, such as "weight_hh"."""
    return _changed(cell, parameter, lambda p: p.mul_(factor))


def shifted(cell: Cell[S], parameter: str, amount: float | Tensor) -> Cell[S]:
    """A copy of the cell with amount added to one parameter, such as "bias_ih"."""
    return _changed(cell, parameter, lambda p: p.add_(amount))


@torch.no_grad()
def _changed(cell: Cell[S], name: str, change: Callable[[Tensor], Any]) -> Cell[S]:
    made = copy.deepcopy(cell)
    parameters = dict(made.named_parameters())
    if name not in parameters:
        raise ValueError(
            f"{type(cell).__name__} has no parameter {name!r}: it has {', '.join(parameters)}"
        )
    change(parameters[name])
    return made
