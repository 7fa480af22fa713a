"""Recall: a symbol of some steps ago, or the one that belonged to a key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets
from seqmodels.data.synthetic.counting import batch


@dataclass(frozen=True)
class DelayedRecall(Problem):
    """Delayed recall: of uniform symbols x_t, say x_{t−d} at every step from d + 1 on.

    Args:
        delay: d ≥ 1.
        alphabet: N ≥ 2 different symbols.

    Without memory a guess loses ln N nats.
    """

    delay: int = 10
    alphabet: int = 4

    name: ClassVar[str] = "delayed recall"
    targets: ClassVar[Targets] = "classes"

    def __post_init__(self) -> None:
        if self.delay < 1 or self.alphabet < 2:
            raise ValueError(
                "data.problem: expected delay >= 1 and alphabet >= 2, got "
                f"{self.delay} and {self.alphabet}"
            )

    @property
    def shortest(self) -> int:  # type: ignore[override]
        return self.delay + 1

    @property
    def num_inputs(self) -> int:
        return self.alphabet

    @property
    def num_outputs(self) -> int:
        return self.alphabet

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        symbols = random.integers(0, self.alphabet, (count, length))
        targets = np.full((count, length), IGNORE)
        targets[:, self.delay :] = symbols[:, : -self.delay]
        return batch(symbols, targets)

    def baselines(self, length: int) -> dict[str, float]:
        return {"without memory": math.log(self.alphabet)}


@dataclass(frozen=True)
class AssociativeRecall(Problem):
    """Associative recall: pairs of a key and a value, then one of the keys: which was its value?

    Keys are 0 … K − 1, each once; values K … K + V − 1, uniform. The `length` of the data is the
    number of pairs, at most K; a sequence has 2 · length + 1 steps, of which the last is asked.

    Args:
        keys: K ≥ 1.
        values: V ≥ 2.

    Who remembers nothing loses ln V nats.

    Reference: Graves, Wayne & Danihelka, "Neural Turing machines", 2014,
    https://arxiv.org/abs/1410.5401 (with vectors in the place of symbols); Ba et al. 2016,
    https://arxiv.org/abs/1610.06258.
    """

    keys: int = 26
    values: int = 10

    name: ClassVar[str] = "associative recall"
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.keys < 1 or self.values < 2:
            raise ValueError(
                f"data.problem: expected keys >= 1 and values >= 2, got {self.keys}, {self.values}"
            )

    @property
    def num_inputs(self) -> int:
        return self.keys + self.values

    @property
    def num_outputs(self) -> int:
        return self.values

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        if length > self.keys:
            raise ValueError(
                f"data.length: {length} pairs need as many keys, and data.problem.keys is "
                f"{self.keys}"
            )
        keys = random.random((count, self.keys)).argsort(1)[:, :length]
        values = random.integers(0, self.values, (count, length))
        inputs = np.empty((count, 2 * length + 1), dtype=np.int64)
        inputs[:, 0:-1:2] = keys
        inputs[:, 1::2] = self.keys + values
        asked = random.integers(0, length, count)
        rows = np.arange(count)
        inputs[:, -1] = keys[rows, asked]
        targets = np.full((count, 2 * length + 1), IGNORE)
        targets[:, -1] = values[rows, asked]
        return batch(inputs, targets)

    def baselines(self, length: int) -> dict[str, float]:
        return {"without memory": math.log(self.values)}
