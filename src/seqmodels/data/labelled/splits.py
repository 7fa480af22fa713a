"""Training, validation and test from one set of labelled texts."""

from __future__ import annotations

import numpy as np

from seqmodels.data.base import SPLITS, Split
from seqmodels.data.labelled.tables import Example


def apart(
    examples: dict[Split, list[Example]],
    *,
    shares: dict[Split, float],
    fold: int | None,
    folds: int,
    seed: int,
    shown: str,
) -> dict[Split, list[Example]]:
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
    found: dict[Split, list[Example]] = {}
    if fold is not None:
        found["test"] = [rest[i] for i in order[fold::folds]]
        order = np.concatenate([order[k::folds] for k in range(folds) if k != fold])
    elif "test" not in examples:
        count = max(1, round(shares["test"] * len(rest)))
        found["test"] = [rest[i] for i in order[:count]]
        order = order[count:]
    if "valid" not in examples:
        count = max(1, round(shares["valid"] * len(order)))
        if fold is not None:  # folds lie one behind the other: no stretch has the classes' shares
            order = order[np.argsort(_places(rest, order, seed), kind="stable")]
        found["valid"] = [rest[i] for i in order[:count]]
        order = order[count:]
    found["train"] = [rest[i] for i in order]
    found = {**examples, **found}
    for split in SPLITS:
        if not found[split]:
            raise ValueError(f"{shown}: {len(rest)} texts leave none for {split}")
    return {split: found[split] for split in SPLITS}


def dealt(examples: list[Example], seed: int) -> np.ndarray:
    """An order in which every stretch has the classes' shares, as nearly as may be."""
    return np.argsort(_places(examples, np.arange(len(examples)), seed), kind="stable")


def _places(examples: list[Example], rows: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each of the rows: those of one class are spread evenly."""
    random = np.random.default_rng([seed, 7])
    labels = np.array([examples[row].label for row in rows])
    places = np.empty(len(rows))
    for label in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == label))
        places[own] = (np.arange(len(own)) + random.random()) / len(own)
    return places
