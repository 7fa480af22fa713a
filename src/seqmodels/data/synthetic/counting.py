"""Counting: parity, counts of letters, a^n b^n and a^n b^n c^n."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets


def batch(inputs: np.ndarray, targets: np.ndarray) -> SequenceBatch:
    return SequenceBatch(
        torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64))
    )


@dataclass(frozen=True)
class Parity(Problem):
    """Parity: of uniform bits x_t, whether the number of ones so far is odd.

        target at t: x_1 ⊕ … ⊕ x_t, at every step, or at the last alone

    Args:
        every_step: whether each step is asked, or the last alone, which is far harder to learn.

    Without memory of its own a guess loses ln 2 nats.
    """

    every_step: bool = True

    name: ClassVar[str] = "parity"
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 1

    @property
    def num_inputs(self) -> int:
        return 2

    @property
    def num_outputs(self) -> int:
        return 2

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        bits = random.integers(0, 2, (count, length))
        odd = bits.cumsum(1) % 2
        if not self.every_step:
            odd[:, :-1] = IGNORE
        return batch(bits, odd)

    def baselines(self, length: int) -> dict[str, float]:
        if not self.every_step or length == 1:
            # One bit is its own parity.
            return {"chance": 0.0 if length == 1 else math.log(2)}
        # The first step is told by its input.
        return {"chance": math.log(2) * (length - 1) / length}


@dataclass(frozen=True)
class Counting(Problem):
    """Counting letters in words, such as "abb abab ab": how many a's had the word that ends here?

    Symbols a, b and the blank (0, 1, 2), a and b alike likely. Words have `least` to `most`
    letters, uniform; one blank follows each, and the last word is cut where the sequence ends.

        target at each blank: the number of a's since the blank before, 0 … most

    Args:
        least, most: letters of a word, 1 ≤ least ≤ most.

    Without counting the best is the distribution of the counts themselves: its entropy, over the
    words that end within the sequence (the long ones are cut more often).
    """

    least: int = 1
    most: int = 6

    name: ClassVar[str] = "counting"
    targets: ClassVar[Targets] = "classes"

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(
                f"data.problem: expected 1 <= least <= most, got {self.least} and {self.most}"
            )

    @property
    def shortest(self) -> int:  # type: ignore[override]
        return self.most + 1  # so that every sequence has a blank

    @property
    def num_inputs(self) -> int:
        return 3

    @property
    def num_outputs(self) -> int:
        return self.most + 1

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        letters = random.integers(0, 2, (count, length))
        targets = np.full((count, length), IGNORE)
        words = random.integers(self.least, self.most + 1, (count, length))
        for row in range(count):
            at = 0
            for letters_of_word in words[row]:
                end = at + int(letters_of_word)
                if end >= length:
                    break
                targets[row, end] = int((letters[row, at:end] == 0).sum())
                letters[row, end] = 2
                at = end + 1
        return batch(letters, targets)

    def baselines(self, length: int) -> dict[str, float]:
        sizes = range(self.least, self.most + 1)
        begins = [1.0] + [0.0] * length  # the probability that a word begins at a step
        ends = dict.fromkeys(sizes, 0.0)  # how many words of each size are asked for, on average
        for at in range(length):
            for size in sizes:
                if at + size < length:
                    chance = begins[at] / len(sizes)
                    ends[size] += chance
                    begins[at + size + 1] += chance
        asked = sum(ends.values())
        share = [
            sum(ends[n] * math.comb(n, k) / 2**n for n in sizes if n >= k) / asked
            for k in range(self.most + 1)
        ]
        return {"the counts' distribution": -sum(p * math.log(p) for p in share if p > 0)}


@dataclass(frozen=True)
class Blocks(Problem):
    """a^n b^n (letters=2) or a^n b^n c^n (letters=3): what comes next, where that is certain.

    The symbols are the letters; the class after the last letter is the end. From the first b on
    each step's next symbol follows from n alone, and is asked; while a's come nothing is, for any n
    may follow. A sequence is right where every answer is: the criterion of Gers & Schmidhuber 2001.

    The `length` of the data is n; a sequence has letters · n steps.

    Args:
        letters: 2 or 3.

    Without counting the best guess is "the same again": a step in n ends its block.

    Reference: Gers & Schmidhuber, "LSTM recurrent networks learn simple context-free and
    context-sensitive languages", 2001, https://doi.org/10.1109/72.963769.
    """

    letters: int = 2

    name: ClassVar[str] = "a^n b^n …"
    must_be_causal: ClassVar[bool] = True
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.letters not in (2, 3):
            raise ValueError(f"data.problem: expected letters 2 or 3, got {self.letters}")

    @property
    def num_inputs(self) -> int:
        return self.letters

    @property
    def num_outputs(self) -> int:
        return self.letters + 1

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        word = np.repeat(np.arange(self.letters), length)
        following = np.append(word[1:], self.letters)
        following[:length] = IGNORE  # another a, or the first b: not certain
        return batch(np.tile(word, (count, 1)), np.tile(following, (count, 1)))

    def baselines(self, length: int) -> dict[str, float]:
        if length == 1:
            return {"without counting": 0.0}
        share = 1 / length
        entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
        return {"without counting": entropy}
