"""Repeat what was said long ago."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from seqmodels.data.base import SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets


@dataclass(frozen=True)
class CopyMemory(Problem):
    """Copy memory: keep K symbols over a delay of L steps, then say them in their order.

    Of N + 2 symbols the first N are data, N is blank, N + 1 the signal. There are L + 2K steps:

        inputs   K data symbols (uniform), L − 1 blanks, the signal, K blanks
        targets  L + K blanks, then the K data symbols

    Every step is predicted. The `length` of the data is L, not the number of steps.

    Args:
        items: K ≥ 1, symbols to be kept; 10 in the reference.
        alphabet: N ≥ 2, different ones; 8 in the reference.

    Without memory the best is to say blank and then to guess: K ln N / (L + 2K) nats a step.

    Reference: Arjovsky, Shah & Bengio, "Unitary evolution recurrent neural networks", 2016,
    https://arxiv.org/abs/1511.06464, after Hochreiter & Schmidhuber 1997.
    """

    items: int = 10
    alphabet: int = 8

    name: ClassVar[str] = "copy memory"
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.items < 1 or self.alphabet < 2:
            raise ValueError(
                "data.problem: expected items >= 1 and alphabet >= 2, got "
                f"{self.items} and {self.alphabet}"
            )

    @property
    def num_inputs(self) -> int:
        return self.alphabet + 2

    @property
    def num_outputs(self) -> int:
        return self.alphabet + 1  # the signal is never said

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        items = random.integers(0, self.alphabet, (count, self.items))  # (B, K)
        steps = length + 2 * self.items
        inputs = np.full((count, steps), self.alphabet, dtype=np.int64)  # (B, L + 2K)
        inputs[:, : self.items] = items
        inputs[:, self.items + length - 1] = self.alphabet + 1
        targets = np.full((count, steps), self.alphabet, dtype=np.int64)
        targets[:, -self.items :] = items
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def baselines(self, length: int) -> dict[str, float]:
        steps = length + 2 * self.items
        return {"without memory": self.items * math.log(self.alphabet) / steps}
