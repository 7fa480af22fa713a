"""Memory capacity: how much of its past input a recurrence holds for a linear reader.

    MC = Σ_k MC_k,     MC_k = cov²(u_{t−k}, ŷ_k) / (var u · var ŷ_k),     ŷ_k = w_k · (s_t, 1)

with u independent and uniform. Each w_k is fitted on one part of the states (ridge regression) and
MC_k measured on another: measured on what it was fitted to, every lag would seem to be remembered a
little. All lags from 0 on together come to N at most, which a linear network with iid input reaches
(a delay line holds N inputs, the present one among them). Usually the sum begins at k = 1.

Reference: Jaeger, "Short term memory in echo state networks", GMD Report 152, 2001.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmodels.cells.base import Cell
from seqmodels.cells.exposed import Exposed
from seqmodels.scan import scan


@dataclass(frozen=True)
class MemoryCapacity:
    """What `memory_capacity` found.

    Attributes:
        by_lag: MC_k for k = first_lag … K, each in [0, 1].
        first_lag: 0 or 1.
        penalty: the ridge penalty that was used.
        bound: N, the most that a linear reader of N states can get.
    """

    by_lag: Tensor
    first_lag: int
    penalty: float
    bound: int

    @property
    def total(self) -> float:
        """MC, the sum over the lags."""
        return float(self.by_lag.sum())

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        by_lag = self.by_lag.tolist()
        return {
            "total": self.total,
            "bound": self.bound,
            "penalty": self.penalty,
            "first_lag": self.first_lag,
            "by_lag": by_lag,
        }


@torch.no_grad()
def memory_capacity(
    cell: Cell[Any],
    *,
    steps: int = 20_000,
    lags: int = 200,
    first_lag: int = 1,
    amplitude: float = 0.5,
    washout: int = 200,
    penalties: tuple[float, ...] = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4),
    outputs_only: bool = False,
    seed: int = 0,
    chunk: int = 2_000,
) -> MemoryCapacity:
    """The memory capacity of any cell, on data that the reader was not fitted to.

    Three stretches of input, one after the other: the reader is fitted on the first (half of the
    steps), the penalty chosen on the second (a quarter), MC_k measured on the third. Moments are
    gathered in float64 chunk by chunk, so that memory does not grow with the steps.

    Args:
        cell: with one input; its weights are used as they are.
        steps: T, of all three stretches, after the washout.
        lags: K. Beyond twice the size of the state little is to be found.
        first_lag: 1, or 0 to count the present input as remembered too.
        amplitude: of the input, uniform on [−amplitude, amplitude].
        washout: steps before the first that counts.
        penalties: of the ridge, times the mean square of the states; the best is taken.
        outputs_only: read the cell's output h alone, not its whole state (of an LSTM h and c).
        seed: of the input.
        chunk: steps at a time.

    Raises:
        ValueError: the cell has several inputs, or the sizes do not fit each other.
    """
    if cell.input_size != 1:
        raise ValueError(
            f"memory capacity is of one input signal: expected input_size 1, got {cell.input_size}"
        )
    if first_lag not in (0, 1):
        raise ValueError(f"expected first_lag 0 or 1, got {first_lag!r}")
    if lags < 1 or steps < 4 * (lags + 1) or chunk < 1 or washout < 0 or not amplitude > 0:
        raise ValueError(
            "expected lags >= 1, steps >= 4 * (lags + 1), chunk >= 1, washout >= 0 and amplitude > "
            f"0, got {lags!r}, {steps!r}, {chunk!r}, {washout!r} and {amplitude!r}"
        )
    if not penalties or min(penalties) <= 0:
        raise ValueError(f"expected penalties > 0, got {penalties!r}")
    like = cell.like()
    generator = torch.Generator().manual_seed(seed)
    lead = max(washout, lags)
    signal = torch.rand(lead + steps, generator=generator, dtype=torch.float64) * 2 - 1
    signal *= amplitude
    exposed = Exposed(cell)
    state = exposed.initial_state(1, like)
    parts = [_Moments(), _Moments(), _Moments()]
    ends = (lead + steps // 2, lead + 3 * steps // 4, lead + steps)
    at, size = 0, 0
    for part, end in zip([None, *parts], (lead, *ends), strict=True):
        while at < end:
            now = min(at + chunk, end)
            u = signal[at:now].to(like)
            states, state = scan(exposed, u.reshape(-1, 1, 1), state)
            seen = states[:, 0].double().cpu()  # (t, N)
            seen = seen[:, : cell.output_size] if outputs_only else seen
            size = seen.shape[1]
            if part is not None:
                # Row t: u_{t - first_lag} … u_{t-K}.
                count = lags + 1 - first_lag
                past = signal[at - lags : now - first_lag].unfold(0, count, 1).flip(1)
                part.add(torch.cat((seen, torch.ones(len(seen), 1)), 1), past)
            at = now
    if not parts[0].square.isfinite().all():
        raise ValueError("the states left all bounds under this input: there is nothing to read")
    scale = float(parts[0].square.diagonal()[:-1].mean())
    penalty = torch.eye(size + 1, dtype=torch.float64) * max(scale, 1e-300)
    penalty[-1, -1] = 0  # the constant is free
    best: tuple[float, float, Tensor] | None = None
    for factor in penalties:
        weights = torch.linalg.lstsq(
            parts[0].square + factor * penalty, parts[0].cross, driver="gelsd"
        ).solution  # (N + 1, K)
        chosen = float(parts[1].squared_correlation(weights).sum())
        if best is None or chosen > best[0]:
            best = (chosen, factor, weights)
    assert best is not None
    by_lag = parts[2].squared_correlation(best[2])
    return MemoryCapacity(by_lag, first_lag, best[1], size)


class _Moments:
    """Second moments of the states (with a one) and the past inputs, over the steps added."""

    square: Tensor  # (N + 1, N + 1)
    cross: Tensor  # (N + 1, K)
    past: Tensor  # (K): sums of u
    past_square: Tensor  # (K): sums of u²

    def __init__(self) -> None:
        self.steps = 0

    def add(self, states: Tensor, past: Tensor) -> None:
        sums = (states.T @ states, states.T @ past, past.sum(0), past.square().sum(0))
        if self.steps:
            old = (self.square, self.cross, self.past, self.past_square)
            sums = (sums[0] + old[0], sums[1] + old[1], sums[2] + old[2], sums[3] + old[3])
        self.square, self.cross, self.past, self.past_square = sums
        self.steps += len(states)

    def squared_correlation(self, weights: Tensor) -> Tensor:
        """Of ŷ_k = w_k · s and u_{t−k}, (K), from the moments alone."""
        n = self.steps
        read = (self.square[-1] @ weights) / n  # (K) means of ŷ, from the row of the one
        mean = self.past / n
        covariance = (weights * self.cross).sum(0) / n - read * mean
        spread = (weights * (self.square @ weights)).sum(0) / n - read**2
        spread_past = self.past_square / n - mean**2
        found = covariance**2 / (spread * spread_past)
        return torch.where(spread > 1e-30, found, torch.zeros_like(found)).clamp(0, 1)
