"""Training, validation and test from one set of labelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from seqmodels.data.base import SPLITS, Split


class Labelled(Protocol):
    """Anything with a class."""

    @property
    def label(self) -> str: ...


E = TypeVar("E", bound=Labelled)


def apart(
    examples: dict[Split, list[E]],
    *,
    shares: dict[Split, float],
    fold: int | None,
    folds: int,
    seed: int,
    shown: str,
) -> dict[Split, list[E]]:
    """The three splits; what has no set apart is taken from training, of each class alike.

    Args:
        examples: "train" among them.
        shares: of training, for "valid" and "test".
        fold: the test is this one of so many `folds`; None: the share of "test".
        seed: of what is kept for which.
        shown: what to call the data in messages.

    Raises:
        ValueError: a split has nothing; a fold is asked for and there is a test set.
    """
    if fold is not None and "test" in examples:
        raise ValueError(
            f"data.fold={fold}: {shown} has a test set of its own; leave data.fold null, or give "
            "the training file alone"
        )
    rest = examples["train"]
    order = dealt(rest, seed)
    found: dict[Split, list[E]] = {}
    if fold is not None:
        # Stretches: every k-th of an order in which two classes take turns would be of one class.
        parts = np.array_split(order, folds)
        found["test"] = [rest[i] for i in parts.pop(fold)]
        order = np.concatenate(parts)
    elif "test" not in examples:
        count = max(1, round(shares["test"] * len(rest)))
        found["test"] = [rest[i] for i in order[:count]]
        order = order[count:]
    if "valid" not in examples:
        count = max(1, round(shares["valid"] * len(order)))
        found["valid"] = [rest[i] for i in order[:count]]
        order = order[count:]
    found["train"] = [rest[i] for i in order]
    found = {**examples, **found}
    for split in SPLITS:
        if not found[split]:
            raise ValueError(f"{shown}: {len(rest)} examples leave none for {split}")
    return {split: found[split] for split in SPLITS}


def dealt(examples: Sequence[Labelled], seed: int) -> np.ndarray:
    """An order in which every stretch has the classes' shares, as nearly as may be."""
    random = np.random.default_rng([seed, 7])
    labels = np.array([example.label for example in examples])
    places = np.empty(len(examples))  # in [0, 1): those of one class are spread evenly
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        places[own] = (np.arange(len(own)) + random.random()) / len(own)
    return np.argsort(places, kind="stable")
