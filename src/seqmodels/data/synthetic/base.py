"""A problem, which is a definition; and the data drawn from it: splits, lengths, seeds, batches."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from seqmodels.data.base import IGNORE, SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.synthetic.loaders import DrawnLoader, FixedLoader
from seqmodels.data.vocabulary import Vocabulary

Targets = Literal["classes", "numbers", "sequences"]
UNITS: dict[Targets, str] = {"classes": "nats", "numbers": "squared error", "sequences": "nats"}


class Problem(ABC):
    """What there is to be learnt: how sequences of a length are drawn, and what a guess reaches.

    A dataclass, whose fields are its settings. A batch holds

        inputs   (B, T) int64, symbols from 0 to num_inputs − 1; or (B, T, num_inputs) float32
        targets  "classes": (B, T) int64, from 0 to num_outputs − 1, IGNORE where nothing is asked;
                 "numbers": (B, T, num_outputs) float32, NaN where nothing is asked

    Attributes:
        name: in words.
        targets: what is predicted.
        shortest: the least length for which the definition holds.
        class_names: of "classes", where they have names.
        must_be_causal: whether what is asked for at a step is told by later inputs, so that no
            model may read those.
    """

    name: ClassVar[str]
    targets: ClassVar[Targets]
    shortest: ClassVar[int]
    class_names: ClassVar[tuple[str, ...]] = ()
    must_be_causal: ClassVar[bool] = False

    @property
    @abstractmethod
    def num_inputs(self) -> int:
        """How many symbols there are, or how many numbers a step has."""

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """How many classes there are, or how many numbers a step asks for."""

    @abstractmethod
    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        """`count` independent sequences.

        Args:
            random: the only source of chance.
            count: B ≥ 1.
            length: ≥ shortest; T itself, unless the problem says otherwise.
        """

    @abstractmethod
    def baselines(self, length: int) -> dict[str, float]:
        """Mean losses of guesses that need no memory, exact; {} where none is known."""

    def mean_baselines(self, lengths: Sequence[int], answers: Sequence[float]) -> dict[str, float]:
        """The means of `baselines` over these lengths, each with the weight of its answers."""
        each = [self.baselines(length) for length in lengths]
        return {
            name: sum(n * one[name] for n, one in zip(answers, each, strict=True)) / sum(answers)
            for name in each[0]
        }


class SyntheticData(DataModule):
    """Sequences drawn from a problem, a function of (seed, split, number) alone.

    Training never ends and never repeats itself, unless it is told to: an epoch is only so many
    batches, and batch n of a seed is the same in every run, whenever it was interrupted. The
    sequences for validation and test are fixed, and the same for every seed of the training.

    Args:
        problem: the definition.
        length: of the training sequences; [least, greatest]: each batch has a length of its own,
            uniform between them, both included.
        valid_lengths: of the validation sequences; None: those of `length`.
        test_lengths: of the test sequences, such as longer ones; None: those of validation.
        batch_size: B in training.
        batches: of an epoch.
        repeat: every epoch has the same sequences, a training set of batches · batch_size.
        valid_sequences, test_sequences: how many of each length.
        eval_batch_size: does not change the results.
        seed: of the training sequences.
        eval_seed: of the sequences for validation and test.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        length: int | Sequence[int] = 100,
        valid_lengths: Sequence[int] | None = None,
        test_lengths: Sequence[int] | None = None,
        batch_size: int = 20,
        batches: int = 1000,
        repeat: bool = False,
        valid_sequences: int = 1000,
        test_sequences: int = 1000,
        eval_batch_size: int = 250,
        seed: int = 0,
        eval_seed: int = 0,
    ) -> None:
        bounds = [length, length] if isinstance(length, int) else list(length)
        if len(bounds) != 2 or bounds[0] > bounds[1]:
            raise ValueError(
                f"data.length: expected a number or [least, greatest], got {list(bounds)}"
            )
        self.problem = problem
        self.length: tuple[int, int] = (bounds[0], bounds[1])
        of_training = sorted(set(self.length))
        valid = of_training if valid_lengths is None else list(valid_lengths)
        test = valid if test_lengths is None else list(test_lengths)
        self.lengths: dict[Split, list[int]] = {"train": of_training, "valid": valid, "test": test}
        for split, lengths in self.lengths.items():
            name = "data.length" if split == "train" else f"data.{split}_lengths"
            if not lengths or min(lengths) < problem.shortest or len(set(lengths)) < len(lengths):
                raise ValueError(
                    f"{name}: {problem.name} needs different lengths of at least "
                    f"{problem.shortest}, got {lengths}"
                )
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("batches", batches, 1),
            ("valid_sequences", valid_sequences, 1),
            ("test_sequences", test_sequences, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("seed", seed, 0),
            ("eval_seed", eval_seed, 0),
        ):
            if value < least:
                raise ValueError(f"data.{name} must be >= {least}, got {value}")
        self.batch_size = batch_size
        self.batches = batches
        self.repeat = repeat
        self.counts: dict[Split, int] = {"valid": valid_sequences, "test": test_sequences}
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.eval_seed = eval_seed
        self.targets: Targets = problem.targets
        self.loss_unit = UNITS[problem.targets]
        self.class_names = list(problem.class_names)
        self.must_be_causal = problem.must_be_causal

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None:
            raise ValueError(
                f"the model reads text with a vocabulary of {len(vocabulary)} symbols, and "
                f"{self.problem.name} has none: it is not the data of that model"
            )

    def sizes(self) -> dict[str, int]:
        return {"num_inputs": self.problem.num_inputs, "num_outputs": self.problem.num_outputs}

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        random = self._generator("train", number)
        least, greatest = self.length
        length = least if least == greatest else int(random.integers(least, greatest + 1))
        return self.problem.draw(random, self.batch_size, length)

    def _generator(self, split: Split, number: int) -> np.random.Generator:
        seed = self.seed if split == "train" else self.eval_seed
        return np.random.default_rng([seed, SPLITS.index(split), number])

    def train_loader(self) -> DrawnLoader:
        return DrawnLoader(self.draw, self.batch_size, self.batches, repeat=self.repeat)

    def valid_loader(self) -> FixedLoader:
        return self._fixed("valid")

    def test_loader(self) -> FixedLoader:
        return self._fixed("test")

    def _fixed(self, split: Split) -> FixedLoader:
        sets = [self._whole(split, length, self.counts[split]) for length in self.lengths[split]]
        return FixedLoader(sets, self.eval_batch_size)

    def _whole(self, split: Split, length: int, count: int) -> SequenceBatch:
        return self.problem.draw(self._generator(split, length), count, length)

    def describe(self) -> dict[str, Any]:
        problem = self.problem
        settings: dict[str, Any] = {}
        if dataclasses.is_dataclass(problem):
            settings = dataclasses.asdict(problem)
        shown = "–".join(map(str, self.lengths["train"]))
        tested = ", ".join(map(str, self.lengths["test"]))
        how = f"{self.batches:,} batches of {self.batch_size}" + (
            "" if self.repeat else ", new at every epoch"
        )
        return {
            "summary": f"{problem.name}: length {shown} in {how}; "
            f"test on {self.counts['test']:,} each of length {tested}",
            "digest": self._digest(settings),
            "problem": {"name": problem.name, **settings},
            "lengths": {split: list(lengths) for split, lengths in self.lengths.items()},
            "sequences": {split: self.counts[split] for split in ("valid", "test")},
        }

    def _digest(self, settings: dict[str, Any]) -> str:
        """Of all that decides the sequences, and of some, should the definition's code change."""
        plain = [
            type(self.problem).__qualname__,
            settings,
            self.length,
            [self.lengths[split] for split in SPLITS],
            [self.batch_size, self.batches if self.repeat else None],
            [self.counts["valid"], self.counts["test"], self.seed, self.eval_seed],
        ]
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for batch in (self.draw(0), self._whole("test", self.lengths["test"][0], 8)):
            digest.update(batch.inputs.numpy().tobytes())
            digest.update(batch.targets.numpy().tobytes())
        return digest.hexdigest()

    def baselines(self) -> dict[str, float]:
        """Means over the answers of the validation data, as its loss is."""
        lengths = self.lengths["valid"]
        answers = [1]
        if len(lengths) > 1:
            answers = [_answers(self._whole("valid", n, self.counts["valid"])) for n in lengths]
        return self.problem.mean_baselines(lengths, answers)


def _answers(batch: SequenceBatch) -> int:
    targets = batch.targets
    if targets.is_floating_point():
        return int((~targets.isnan()).any(-1).sum())
    return int((targets != IGNORE).sum())
