"""The sum of two marked numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from seqmodels.data.base import SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets


@dataclass(frozen=True)
class Adding(Problem):
    """Adding: of T numbers two are marked; their sum is asked for at the last step.

        x_t = (v_t, m_t),  v_t uniform in [0, 1],  m_t = 1 at t_1 and t_2, else 0
        t_1 uniform in the first half [0, T/2), t_2 in the second [T/2, T)    (steps count from 0)
        target at T − 1: v_{t_1} + v_{t_2}

    The sum is 1 on average and has the variance 2 · 1/12: always answering 1 has a mean squared
    error of 1/6.

    References: Hochreiter & Schmidhuber, "Long short-term memory", 1997, experiment 4 (with other
    ranges); Arjovsky, Shah & Bengio, "Unitary evolution recurrent neural networks", 2016,
    https://arxiv.org/abs/1511.06464, whose marks these are.
    """

    name: ClassVar[str] = "adding"
    targets: ClassVar[Targets] = "numbers"
    shortest: ClassVar[int] = 2

    @property
    def num_inputs(self) -> int:
        return 2

    @property
    def num_outputs(self) -> int:
        return 1

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        inputs = np.zeros((count, length, 2), dtype=np.float32)  # (B, T, 2)
        inputs[:, :, 0] = random.random((count, length), dtype=np.float32)
        rows, half = np.arange(count), length // 2
        marked = (random.integers(0, half, count), random.integers(half, length, count))
        targets = np.full((count, length, 1), np.nan, dtype=np.float32)
        targets[:, -1, 0] = 0.0
        for steps in marked:
            inputs[rows, steps, 1] = 1.0
            targets[:, -1, 0] += inputs[rows, steps, 0]
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def baselines(self, length: int) -> dict[str, float]:
        return {"always 1": 1.0 / 6.0}
