"""Words whose sense is changed by what comes later, and by what came before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from seqmodels.data.base import SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets

SAID = {"forwards": "forwards", "backwards": "backwards", "both": "both ways"}
NEUTRAL, PRAISE, BLAME, LEANING, NEGATOR = range(5)


@dataclass(frozen=True)
class ContextTagging(Problem):
    """A label for every word: 0 says nothing, 1 praises, 2 blames.

    Every word of a sequence is drawn by itself, of one of five kinds, with `words` words each:

        neutral   "the"        0                       symbols 0 … words − 1
        praise    "exciting"   1, turned round 2       the next `words` symbols, and so on
        blame     "dull"       2, turned round 1
        leaning   "terribly"   that of the next word of praise or blame; 2 where none follows
        negator   "not"        0; turns the next word of praise or blame round

    So "terribly exciting" has the labels 1 1, "terribly dull" 2 2, "terribly not exciting" 2 0 2
    and "not terribly exciting" 0 2 2. Negators beyond the first change nothing.

    Args:
        words: of each kind, ≥ 1.
        polar: p, share of the words that praise or blame, in equal parts, in (0, 1).
        leaning: l, in (0, 1).
        negators: n, in [0, 1); p + l + n ≤ 1, the rest is neutral.

    What can be reached is known. Let k words follow a leaning word and H(q) be the entropy of a
    label with probability q. Reading forwards only, a leaning word praises with probability

        q_k = (1 − (1 − p)^k) / 2

    whatever came before, and every other word is certain: the least loss is l · mean of H(q_k) over
    k = 0 … T − 1, and the most that can be right is 1 − l · mean of q_k. Reading backwards only,
    words of praise and blame and those that lean on them are open to a negator further ahead: with
    j words before, it is there with probability n (1 − (1 − p − n)^j) / (p + n). In both directions
    all is certain.
    """

    words: int = 5
    polar: float = 0.3
    leaning: float = 0.2
    negators: float = 0.1

    name: ClassVar[str] = "context tagging"
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 1
    class_names: ClassVar[tuple[str, ...]] = ("neutral", "praise", "blame")

    def __post_init__(self) -> None:
        if self.words < 1:
            raise ValueError(f"data.problem.words must be >= 1, got {self.words}")
        for setting, value in (("polar", self.polar), ("leaning", self.leaning)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"data.problem.{setting} must lie in (0, 1), got {value}")
        if not 0.0 <= self.negators < 1.0:
            raise ValueError(f"data.problem.negators must lie in [0, 1), got {self.negators}")
        if self.polar + self.leaning + self.negators > 1.0 + 1e-9:
            raise ValueError(
                "data.problem: polar, leaning and negators are shares of the words and add up to "
                f"{self.polar + self.leaning + self.negators:g}: expected 1 at most"
            )

    @property
    def num_inputs(self) -> int:
        return 5 * self.words

    @property
    def num_outputs(self) -> int:
        return len(self.class_names)

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        shares = np.array(
            [0.0, self.polar / 2, self.polar / 2, self.leaning, self.negators], dtype=float
        )
        shares[NEUTRAL] = max(0.0, 1.0 - shares.sum())
        kinds = random.choice(5, (count, length), p=shares / shares.sum())  # (B, T)
        inputs = kinds * self.words + random.integers(0, self.words, (count, length))
        targets = self.labels(kinds)
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets))

    @staticmethod
    def labels(kinds: np.ndarray) -> np.ndarray:
        """(B, T) labels of (B, T) kinds of words."""
        labels = np.zeros(kinds.shape, dtype=np.int64)
        turned = np.zeros(len(kinds), dtype=bool)
        for step in range(kinds.shape[1]):  # forwards: what has been negated
            kind = kinds[:, step]
            polar = (kind == PRAISE) | (kind == BLAME)
            labels[polar, step] = np.where((kind == BLAME) ^ turned, 2, 1)[polar]
            turned = (turned & ~polar) | (kind == NEGATOR)
        follows = np.full(len(kinds), 2, dtype=np.int64)
        for step in reversed(range(kinds.shape[1])):  # backwards: what is leant on
            kind = kinds[:, step]
            follows = np.where((kind == PRAISE) | (kind == BLAME), labels[:, step], follows)
            labels[kind == LEANING, step] = follows[kind == LEANING]
        return labels

    def optima(self, length: int) -> dict[str, tuple[float, float]]:
        """The least loss in nats per word and the greatest share of right labels.

        "forwards" and "backwards": of a model that reads in that direction only (and knows where
        the sequence ends, or begins); "both": of one that reads in both.
        """
        p, n = self.polar, self.negators
        seen = [(1.0 - (1.0 - p) ** k) / 2.0 for k in range(length)]
        forwards = [(self.leaning, q) for q in seen]
        backwards = []
        for j in range(length):  # words before
            negated = n / (p + n) * (1.0 - (1.0 - p - n) ** j)
            backwards.append((p, negated))
            # A leaning word leans on a word ahead, with no negator between them: as if it stood
            # there. (With one between them all is known; with no such word it blames.)
            follows = p / (p + n) * (1.0 - (1.0 - p - n) ** (length - 1 - j))
            backwards.append((self.leaning * follows, negated))
        return {
            "forwards": _best(forwards, length),
            "backwards": _best(backwards, length),
            "both": (0.0, 1.0),
        }

    def baselines(self, length: int) -> dict[str, float]:
        return self.mean_baselines([length], [length])

    def mean_baselines(self, lengths: Sequence[int], answers: Sequence[float]) -> dict[str, float]:
        """The optima, the share of right labels in their names; each word counts the same."""
        each = [(count, self.optima(n)) for n, count in zip(lengths, answers, strict=True)]
        found = {}
        for how, name in SAID.items():
            loss, right = (
                sum(count * optima[how][i] for count, optima in each) / sum(answers) for i in (0, 1)
            )
            found[f"optimum reading {name} ({100 * right:.1f} % right)"] = loss
        return found


def _best(open_labels: list[tuple[float, float]], length: int) -> tuple[float, float]:
    """Of labels with two outcomes, as (share of the words, probability of one of them)."""
    loss = sum(share * _entropy(q) for share, q in open_labels) / length
    wrong = sum(share * min(q, 1.0 - q) for share, q in open_labels) / length
    return loss, 1.0 - wrong


def _entropy(q: float) -> float:
    return 0.0 if q in (0.0, 1.0) else -q * math.log(q) - (1.0 - q) * math.log(1.0 - q)
