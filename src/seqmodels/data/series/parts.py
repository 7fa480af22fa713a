"""Stretches of series, their scales, and what simple models reach on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqmodels.data.series.sources import Array

Scale = Literal["none", "standard", "range"]


@dataclass(frozen=True)
class Part:
    """A stretch of one series, scaled: at step t `inputs` is known and `targets` asked for.

    inputs (T, I), targets (T, O) float64; the first `lead` steps are there to be read alone.
    """

    inputs: Array
    targets: Array
    lead: int


def scale_of(values: Array, kind: Scale) -> tuple[Array, Array]:
    """Shift and width (C) of the columns (T, C): (value − shift) / width is what models see."""
    low, high = values.min(0), values.max(0)
    if kind == "standard":
        return values.mean(0), values.std(0)
    if kind == "range":
        return (low + high) / 2, (high - low) / 2
    return np.zeros_like(low), np.ones_like(low)


def must_vary(values: Array, what: str, names: Sequence[str]) -> None:
    """Refuses (T, C) with a constant column: nothing can be learnt from it."""
    flat = np.flatnonzero(values.max(0) == values.min(0))
    if len(flat):
        name = repr(names[flat[0]]) if flat[0] < len(names) else str(flat[0])
        raise ValueError(
            f"{what} column {name} is constant ({values[0, flat[0]]:g}) in the training part: "
            "nothing can be learnt from it"
        )


def baselines(
    train: Sequence[Part], other: Sequence[Part], feedback: int, lags: int
) -> dict[str, float]:
    """Mean squared errors on other parts; {} where there are none.

    "the mean" of the training part; "the last value", where the last `feedback` inputs are the
    series' own past; a linear regression on the inputs of the last steps, fitted on the training
    part.
    """
    if not other:
        return {}
    asked = np.concatenate([p.targets[p.lead :] for p in other])
    answers = np.concatenate([p.targets[p.lead :] for p in train])
    found = {"the mean": float(np.square(asked - answers.mean(0)).mean())}
    if feedback:
        last = np.concatenate([p.inputs[p.lead :, -feedback:] for p in other])
        found["the last value"] = float(np.square(asked - last).mean())
    design = np.concatenate([_design(p, lags) for p in train])
    weights = np.linalg.lstsq(design, answers, rcond=None)[0]
    said = np.concatenate([_design(p, lags) for p in other]) @ weights
    found[f"linear regression on {lags} steps"] = float(np.square(asked - said).mean())
    return found


def _design(part: Part, lags: int) -> Array:
    """A row for each answer: the inputs of the last steps, and 1; zeros before the first."""
    length = len(part.inputs)
    padded = np.concatenate([np.zeros((lags - 1, part.inputs.shape[1])), part.inputs])
    rows = [padded[lags - 1 - k : lags - 1 - k + length] for k in range(lags)]
    return np.concatenate([*rows, np.ones((length, 1))], 1)[part.lead :]
