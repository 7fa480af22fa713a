"""Series of numbers as data: parts, scales, what is known and what is asked for."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from seqmodels.data.base import SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.series.parts import Part, Scale, baselines, must_vary, scale_of
from seqmodels.data.series.sources import Array, Series, Source
from seqmodels.data.synthetic.loaders import DrawnLoader, FixedLoader
from seqmodels.data.vocabulary import Vocabulary


class SeriesData(DataModule):
    """Series of numbers to be forecast or filtered.

    With the series y, its drive u (there may be none), and the horizon h:

        asked for at step t:  y_{t+h}
        known at step t:      u_t, and with `feedback` y_{t+min(h,1)−1}: the newest value that a
                              model can have made itself, to run on its own (`free_steps`)

    A series is cut into training, validation and test, in this order. Each part is read from
    `washout` steps before its first answer on: in the training part these are its first steps, in
    the others the last ones before them.

    Args:
        source: gives the series.
        train, valid, test: steps of each part; or shares of a series that has an end (a file's),
            together at most 1. valid, test: 0 for none.
        washout: steps, >= 0, whose outputs are not counted.
        horizon: h >= 0; >= 1 where a series is forecast from its own past.
        feedback: whether the series' own past is known. None: where there is no drive.
        scale: of inputs and targets, fitted on the training part alone: "standard" (mean 0,
            deviation 1), "range" (to [-1, 1]) or "none".
        window: steps of the sequences that gradients are computed over, drawn from anywhere in the
            training part, each with its washout before it; None: whole series, one batch.
        batch_size, batches: of an epoch of windows.
        free_steps: for a test without help, so many steps ahead on its own outputs; 0: none.
        free_starts: from so many places of the test part, evenly apart.
        baseline_lags: steps that the linear regression beside the result may read.
        double: batches in float64, for `trainer.precision=64-true`.
        seed: of what is drawn.

    Raises:
        ValueError: a setting out of its range; by `setup`: a series too short, a constant column.
    """

    loss_unit = "squared error"
    targets = "numbers"

    def __init__(
        self,
        source: Source,
        *,
        train: float = 2000,
        valid: float = 500,
        test: float = 1000,
        washout: int = 100,
        horizon: int = 1,
        feedback: bool | None = None,
        scale: Scale = "none",
        window: int | None = None,
        batch_size: int = 32,
        batches: int = 100,
        free_steps: int = 0,
        free_starts: int = 20,
        baseline_lags: int = 10,
        double: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            ("washout", washout, 0), ("horizon", horizon, 0), ("batch_size", batch_size, 1),
            ("batches", batches, 1), ("free_steps", free_steps, 0), ("free_starts", free_starts, 1),
            ("baseline_lags", baseline_lags, 1), ("seed", seed, 0), ("valid", valid, 0),
            ("test", test, 0), ("window", 1 if window is None else window, 1),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"data.{name} must be >= {least}, got {value}")
        if scale not in ("none", "standard", "range"):
            raise ValueError(f"data.scale: expected none, standard or range, got {scale!r}")
        parts = (train, valid, test)
        shares = 0 < train < 1
        if train <= 0 or (shares and (sum(parts) > 1 + 1e-9)):
            raise ValueError(f"data.train, valid, test: expected steps or shares, got {parts}")
        if not shares and any(p != int(p) for p in parts):
            raise ValueError(
                f"data.train, valid, test: expected three numbers of steps, or three shares below "
                f"1, got {parts}"
            )
        if shares and source.endless:
            raise ValueError(f"{source.title} has no end: give train, valid, test as steps")
        self.source, self.parts, self.shares = source, parts, shares
        self.washout, self.horizon, self.scale = washout, horizon, scale
        self.window, self.batch_size, self.batches = window, batch_size, batches
        self.free_steps, self.free_starts = free_steps, free_starts
        self.baseline_lags, self.double, self.seed = baseline_lags, double, seed
        self._feedback_asked = feedback
        self.feedback = 0  # how many of the last inputs are the series' own past
        self._cut: dict[Split, list[Part]] = {}

    # --- reading --------------------------------------------------------------------------------

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None:
            raise ValueError("the model reads text, and these are series of numbers")
        random = np.random.default_rng(self.seed)
        wanted = 0 if self.shares else int(sum(self.parts)) + self.washout + self.horizon + 1
        drawn = self.source.draw(random, wanted)
        driven = drawn[0].inputs is not None
        known = self._feedback_asked if self._feedback_asked is not None else not driven
        if not driven and (not known or self.horizon < 1):
            raise ValueError(
                f"{self.source.title} has no drive: it is forecast from its own past, which needs "
                "data.feedback=true and data.horizon of at least 1"
            )
        self.num_targets = drawn[0].targets.shape[1]
        self.feedback = self.num_targets if known else 0
        aligned = [self._aligned(series) for series in drawn]
        cuts = [self._bounds(inputs, s.name) for (inputs, _), s in zip(aligned, drawn, strict=True)]
        fitted = [(i[: c[1]], t[: c[1]]) for (i, t), c in zip(aligned, cuts, strict=True)]
        self._fit_scales(fitted)
        self._cut = {split: [] for split in SPLITS}
        for (inputs, targets), (first, *ends) in zip(aligned, cuts, strict=True):
            x = (inputs - self._input_scale[0]) / self._input_scale[1]
            y = (targets - self._target_scale[0]) / self._target_scale[1]
            begin = first
            for split, end in zip(SPLITS, ends, strict=True):
                if end > begin:
                    rows = slice(begin - self.washout, end)
                    self._cut[split].append(Part(x[rows], y[rows], self.washout))
                begin = end
        self._check_spread()
        self.num_inputs = aligned[0][0].shape[1]
        if self.free_steps and not (self.feedback and self.horizon <= 1):
            raise ValueError(
                "data.free_steps: running on its own outputs needs data.feedback=true and a "
                f"data.horizon of 1 (or 0), got feedback={bool(self.feedback)}, "
                f"horizon={self.horizon}"
            )

    def _aligned(self, series: Series) -> tuple[Array, Array]:
        """What is known and what is asked for, step by step."""
        y, h = series.targets, self.horizon
        first = 1 if self.feedback and h == 0 else 0
        count = len(y) - first - h
        if count < 2:
            raise ValueError(f"{series.name}: {len(y)} steps are too few for a horizon of {h}")
        columns = []
        if series.inputs is not None:
            columns.append(series.inputs[first : first + count])
        if self.feedback:
            own = first + min(h, 1) - 1
            columns.append(y[own : own + count])
        return np.concatenate(columns, 1), y[first + h : first + h + count]

    def _bounds(self, inputs: Array, name: str) -> tuple[int, int, int, int]:
        """Where answers begin, and where the three parts end."""
        length = len(inputs)
        if self.shares:
            steps = [int(part * length) for part in self.parts]
            steps[0] -= self.washout
        else:
            steps = [int(part) for part in self.parts]
        if self.shares and steps[0] < 1:
            raise ValueError(
                f"{name}: {length} steps are too few: the training part of "
                f"{steps[0] + self.washout} is no longer than the washout of {self.washout}: lower "
                "data.washout, or raise data.train"
            )
        if self.washout + sum(steps) > length:
            raise ValueError(
                f"{name}: {length} steps are too few for a washout of {self.washout} and "
                f"{steps[0]} + {steps[1]} + {steps[2]} steps of training, validation and test: "
                "lower data.washout, or data.train, data.valid and data.test (shares below 1 "
                "fit any length)"
            )
        ends = np.cumsum([self.washout, *steps]).tolist()
        return (ends[0], ends[1], ends[2], ends[3])

    def _fit_scales(self, fitted: list[tuple[Array, Array]]) -> None:
        inputs = np.concatenate([i for i, _ in fitted])
        targets = np.concatenate([t for _, t in fitted])
        drives = inputs[:, : inputs.shape[1] - self.feedback]
        must_vary(targets, f"{self.source.title}: the target", self.source.names)
        must_vary(drives, f"{self.source.title}: the input", self.source.input_names)
        self._target_scale = scale_of(targets, self.scale)
        shift, width = scale_of(inputs, self.scale)
        if self.feedback:  # one scale for a value, whether it is read or made
            shift[-self.feedback :], width[-self.feedback :] = self._target_scale
        self._input_scale = (shift, width)

    def _check_spread(self) -> None:
        """Errors are measured by the deviation of what is asked for."""
        for split in SPLITS[1:]:
            asked = [part.targets[part.lead :] for part in self._cut[split]]
            if asked and bool((np.ptp(np.concatenate(asked), axis=0) == 0).all()):
                raise ValueError(
                    f"{self.source.title}: what is asked for is constant in the part for {split}: "
                    "no error can be measured by its deviation; choose other shares with "
                    "data.train, data.valid and data.test"
                )

    # --- handing out ----------------------------------------------------------------------------

    @property
    def must_be_causal(self) -> bool:
        """Whether what is asked for is among the later inputs: the series' own past is one."""
        return self.feedback > 0

    def sizes(self) -> dict[str, int]:
        return {"num_inputs": self.num_inputs, "num_outputs": self.num_targets}

    def series(self, split: Split) -> list[Part]:
        """The stretches of a part, one for each series."""
        return self._cut[split]

    def _batch(self, parts: list[Part]) -> SequenceBatch:
        kind = torch.float64 if self.double else torch.float32
        inputs = [torch.from_numpy(p.inputs).to(kind) for p in parts]
        targets = [torch.from_numpy(p.targets).to(kind).clone() for p in parts]
        for part, values in zip(parts, targets, strict=True):
            values[: part.lead] = math.nan  # nothing is asked there
        lengths = torch.tensor([len(x) for x in inputs])
        even = int(lengths.min()) == int(lengths.max())
        return SequenceBatch(
            pad_sequence(inputs, batch_first=True),
            pad_sequence(targets, batch_first=True, padding_value=math.nan),
            None if even else lengths,
        )

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        parts = self._cut["train"]
        if self.window is None:
            return self._batch(parts)
        random = np.random.default_rng([self.seed, 1, number])
        span = self.washout + self.window
        room = np.array([max(0, len(p.inputs) - span + 1) for p in parts])
        if not room.any():
            raise ValueError(
                f"data.window: no training series has the {span} steps of a washout of "
                f"{self.washout} and a window of {self.window}"
            )
        places = random.integers(0, room.sum(), self.batch_size)
        starts = np.concatenate([[0], np.cumsum(room)])
        made = []
        for place in places:
            index = int(np.searchsorted(starts, place, side="right")) - 1
            rows = slice(int(place - starts[index]), int(place - starts[index]) + span)
            made.append(Part(parts[index].inputs[rows], parts[index].targets[rows], self.washout))
        return self._batch(made)

    def train_loader(self) -> DrawnLoader:
        whole = self.window is None
        size = len(self._cut["train"]) if whole else self.batch_size
        return DrawnLoader(self.draw, size, 1 if whole else self.batches, repeat=whole)

    def valid_loader(self) -> FixedLoader | None:
        return self._fixed("valid")

    def test_loader(self) -> FixedLoader | None:
        return self._fixed("test")

    def _fixed(self, split: Split) -> FixedLoader | None:
        parts = self._cut[split]
        return FixedLoader([self._batch(parts)], len(parts)) if parts else None

    def describe(self) -> dict[str, Any]:
        counts = {s: sum(len(p.inputs) - p.lead for p in self._cut[s]) for s in SPLITS}
        digest = hashlib.sha256()
        for split in SPLITS:
            for part in self._cut[split]:
                digest.update(np.ascontiguousarray(part.inputs).tobytes())
                digest.update(np.ascontiguousarray(part.targets).tobytes())
        digest.update(repr((self.washout, self.window, self.batch_size, self.double)).encode())
        many = len(self._cut["train"])
        return {
            "summary": f"{self.source.title}: "
            + (f"{many} series, " if many > 1 else "")
            + ", ".join(f"{n:,} steps of {s}" for s, n in counts.items() if n)
            + f"; {self.num_inputs} numbers in, {self.num_targets} out, horizon {self.horizon}",
            "digest": digest.hexdigest(),
            "steps": counts,
            "scale": {
                "kind": self.scale,
                "shift": self._target_scale[0].tolist(),
                "width": self._target_scale[1].tolist(),
            },
        }

    def baselines(self) -> dict[str, float]:
        """Mean squared errors on the validation data (the test data where there is none)."""
        other = self._cut["valid"] or self._cut["test"]
        return baselines(self._cut["train"], other, self.feedback, self.baseline_lags)
