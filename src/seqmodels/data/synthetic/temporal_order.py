"""Which symbols came, and in which order, long ago."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets

# The windows of the positions, in tenths of the length, ends included.
WINDOWS = {2: ((1, 2), (4, 5)), 3: ((1, 2), (3, 4), (6, 7))}


@dataclass(frozen=True)
class TemporalOrder(Problem):
    """Temporal order: name the relevant symbols of a sequence in the order in which they came.

    A sequence of length T has noise at every step, uniform over the symbols a, b, c, d (0 to 3),
    but for two steps with X (4) or Y (5), each with probability 1/2:

        t_1 uniform in [T/10, 2T/10], t_2 uniform in [4T/10, 5T/10]    (steps count from 0)

    At the last step the class is asked for: XX 0, XY 1, YX 2, YY 3. With `relevant` = 3 there are
    three, in [T/10, 2T/10], [3T/10, 4T/10] and [6T/10, 7T/10], and eight classes, XXX to YYY as
    binary numbers. The last relevant symbol is at least T/2 (2T/5 - 1 at 3T/10) steps old.

    Args:
        relevant: 2 or 3 symbols to be remembered.

    Guessing is right with probability 1/4 (1/8), at a loss of ln 4 (ln 8). A run counts as
    successful in the second reference when fewer than 1 % of 10,000 test sequences are wrong.

    References: Hochreiter & Schmidhuber, "Long short-term memory", 1997, experiments 6a and 6b
    (windows 10–20, 50–60 and 10–20, 33–43, 66–76 of 100–110 steps, between a start and an end
    symbol, which are left out here); Pascanu, Mikolov & Bengio, "On the difficulty of training
    recurrent neural networks", 2013, https://arxiv.org/abs/1211.5063, whose windows these are.
    """

    relevant: int = 2

    name: ClassVar[str] = "temporal order"
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 10

    def __post_init__(self) -> None:
        if self.relevant not in WINDOWS:
            raise ValueError(f"data.problem.relevant: expected 2 or 3, got {self.relevant!r}")

    @property
    def num_inputs(self) -> int:
        return 6

    @property
    def num_outputs(self) -> int:
        return int(2**self.relevant)

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        inputs = random.integers(0, 4, (count, length))  # (B, T)
        chosen = random.integers(0, 2, (count, self.relevant))  # X or Y
        rows = np.arange(count)
        classes = np.zeros(count, dtype=np.int64)
        for index, (first, last) in enumerate(WINDOWS[self.relevant]):
            # The whole numbers from T·first/10 to T·last/10.
            steps = random.integers(-(-first * length // 10), last * length // 10 + 1, count)
            inputs[rows, steps] = 4 + chosen[:, index]
            classes = 2 * classes + chosen[:, index]
        targets = np.full((count, length), IGNORE, dtype=np.int64)
        targets[:, -1] = classes
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def baselines(self, length: int) -> dict[str, float]:
        return {f"chance (1 in {self.num_outputs} right)": math.log(self.num_outputs)}
