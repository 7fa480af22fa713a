"""Answers at chosen steps of a sequence: classes or numbers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seqmodels.data.base import IGNORE, Loader, SequenceBatch
from seqmodels.data.series import SeriesData
from seqmodels.training.causality import refuse_sight_of_later_inputs
from seqmodels.training.clipping import Clip
from seqmodels.training.schedules import Schedule
from seqmodels.training.series_scores import Scores, free_runs, free_scores
from seqmodels.training.task import OptimizerFactory, SequenceTask, Stage, StepResult

SOLVED = (
    0.01  # share of wrong sequences below which a length counts as solved (Pascanu et al. 2013)
)


class AnsweredData(Protocol):
    """What a task needs to know of its data; `seqmodels.data.synthetic.SyntheticData` is one."""

    targets: str  # "classes" or "numbers"

    def train_loader(self) -> Loader: ...

    def valid_loader(self) -> Loader | None: ...


class Prediction(SequenceTask):
    """The mean loss over the steps where an answer is asked for; every sequence stands alone.

    In evaluation it counts `errors`, the sequences with a wrong answer, also for each number of
    steps where there are several, and then `solved_length`: the longest with less than 1 % wrong,
    if no shorter one has more; 0 if there is none.

    Args:
        model: gives (B, T, O).
        optimizer, schedule, clip, omega, ar, tar: see `SequenceTask`.
        data: for the kind of its targets and its number of batches.

    Raises:
        ValueError: the data asks for something else, or for what later inputs hold
            (`must_be_causal`) while a layer of the model reads those.
    """

    asks_for: str

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: AnsweredData,
        omega: float = 0.0,
        ar: float = 0.0,
        tar: float = 0.0,
    ) -> None:
        targets = getattr(data, "targets", "next tokens")
        if targets != self.asks_for:
            fitting = {
                "classes": "classification", "numbers": "regression", "notes": "notes",
                "sequences": "seq2seq",
            }  # fmt: skip
            raise ValueError(
                f"this task predicts {self.asks_for}, and the data asks for {targets}: "
                f"choose task={fitting.get(targets, 'language_model')}"
            )
        # A series forecast from its own past, a word of which the next letter is asked for.
        causal = type(self).must_be_causal or bool(getattr(data, "must_be_causal", False))
        if causal:
            refuse_sight_of_later_inputs(model)
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            carry_state=False,
            batches_per_epoch=len(data.train_loader()),
            omega=omega,
            ar=ar,
            tar=tar,
        )
        self.data = data
        self.must_be_causal = causal
        self._tallies: dict[str, Tensor] = {}

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) from the N answers that are asked for: outputs (N, O), targets (N) or (N, O)."""

    @abstractmethod
    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,) bool: which of them count as right."""

    @abstractmethod
    def asked(self, targets: Tensor) -> Tensor:
        """(B, T) bool: where an answer is asked for."""

    def step(self, batch: SequenceBatch, state: Any) -> StepResult:
        outputs, state = self.model(batch.inputs, state, batch.lengths)  # (B, T, O)
        asked = self.asked(batch.targets)  # (B, T)
        chosen, targets = outputs[asked], batch.targets[asked]  # (N, O), (N) or (N, O)
        count = asked.sum()
        if not self.training:
            self._tally(asked, chosen, targets, batch.lengths is not None)
        return StepResult(self.losses(chosen, targets).mean(), count, state)

    def loss_at(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.losses(outputs, targets).sum()

    def _tally(self, asked: Tensor, outputs: Tensor, targets: Tensor, padded: bool) -> None:
        right = self.right(outputs, targets)
        wrong = asked.clone()  # (B, T)
        wrong[asked] = ~right
        steps = 0 if padded else asked.shape[1]  # 0: of many lengths
        for name, value in (
            ("answers", asked.sum()),
            ("right", right.sum()),
            (f"sequences/{steps}", asked.any(1).sum()),
            (f"errors/{steps}", wrong.any(1).sum()),
        ):
            self._tallies[name] = self._tallies.get(name, 0) + value

    def _start_evaluation(self) -> None:
        super()._start_evaluation()
        self._tallies = {}

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit":
            self._tallies = {}  # they are no part of what training reports

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        values = {"loss": loss}
        if not self._tallies:
            return values
        counts = {name: int(value) for name, value in self._tallies.items()}
        values["accuracy"] = counts["right"] / counts["answers"]
        steps = sorted(int(n.partition("/")[2]) for n in counts if n.startswith("errors/"))
        errors = [counts[f"errors/{n}"] for n in steps]
        values["errors"] = float(sum(errors))
        if len(steps) > 1:
            values |= {f"errors_{n}_steps": float(e) for n, e in zip(steps, errors, strict=True)}
            solved = 0
            for n, wrong in zip(steps, errors, strict=True):
                if wrong >= SOLVED * counts[f"sequences/{n}"]:
                    break
                solved = n
            values["solved_length"] = float(solved)
        return values


class Classification(Prediction):
    """Cross-entropy −log p(class), in nats; right is the likeliest class.

    Of data that names its classes it reports `macro_f1` too, the mean over the classes that there
    are of F1 = 2 TP / (2 TP + FP + FN), and keeps which class was taken for which.

    Args: see `Prediction`.

    Attributes:
        confusion: (O, O) int64, counts by true class and by answer of the last evaluation; None
            where the data does not name its classes.
    """

    asks_for = "classes"
    confusion: Tensor | None = None

    @property
    def class_names(self) -> list[str]:
        """Empty where the data does not name them."""
        return list(getattr(self.data, "class_names", []))

    def _start_evaluation(self) -> None:
        super()._start_evaluation()
        count = len(self.class_names)
        self.confusion = torch.zeros(count, count, dtype=torch.int64) if count else None

    def _tally(self, asked: Tensor, outputs: Tensor, targets: Tensor, padded: bool) -> None:
        super()._tally(asked, outputs, targets, padded)
        if self.confusion is not None:
            count = len(self.confusion)
            pairs = (targets * count + outputs.argmax(1)).cpu()
            found = torch.bincount(pairs, minlength=count * count)
            self.confusion += found.view(count, count)

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        values = super().metrics(stage, loss)
        if stage != "train" and self.confusion is not None:
            values["macro_f1"] = macro_f1(self.confusion)
        return values

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(1) == targets

    def asked(self, targets: Tensor) -> Tensor:
        return targets != IGNORE


class Tagging(Classification):
    """A class for every step of a sequence: cross-entropy over steps, in nats.

    The loss and `accuracy` are means over steps; `sequence_accuracy` is the share of sequences
    without a wrong answer. What comes after a step may decide its class, so that layers in both
    directions are welcome.

    Args: see `Prediction`.

    Raises:
        ValueError: the model gives one answer for the whole sequence, or the data asks for
            something else than classes.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: AnsweredData,
        omega: float = 0.0,
        ar: float = 0.0,
        tar: float = 0.0,
    ) -> None:
        if getattr(model, "pool", None) is not None:
            raise ValueError(
                "task=tagging asks for a class at every step, and model.pooling makes one answer "
                "of the whole sequence: set model.pooling=none"
            )
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            data=data,
            omega=omega,
            ar=ar,
            tar=tar,
        )

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        values = super().metrics(stage, loss)
        if self._tallies:
            counts = {name: int(value) for name, value in self._tallies.items()}
            count = sum(n for name, n in counts.items() if name.startswith("sequences/"))
            values["sequence_accuracy"] = 1.0 - values["errors"] / count
        return values


def macro_f1(confusion: Tensor) -> float:
    """The mean F1 of the classes that are true or answered at least once: confusion (O, O)."""
    hits = confusion.diagonal().double()
    either = (confusion.sum(0) + confusion.sum(1)).double()  # 2 TP + FP + FN
    there = either > 0
    return float((2 * hits[there] / either[there]).mean())


class Regression(Prediction):
    """Mean squared error; right is what lies within `tolerance` of every number.

    Of series (`seqmodels.data.series`) it reports NRMSE, NMSE and R² instead, and how a model does
    on its own outputs where the data asks for that (`seqmodels.training.series_scores`).

    Args:
        tolerance: > 0; 0.04 is that of the adding problem of Hochreiter & Schmidhuber 1997.
        others: see `Prediction`.
    """

    asks_for = "numbers"

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: AnsweredData,
        omega: float = 0.0,
        ar: float = 0.0,
        tar: float = 0.0,
        tolerance: float = 0.04,
    ) -> None:
        if not tolerance > 0.0:
            raise ValueError(f"tolerance must be > 0, got {tolerance}")
        self._series = data if isinstance(data, SeriesData) else None
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            data=data,
            omega=omega,
            ar=ar,
            tar=tar,
        )
        self.tolerance = tolerance
        self._scores = Scores()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets).abs() <= self.tolerance).all(1)

    def asked(self, targets: Tensor) -> Tensor:
        return ~targets.isnan().any(2)

    def _start_evaluation(self) -> None:
        super()._start_evaluation()
        known = self._series is not None and self._series.source.capacity
        self._scores = Scores(capacity=known)

    def _tally(self, asked: Tensor, outputs: Tensor, targets: Tensor, padded: bool) -> None:
        if self._series is None:
            super()._tally(asked, outputs, targets, padded)
        else:
            self._scores.add(outputs, targets)

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        values = super().metrics(stage, loss)
        if self._series is not None and stage != "train":
            values |= self._scores.values()
            read = getattr(self.model, "num_features", None)
            if self._scores.capacity and read is not None:
                # No linear reader of so many numbers remembers more (Jaeger 2001).
                values["memory_bound"] = float(min(read, self._series.num_targets))
            runs = free_runs(self.model, self._series) if stage == "test" else None
            if runs is not None:
                values |= free_scores(*runs, self._series)
        return values
