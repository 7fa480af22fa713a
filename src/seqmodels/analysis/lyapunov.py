"""Lyapunov exponents: how fast nearby states part or meet, in every direction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.steps import Map, Step, push
from seqmodels.analysis.systems import check_start, rk4
from seqmodels.cells.base import Cell, S


@dataclass(frozen=True)
class Exponents:
    """A Lyapunov spectrum.

    Attributes:
        values (K): from the largest down, per step of a map or unit of time of a flow. Positive: a
            small difference grows e-fold in 1/λ. -∞, or below about -30 a step in float64: a
            direction that is forgotten at once, as of an output that no later step reads.
        per_start (B, K): of each start by itself. On one attractor they agree but for chance.
        error (K): the standard error of `values` from the scatter over the starts; NaN for one.
        duration: steps or units of time over which each start was averaged.
    """

    values: Tensor
    per_start: Tensor
    error: Tensor
    duration: float

    @property
    def dimension(self) -> float | None:
        """The Kaplan–Yorke dimension; None where the spectrum was cut off before it is reached."""
        total = 0.0
        exponents: list[float] = self.values.tolist()
        for k, value in enumerate(exponents):
            if total + value < 0:
                return k + total / -value
            total += value
        return None

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON: -∞ and NaN are None."""

        def plain(values: Tensor) -> list[float | None]:
            return [v if math.isfinite(v) else None for v in values.tolist()]

        return {
            "exponents": plain(self.values),
            "error": plain(self.error),
            "starts": len(self.per_start),
            "duration": self.duration,
            "dimension": self.dimension,
        }


def map_exponents(
    f: Map,
    start: Tensor,
    steps: int,
    *,
    count: int | None = None,
    warm_up: int = 100,
    every: int = 1,
) -> Exponents:
    """The spectrum of s_{t+1} = f(s_t): any map, `Autonomous(cell)` for a cell with constant input.

    Orthonormal directions are moved by the exact Jacobian and made orthonormal again by a QR
    decomposition; λ_k is the mean of log |R_kk| (Benettin et al. 1980; for recurrent networks
    Vogt et al. 2022, https://doi.org/10.3389/fams.2022.818799).

    Args:
        f: (B, N) -> (B, N), row by row, of operations that torch can differentiate forwards.
        start: (B, N). Many starts at once cost little more than one and give an error.
        steps: over which is averaged, after the warm-up.
        count: K, the largest exponents alone; None is all N.
        warm_up: steps in which states reach the attractor and directions find their order.
        every: steps between two decompositions. Too many, and directions become parallel.
    """
    check_start(start)
    return _exponents([f], start, steps, count, warm_up, every)


def flow_exponents(
    field: Map,
    start: Tensor,
    time: float,
    dt: float,
    *,
    count: int | None = None,
    warm_up: float = 10.0,
    every: int = 1,
) -> Exponents:
    """The spectrum of ds/dt = field(s), per unit of time, along `rk4` steps of dt.

    The exponents are those of the discretised flow: its error is of the order of dt⁴.

    Args:
        field: (B, N) -> (B, N).
        start: (B, N).
        time, warm_up: in units of time, averaged over and before.
        dt: the step, > 0.
        count, every: as of `map_exponents`.
    """
    check_start(start)
    if not dt > 0:
        raise ValueError(f"expected dt > 0, got {dt!r}")
    steps = round(time / dt)
    made = _exponents([rk4(field, dt)], start, steps, count, round(warm_up / dt), every)
    return Exponents(made.values / dt, made.per_start / dt, made.error / dt, made.duration * dt)


def driven_exponents(
    cell: Cell[S],
    x: Tensor,
    state: S | None = None,
    *,
    count: int | None = None,
    warm_up: int = 0,
    every: int = 1,
) -> Exponents:
    """The conditional spectrum of a cell under a signal, per step.

    A largest exponent below zero means that the state forgets where it began, whatever the signal
    still to come is: the echo state property on this signal.

    Args:
        cell: any cell.
        x: (T, B, I). The first warm_up steps are not averaged.
        state: before the first step; None is the cell's initial one.
        count, every: as of `map_exponents`.
    """
    cell.check(x, state, None)
    with torch.no_grad():
        step = Step(cell)
        start = step.initial(x.shape[1] // cell.places) if state is None else step.flat(state)
        gates_x = step.gates(x).unbind(0)  # T × (B, G)
    moves = [_Driven(step, gates) for gates in gates_x]
    return _exponents(moves, start, len(moves) - warm_up, count, warm_up, every)


class _Driven:
    """One step of a driven cell. Its input has a row for each row of the state."""

    def __init__(self, step: Step[Any], gates_x: Tensor) -> None:
        self.step = step
        self.gates_x = gates_x

    def __call__(self, s: Tensor, gates_x: Tensor) -> Tensor:
        return self.step(gates_x, s)


@torch.no_grad()
def _exponents(
    moves: Sequence[Callable[..., Tensor]],
    s: Tensor,
    steps: int,
    count: int | None,
    warm_up: int,
    every: int,
) -> Exponents:
    """One map that is repeated, or as many as there are steps."""
    batch, size = s.shape
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(f"a state of {size} numbers has 1 to {size} exponents, got count={count}")
    if steps < 1 or warm_up < 0 or every < 1:
        raise ValueError(
            "expected at least one step after the warm-up, warm_up >= 0 and every >= 1, "
            f"got {steps}, {warm_up} and {every}"
        )
    q = torch.eye(size, count, dtype=s.dtype, device=s.device).repeat(batch, 1, 1)  # (B, N, K)
    # In float64 whatever the cell's dtype: many small numbers are added.
    sums = torch.zeros(batch, count, dtype=torch.float64, device=s.device)
    total = warm_up + steps
    for t in range(total):
        move = moves[t % len(moves)]
        given = (move.gates_x,) if isinstance(move, _Driven) else ()
        s, q = push(move, s, q, *given)
        if (t + 1) % every == 0 or t + 1 in (warm_up, total):
            q, r = torch.linalg.qr(q)
            if t >= warm_up:
                sums += r.diagonal(dim1=1, dim2=2).abs().double().log()
    if not s.isfinite().all():
        raise ValueError(
            f"the state left all bounds within {total} steps: the system diverges from these "
            "starts, and has no exponents"
        )
    per_start = (sums / steps).sort(1, descending=True).values
    values = per_start.mean(0)
    error = per_start.std(0) / math.sqrt(batch) if batch > 1 else values * math.nan
    return Exponents(values, per_start, error, float(steps))
