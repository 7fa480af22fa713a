"""How long two things take beside each other on a machine that does other work too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

LEAST, MOST = 3, 500


@dataclass(frozen=True)
class Pairs:
    """Seconds of two calls made in turn, pair by pair."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The median of ours."""
        return statistics.median(self.ours)

    @property
    def reference_seconds(self) -> float:
        """The median of theirs."""
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """Of the medians; below 1 ours is faster."""
        return self.seconds / self.reference_seconds

    def quartiles(self) -> tuple[float, float]:
        """Of the ratios of the pairs: how sure the ratio is."""
        ratios = sorted(a / b for a, b in zip(self.ours, self.theirs, strict=True))
        if len(ratios) < 2:
            return ratios[0], ratios[0]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return low, high


def seconds_of(call: Callable[[], object]) -> float:
    """One call by the wall clock."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleave(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    seconds: float,
    pairs: int | None = None,
) -> Pairs:
    """Call both in turn, who comes first alternating, after a warm-up of one pair.

    Args:
        ours, theirs: what is timed.
        seconds: no new pair begins after this time, but for the first LEAST.
        pairs: how many, whatever the time; None lets the time decide, up to MOST.
    """
    ours()
    theirs()
    found: tuple[list[float], list[float]] = ([], [])
    begin = time.perf_counter()
    while True:
        count = len(found[0])
        if pairs is not None:
            if count >= pairs:
                break
        elif count >= MOST or (count >= LEAST and time.perf_counter() - begin > seconds):
            break
        for side in (0, 1) if count % 2 == 0 else (1, 0):
            found[side].append(seconds_of((ours, theirs)[side]))
    return Pairs(tuple(found[0]), tuple(found[1]))
