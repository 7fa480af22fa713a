"""Series of numbers whose class is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from seqmodels.data.base import IGNORE, SPLITS, SequenceBatch, Split
from seqmodels.data.labelled.baselines import against_shares
from seqmodels.data.labelled.padded import PaddedClassification, class_numbers, name_classes
from seqmodels.data.labelled.series_files import LabelledSeries, read_labelled_series
from seqmodels.data.labelled.splits import apart
from seqmodels.data.vocabulary import Vocabulary

Array = np.ndarray


class SeriesClassification(PaddedClassification):
    """Series with a class each: which machine, which movement, healthy or not?

        x_t: the C numbers of step t ≤ T_b, the length of the series
        target at step T_b: the class

    Args:
        path: see `seqmodels.data.labelled.read_labelled_series`.
        classes: all labels that there may be, in the order of their numbers; None: those of the
            training series, sorted.
        scale: "standard": each of the C columns has mean 0 and deviation 1 in training; "none".
        valid, test: in (0, 1), shares that are kept for validation and test where there are no such
            sets apart; from each class alike.
        fold, folds, split_seed: see `seqmodels.data.labelled.TextClassification`.
        batch_size: B of training.
        eval_batch_size: does not change the results.
        seed: of the order of training.

    Raises:
        ValueError: a setting out of its range; by `setup`, also OSError: the series are not what
            they should be.
    """

    def __init__(
        self,
        path: str,
        *,
        classes: Sequence[str] | None = None,
        scale: Literal["standard", "none"] = "standard",
        valid: float = 0.1,
        test: float = 0.1,
        fold: int | None = None,
        folds: int = 10,
        split_seed: int = 0,
        batch_size: int = 32,
        eval_batch_size: int = 100,
        seed: int = 0,
    ) -> None:
        if scale not in ("standard", "none"):
            raise ValueError(f"data.scale: expected standard or none, got {scale!r}")
        if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
            raise ValueError(
                "data.valid, data.test: expected shares in (0, 1) that leave something for "
                f"training, got {valid} and {test}"
            )
        for setting, value, least in (
            ("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1),
            ("folds", folds, 2), ("seed", seed, 0), ("split_seed", split_seed, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"data.{setting} must be >= {least}, got {value}")
        if fold is not None and not 0 <= fold < folds:
            raise ValueError(f"data.fold must lie in 0 … {folds - 1}, got {fold}")
        if classes is not None and len(set(classes)) < max(2, len(classes)):
            raise ValueError(f"data.classes: expected two or more different, got {list(classes)}")
        self.path, self.scale = path, scale
        self.class_names: list[str] = [] if classes is None else [str(c) for c in classes]
        self.shares: dict[Split, float] = {"valid": valid, "test": test}
        self.fold, self.folds, self.split_seed = fold, folds, split_seed
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self._series: dict[Split, list[Array]] = {}  # (T, C) float32 each
        self._labels: dict[Split, Array] = {}  # (N) int64

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None:
            raise ValueError(
                f"the model reads text with a vocabulary of {len(vocabulary)} symbols, and these "
                "are series: they are not the data of that model"
            )
        read = read_labelled_series(self.path)
        labels = [series.label for series in read["train"]]
        self.class_names = name_classes(labels, self.class_names, self.path, "data.path")
        found: dict[Split, list[LabelledSeries]] = apart(
            read, shares=self.shares, fold=self.fold, folds=self.folds, seed=self.split_seed,
            shown=self.path,
        )  # fmt: skip
        self._labels = class_numbers(
            {split: [series.label for series in each] for split, each in found.items()},
            {split: [series.place for series in each] for split, each in found.items()},
            self.class_names,
            self.path,
        )
        steps = np.concatenate([series.values for series in found["train"]]).astype(np.float64)
        mean, deviation = steps.mean(0), steps.std(0)
        if self.scale == "none":
            mean, deviation = np.zeros_like(mean), np.ones_like(mean)
        deviation = np.where(deviation > 0, deviation, 1.0)  # a column that never changes
        self._series = {
            split: [((s.values - mean) / deviation).astype(np.float32) for s in each]
            for split, each in found.items()
        }

    def sizes(self) -> dict[str, int]:
        return {
            "num_inputs": self._series["train"][0].shape[1],
            "num_outputs": len(self.class_names),
        }

    def _lengths(self, split: Split) -> Array:
        return np.array([len(series) for series in self._series[split]])

    def _batch(self, split: Split, rows: Array) -> SequenceBatch:
        chosen = [self._series[split][row] for row in rows]
        lengths = np.array([len(series) for series in chosen])
        inputs = np.zeros((len(rows), lengths.max(), chosen[0].shape[1]), np.float32)
        targets = np.full(inputs.shape[:2], IGNORE, np.int64)
        for row, series in enumerate(chosen):
            inputs[row, : len(series)] = series
        targets[np.arange(len(rows)), lengths - 1] = self._labels[split][rows]
        tensors = map(torch.from_numpy, (inputs, targets, lengths))
        return SequenceBatch(*tensors)

    def describe(self) -> dict[str, Any]:
        settings = [self.class_names, self.batch_size, self.seed]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for split in SPLITS:
            digest.update(self._labels[split].tobytes())
            for series in self._series[split]:
                digest.update(series.tobytes())
        counts = {split: len(self._series[split]) for split in SPLITS}
        lengths = np.concatenate([self._lengths(split) for split in SPLITS])
        classes = ", ".join(self.class_names[:8]) + (" …" if len(self.class_names) > 8 else "")
        return {
            "summary": f"{self.path}: "
            + ", ".join(f"{n:,} {s}" for s, n in counts.items())
            + f" series of {lengths.min()} to {lengths.max()} steps of {self.sizes()['num_inputs']}"
            f"; {len(self.class_names)} classes ({classes})",
            "digest": digest.hexdigest(),
            "series": counts,
            "classes": self.class_names,
        }

    def baselines(self) -> dict[str, float]:
        """Cross-entropy of the classes' shares, and of logistic regression on what has no order:
        each column's mean, deviation, least and greatest value."""
        rows = {split: [_summary(s) for s in self._series[split]] for split in ("train", "valid")}
        return against_shares(
            "logistic regression on means and ranges",
            np.array(rows["train"]),
            np.array(rows["valid"]),
            self._labels,
            len(self.class_names),
        )


def _summary(series: Array) -> Array:
    return np.concatenate([series.mean(0), series.std(0), series.min(0), series.max(0)])
