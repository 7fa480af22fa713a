"""What is to be written of what is read, by definition."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np

from seqmodels.data.base import SequenceBatch
from seqmodels.data.pairs.vocabulary import PairVocabulary, padded
from seqmodels.data.synthetic.base import Problem, Targets
from seqmodels.data.vocabulary import UNK, Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ["thousand", "million", "billion"]
MOST_DIGITS = 3 * (len(_SCALES) + 1)


class PairProblem(Problem):
    """Sources, and the one right target of each; the `length` is that of the source.

    A batch holds sources of the lengths that are asked for, padded, and targets with the end symbol
    behind them (`seqmodels.data.pairs.vocabulary.padded`).
    """

    targets: ClassVar[Targets] = "sequences"
    shortest: ClassVar[int] = 1
    longest: ClassVar[int | None] = None  # None: any

    @property
    @abstractmethod
    def vocabulary(self) -> PairVocabulary:
        """The symbols of both sides, `<unk>` behind them, which no pair has."""

    @abstractmethod
    def source(self, random: np.random.Generator, length: int) -> np.ndarray:
        """(length,) int64, numbers of symbols."""

    @abstractmethod
    def answer(self, source: np.ndarray) -> np.ndarray:
        """(N,) int64, without the end symbol."""

    @abstractmethod
    def unread(self, length: int) -> tuple[float, float]:
        """Entropy of the target in nats, and its mean number of symbols with the end; both exact.

        Their ratio is what a model reaches that knows of the source its length alone.
        """

    @property
    def num_inputs(self) -> int:
        return len(self.vocabulary.source)

    @property
    def num_outputs(self) -> int:
        return self.vocabulary.end + 1

    def draw_each(self, random: np.random.Generator, lengths: np.ndarray) -> SequenceBatch:
        """One independent pair for each of the lengths (B,)."""
        sources = [self.source(random, int(length)) for length in lengths]
        return padded(sources, [self.answer(each) for each in sources], self.vocabulary.end)

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        return self.draw_each(random, np.full(count, length))

    def baselines(self, length: int) -> dict[str, float]:
        nats, symbols = self.unread(length)
        return {"length alone": nats / symbols}


@dataclass(frozen=True)
class _Letters(PairProblem):
    """Independent uniform letters, the first K of the alphabet.

    Args:
        alphabet: K, 2 to 26.
    """

    alphabet: int = 10

    def __post_init__(self) -> None:
        if not 2 <= self.alphabet <= len(LETTERS):
            raise ValueError(f"data.problem: alphabet must lie in 2 … 26, got {self.alphabet}")

    @property
    def vocabulary(self) -> PairVocabulary:
        symbols = [*LETTERS[: self.alphabet], UNK]
        return PairVocabulary(symbols, "char", source=Vocabulary(symbols, "char"))

    def source(self, random: np.random.Generator, length: int) -> np.ndarray:
        return random.integers(0, self.alphabet, length)

    def unread(self, length: int) -> tuple[float, float]:
        return length * math.log(self.alphabet), length + 1.0


@dataclass(frozen=True)
class Copy(_Letters):
    """The same again: abcd -> abcd.

    Args:
        alphabet: K, 2 to 26 letters.
    """

    name: ClassVar[str] = "copy"

    def answer(self, source: np.ndarray) -> np.ndarray:
        return source


@dataclass(frozen=True)
class Reverse(_Letters):
    """From the last to the first: abcd -> dcba.

    Args:
        alphabet: K, 2 to 26 letters.
    """

    name: ClassVar[str] = "reverse"

    def answer(self, source: np.ndarray) -> np.ndarray:
        return source[::-1]


@dataclass(frozen=True)
class Sort(_Letters):
    """In the order of the alphabet: dabda -> aabdd.

    Args:
        alphabet: K, 2 to 26 letters.
    """

    name: ClassVar[str] = "sort"

    def answer(self, source: np.ndarray) -> np.ndarray:
        return np.sort(source)

    def unread(self, length: int) -> tuple[float, float]:
        """Counts are multinomial: n ln K − ln n! + K E ln N!, N binomial (n, 1/K)."""
        n, k = length, self.alphabet
        logs = [math.lgamma(i + 1) for i in range(n + 1)]
        mean = 0.0
        for i in range(n + 1):
            chance = logs[n] - logs[i] - logs[n - i] - i * math.log(k)
            mean += math.exp(chance + (n - i) * math.log1p(-1 / k)) * logs[i]
        return n * math.log(k) - logs[n] + k * mean, n + 1.0


@dataclass(frozen=True)
class NumberToWords(PairProblem):
    """A whole number in digits, and in English words: 4071 -> four thousand seventy one.

    The number is uniform among those of so many digits (1 to 12); 0 has one.
    """

    name: ClassVar[str] = "numbers in words"
    longest: ClassVar[int | None] = MOST_DIGITS

    @property
    def vocabulary(self) -> PairVocabulary:
        words = [*_SMALL, *_TENS, "hundred", *_SCALES, UNK]
        return PairVocabulary(words, "word", source=Vocabulary([*"0123456789", UNK], "char"))

    def source(self, random: np.random.Generator, length: int) -> np.ndarray:
        least = 0 if length == 1 else 10 ** (length - 1)
        number = int(random.integers(least, 10**length))
        return np.array([int(digit) for digit in str(number)], np.int64)

    def answer(self, source: np.ndarray) -> np.ndarray:
        words = number_in_words(int("".join(map(str, source))))
        return np.array([_WORD_NUMBERS[word] for word in words], np.int64)

    def unread(self, length: int) -> tuple[float, float]:
        groups, leading = divmod(length - 1, 3)  # whole groups of three behind 1 to 3 digits
        least = 0 if length == 1 else 10**leading
        count = 10 ** (leading + 1) - least
        words = sum(len(number_in_words(n)) for n in range(least, least + count)) / count
        inner = sum(len(_below_thousand(n)) + 1 for n in range(1, 1000)) / 1000
        last = sum(len(_below_thousand(n)) for n in range(1, 1000)) / 1000
        if groups:
            words += 1 + (groups - 1) * inner + last
        return math.log(count) + groups * math.log(1000), words + 1


def number_in_words(number: int) -> list[str]:
    """In English, without "and" and hyphens: 0 ≤ number < 10¹²."""
    if not 0 <= number < 10**MOST_DIGITS:
        raise ValueError(f"expected a number from 0 to 10^{MOST_DIGITS} - 1, got {number}")
    if number == 0:
        return ["zero"]
    words: list[str] = []
    for place in range(len(_SCALES), -1, -1):
        group = number // 1000**place % 1000
        if group:
            words += _below_thousand(group)
            words += [_SCALES[place - 1]] if place else []
    return words


@cache
def _below_thousand(number: int) -> tuple[str, ...]:
    hundreds, rest = divmod(number, 100)
    words = [_SMALL[hundreds], "hundred"] if hundreds else []
    if rest >= 20:
        words.append(_TENS[rest // 10 - 2])
        rest %= 10
    return (*words, _SMALL[rest]) if rest else tuple(words)


_WORD_NUMBERS = {word: n for n, word in enumerate([*_SMALL, *_TENS, "hundred", *_SCALES])}
