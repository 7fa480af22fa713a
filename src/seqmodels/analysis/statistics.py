"""What a few repetitions say about a mean, and about the difference of two."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

BOOTSTRAP_FROM = 10  # repetitions from which on the bootstrap takes Student's place
RESAMPLES = 9999


class Interval(NamedTuple):
    """A mean and its 95 % interval; NaN where there are too few values."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean and its 95 % interval: Student's t below ten values, from ten on the bootstrap.

    The bootstrap is bias-corrected and accelerated, of 9,999 resamples with a fixed seed.

    Reference: Efron, "Better bootstrap confidence intervals", Journal of the American Statistical
    Association 82 (1987). https://doi.org/10.1080/01621459.1987.10478410
    """
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    if len(values) < BOOTSTRAP_FROM or len(set(values)) == 1:
        half = student(values)
        return Interval(mean, mean - half, mean + half)
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def student(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean by Student's t; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    from scipy.stats import t

    factor = float(t.ppf(0.975, len(values) - 1))
    return factor * statistics.stdev(values) / math.sqrt(len(values))


class Paired(NamedTuple):
    """The mean of differences over pairs, its 95 % interval, and p of Student's paired test."""

    pairs: int
    difference: Interval
    p: float


def paired(values: dict[int, float], baseline: dict[int, float]) -> Paired:
    """value − baseline over the repetitions (seeds) that both have; p is NaN below two pairs."""
    common = sorted(values.keys() & baseline.keys())
    differences = [values[seed] - baseline[seed] for seed in common]
    if len(common) < 2:
        return Paired(len(common), mean_interval(differences), math.nan)
    from scipy.stats import t

    spread = statistics.stdev(differences)
    mean = statistics.fmean(differences)
    if spread == 0.0:
        p = 1.0 if mean == 0.0 else 0.0
    else:
        p = 2 * float(t.sf(abs(mean) / (spread / math.sqrt(len(common))), len(common) - 1))
    return Paired(len(common), mean_interval(differences), p)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number, so that the chance of any false one stays below 5 %.

    NaN stays NaN and does not count.

    Reference: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979), https://www.jstor.org/stable/4615733.
    """
    there = [i for i, p in enumerate(values) if not math.isnan(p)]
    corrected = [math.nan] * len(values)
    largest = 0.0
    for place, index in enumerate(sorted(there, key=lambda i: values[i])):
        largest = max(largest, min(1.0, (len(there) - place) * values[index]))
        corrected[index] = largest
    return corrected
