"""Fixed and slow points: where a recurrence stands still, or nearly, and what happens beside them.

A point s is fixed where f(s) = s, and slow where the speed q(s) = ½ ‖f(s) − s‖² is small but not
nought. Both are minima of q; between them they say what a trained network computes with.

Reference: Sussillo & Barak, "Opening the black box: low-dimensional dynamics in high-dimensional
recurrent neural networks", Neural Computation 25, 2013. https://doi.org/10.1162/NECO_a_00409
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.steps import Map, jacobian
from seqmodels.analysis.systems import check_start


@dataclass(frozen=True)
class FixedPoints:
    """Points where f stands still or nearly, the stillest first.

    Attributes:
        points (P, N): different from each other by more than the tolerance that was asked for.
        speed (P): q = ½ ‖f(s) − s‖².
        eigenvalues (P, N): of ∂f/∂s there, complex, the largest modulus first.
        found (P): from how many of the starts the search came to each: a large basin of the
            search, which is not the basin of the dynamics.
        starts: how many there were.
        fixed_below: the speed below which a point counts as fixed, not as slow.
    """

    points: Tensor
    speed: Tensor
    eigenvalues: Tensor
    found: Tensor
    starts: int
    fixed_below: float

    @property
    def fixed(self) -> Tensor:
        """(P) bool: whether the point is fixed; the others are slow."""
        return self.speed < self.fixed_below

    @property
    def unstable_directions(self) -> Tensor:
        """(P): how many eigenvalues lie outside the unit circle."""
        return (self.eigenvalues.abs() > 1).sum(1)

    @property
    def stability(self) -> list[str]:
        """Of each point: "stable" (no direction grows), "unstable" (all do) or "saddle"."""
        size = self.points.shape[1]
        names = {0: "stable", size: "unstable"}
        return [names.get(count, "saddle") for count in self.unstable_directions.tolist()]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        fixed = self.fixed.tolist()
        return {
            "starts": self.starts,
            "points": [
                {
                    "kind": "fixed" if fixed[k] else "slow",
                    "stability": self.stability[k],
                    "unstable_directions": int(self.unstable_directions[k]),
                    "speed": float(self.speed[k]),
                    "largest_modulus": float(self.eigenvalues[k, 0].abs()),
                    "found": int(self.found[k]),
                    "at": self.points[k].tolist(),
                }
                for k in range(len(self.points))
            ],
        }


@torch.no_grad()
def fixed_points(
    f: Map,
    starts: Tensor,
    *,
    steps: int = 200,
    slow_below: float = 1e-4,
    fixed_below: float = 1e-20,
    apart: float = 1e-3,
    bound: float = 1e3,
) -> FixedPoints:
    """Search for fixed and slow points from many starts at once.

    q is minimised by damped Gauss–Newton steps (Levenberg–Marquardt) with the exact Jacobian, all
    starts side by side: its gradient is (J − I)ᵀ(f(s) − s). Steps that do not lower q are refused
    and tried again with more damping. What is left is sorted by speed; of points closer than
    `apart` the stillest stays.

    Args:
        f: any map; `Autonomous(cell, x)` for a cell under a constant input.
        starts: (B, N). States that the system visits are good ones (`driven`, `Autonomous.around`):
            a search from nowhere finds points that play no part.
        steps: of the search, each with one Jacobian per start.
        slow_below: points with a greater speed are dropped.
        fixed_below: below this speed a point counts as fixed. 1e-20 is for float64; in float32
            nothing gets far below 1e-13.
        apart: the least Euclidean distance of two different points.
        bound: points with a greater norm are dropped.

    Returns:
        `FixedPoints`, of which there may be none.

    Raises:
        ValueError: starts are no (B, N), or a setting is out of its range.
    """
    check_start(starts)
    if steps < 1 or not 0 < fixed_below <= slow_below or not apart > 0 or not bound > 0:
        raise ValueError(
            "expected steps >= 1, 0 < fixed_below <= slow_below, apart > 0 and bound > 0, got "
            f"{steps!r}, {fixed_below!r}, {slow_below!r}, {apart!r} and {bound!r}"
        )
    s, speed = _descend(f, starts, steps)
    size = s.shape[1]
    good = speed.isfinite() & (speed < slow_below) & (s.norm(dim=1) < bound)
    s, speed = s[good], speed[good]
    order = speed.argsort()
    s, speed = s[order], speed[order]
    kept: list[int] = []
    found: list[int] = []
    distance = torch.cdist(s, s)
    free = torch.ones(len(s), dtype=torch.bool, device=s.device)
    for index in range(len(s)):
        if free[index]:
            same = free & (distance[index] < apart)
            kept.append(index)
            found.append(int(same.sum()))
            free &= ~same
    points = s[kept].reshape(-1, size)
    values = torch.linalg.eigvals(jacobian(f, points)) if kept else points.to(torch.complex128)
    by_modulus = values.abs().argsort(dim=1, descending=True)
    return FixedPoints(
        points=points,
        speed=speed[kept],
        eigenvalues=values.gather(1, by_modulus),
        found=torch.tensor(found, dtype=torch.int64),
        starts=len(starts),
        fixed_below=fixed_below,
    )


def _speed(f: Map, s: Tensor) -> tuple[Tensor, Tensor]:
    """f(s) − s (B, N) and q (B), infinite where it is no number."""
    rest = f(s) - s
    speed = 0.5 * rest.square().sum(1)
    return rest, speed.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _descend(f: Map, s: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Levenberg–Marquardt on every row: s (B, N) and its speed (B)."""
    eye = torch.eye(s.shape[1], dtype=s.dtype, device=s.device)
    damping = torch.full((len(s), 1, 1), 1e-2, dtype=s.dtype, device=s.device)
    least = torch.finfo(s.dtype).eps ** 2
    rest, speed = _speed(f, s)
    for _ in range(steps):
        slope = jacobian(f, s) - eye  # (B, N, N), of f(s) − s
        slope = slope.nan_to_num(posinf=0.0, neginf=0.0)  # of rows that are lost already
        normal = slope.mT @ slope
        pull = -(slope.mT @ rest.nan_to_num(posinf=0.0, neginf=0.0).unsqueeze(2))
        move, _ = torch.linalg.solve_ex(normal + damping * eye, pull)
        tried = s + move.squeeze(2)
        new_rest, new_speed = _speed(f, tried)
        better = new_speed < speed
        s = torch.where(better[:, None], tried, s)
        rest = torch.where(better[:, None], new_rest, rest)
        speed = torch.where(better, new_speed, speed)
        damping = torch.where(better[:, None, None], damping / 10, damping * 4).clamp(1e-15, 1e8)
        if bool((speed <= least).all()):
            break
    return s, speed
