"""Batches of items of many lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from seqmodels.data.base import SequenceBatch

TOGETHER = 50  # batches whose items are sorted by length together, in training


def mixed_batches(
    lengths: np.ndarray, batch_size: int, random: np.random.Generator
) -> list[np.ndarray]:
    """All items once, in a random order of batches of like lengths.

    Each stretch of 50 batches of a random order is sorted by length before it is cut.
    """
    order = random.permutation(len(lengths))
    stretch = TOGETHER * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), stretch):
        batches += sorted_batches(lengths, batch_size, order[start : start + stretch])
    return [batches[i] for i in random.permutation(len(batches))]


def sorted_batches(
    lengths: np.ndarray, batch_size: int, rows: np.ndarray | None = None
) -> list[np.ndarray]:
    """The items (None: all), the shortest first, cut into batches."""
    rows = np.arange(len(lengths)) if rows is None else rows
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    return [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]


class Listed:
    """Given batches, the same at every pass; each is made when it is due.

    Args:
        make: called with the numbers of the items of a batch.
        batches: those numbers.
        batch_size: B; a batch may have fewer.
    """

    def __init__(
        self,
        make: Callable[[np.ndarray], SequenceBatch],
        batches: Sequence[np.ndarray],
        batch_size: int,
    ) -> None:
        self.make, self.batches, self.batch_size = make, list(batches), batch_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[SequenceBatch]:
        return map(self.make, self.batches)
