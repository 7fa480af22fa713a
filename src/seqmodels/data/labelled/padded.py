"""Items of many lengths with a class each, as padded batches of like lengths."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import partial

import numpy as np

from seqmodels.data.base import DataModule, SequenceBatch, Split
from seqmodels.data.labelled.batches import Listed, mixed_batches, sorted_batches
from seqmodels.data.synthetic.loaders import DrawnLoader


class PaddedClassification(DataModule):
    """Batches padded to their longest item; the class is asked for at each item's last step.

    Attributes:
        batch_size: B of training; every epoch has a new order.
        eval_batch_size: does not change the results.
        seed: of the order of training.
    """

    targets = "classes"
    batch_size: int
    eval_batch_size: int
    seed: int
    _drawn: tuple[int, list[np.ndarray]] = (-1, [])  # an epoch, and its batches

    @abstractmethod
    def _lengths(self, split: Split) -> np.ndarray:
        """(N,) of the items."""

    @abstractmethod
    def _batch(self, split: Split, rows: np.ndarray) -> SequenceBatch:
        """The batch of these items."""

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        lengths = self._lengths("train")
        epoch, place = divmod(number, -(-len(lengths) // self.batch_size))
        if self._drawn[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._drawn = (epoch, mixed_batches(lengths, self.batch_size, random))
        return self._batch("train", self._drawn[1][place])

    def train_loader(self) -> DrawnLoader:
        batches = -(-len(self._lengths("train")) // self.batch_size)
        return DrawnLoader(self.draw, self.batch_size, batches)

    def valid_loader(self) -> Listed:
        return self._listed("valid")

    def test_loader(self) -> Listed:
        return self._listed("test")

    def _listed(self, split: Split) -> Listed:
        batches = sorted_batches(self._lengths(split), self.eval_batch_size)
        return Listed(partial(self._batch, split), batches, self.eval_batch_size)


def name_classes(labels: list[str], given: list[str], shown: str, setting: str) -> list[str]:
    """The classes in the order of their numbers: the given ones; else those that come, sorted.

    Raises:
        ValueError: fewer than two, or so many that they are none; `setting` says where they stand.
    """
    names = given or sorted(set(labels), key=_in_order)
    if len(names) < 2:
        raise ValueError(
            f"{shown}: all examples have the label {labels[0]!r}: there is nothing to tell apart"
        )
    if len(names) > 1000:
        raise ValueError(
            f"{shown}: {len(names):,} different labels, such as {labels[0]!r}: is {setting} the "
            "right one?"
        )
    return names


def class_numbers(
    labels: dict[Split, list[str]], places: dict[Split, list[str]], names: list[str], shown: str
) -> dict[Split, np.ndarray]:
    """(N,) int64 of every split.

    Raises:
        ValueError: a label that is none of the names, with its place; a name that no training
            example has.
    """
    numbers = {name: number for number, name in enumerate(names)}
    found = {}
    for split, own in labels.items():
        for label, place in zip(own, places[split], strict=True):
            if label not in numbers:
                raise ValueError(f"{place}: the label {label!r} is none of {', '.join(names)}")
        found[split] = np.array([numbers[label] for label in own], np.int64)
    missing = set(range(len(names))) - set(found["train"].tolist())
    if missing:
        raise ValueError(f"{shown}: the class {names[min(missing)]!r} has no example for training")
    return found


def _in_order(label: str) -> tuple[float, str]:
    """Numbers by their size, and before words."""
    return (float(label), "") if re.fullmatch(r"-?\d+", label) else (float("inf"), label)
