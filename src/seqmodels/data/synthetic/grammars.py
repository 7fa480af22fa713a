"""Languages with brackets and with a long-range agreement: Dyck words, embedded Reber strings."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic.base import Problem, Targets
from seqmodels.data.synthetic.counting import batch


@dataclass(frozen=True)
class Dyck(Problem):
    """Brackets of k types: which one would have to close next?

    Symbol i < k opens type i, symbol k + i closes it. A sequence of T steps (even) begins and ends
    with an empty stack: each step opens a bracket of a uniform type with probability 1/2, always
    where the stack is empty, and never where the rest is needed for closing or `depth` is reached.

        target at t: 0 where the stack is empty after step t, else 1 + the type on its top

    Args:
        types: k ≥ 1.
        depth: the most brackets that are open at once, ≥ 1.

    A bracket that opens is its own answer. Without a stack the best for one that closes is the
    distribution of the answer at its step: the mean entropy over all steps.
    """

    types: int = 2
    depth: int = 8

    name: ClassVar[str] = "Dyck words"
    must_be_causal: ClassVar[bool] = True
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.types < 1 or self.depth < 1:
            raise ValueError(
                f"data.problem: expected types, depth >= 1, got {self.types}, {self.depth}"
            )

    @property
    def num_inputs(self) -> int:
        return 2 * self.types

    @property
    def num_outputs(self) -> int:
        return self.types + 1

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        if length % 2:
            raise ValueError(f"data.length: Dyck words have an even number of steps, got {length}")
        inputs = np.empty((count, length), dtype=np.int64)
        targets = np.empty((count, length), dtype=np.int64)
        stack = np.zeros((count, self.depth + 1), dtype=np.int64)
        level = np.zeros(count, dtype=np.int64)
        rows = np.arange(count)
        for t in range(length):
            opens = random.random(count) < self._opening(level, length - t)
            kind = random.integers(0, self.types, count)
            top = stack[rows, np.maximum(level - 1, 0)]
            inputs[:, t] = np.where(opens, kind, self.types + top)
            stack[rows[opens], level[opens]] = kind[opens]
            level += np.where(opens, 1, -1)
            targets[:, t] = np.where(level > 0, 1 + stack[rows, np.maximum(level - 1, 0)], 0)
        return batch(inputs, targets)

    def _opening(self, level: np.ndarray, left: int) -> np.ndarray:
        """The probability of opening, with so many steps left, this one among them."""
        free = np.where(level == 0, 1.0, 0.5)
        return np.where((level >= left) | (level >= self.depth), 0.0, free)

    def baselines(self, length: int) -> dict[str, float]:
        levels = np.arange(self.depth + 2)
        share = np.zeros(self.depth + 2)
        share[0] = 1.0
        total = 0.0
        for t in range(length):
            opening = self._opening(levels, length - t) * share
            closing = share - opening
            share = np.zeros_like(share)
            share[1:] += opening[:-1]
            share[:-1] += closing[1:]
            # What closes leaves the stack empty, or any type on top.
            empty, all_closing = float(closing[1]), float(closing[1:].sum())
            for p, ways in ((empty, 1), (all_closing - empty, self.types)):
                if p > 1e-15:
                    total -= p * math.log(p / all_closing / ways)
        return {"without a stack": total / length}


# Reber's grammar: state -> (symbol, next state), both alike likely; 5 is the end.
_B, _T, _P, _S, _X, _V, _E = range(7)
_REBER: dict[int, list[tuple[int, int]]] = {
    0: [(_T, 1), (_P, 2)],
    1: [(_S, 1), (_X, 3)],
    2: [(_T, 2), (_V, 4)],
    3: [(_X, 2), (_S, 5)],
    4: [(_P, 3), (_V, 5)],
}
_SHORTEST_INNER = 3


@functools.cache
def _ending(state: int, steps: int) -> float:
    """The probability that the inner grammar ends in exactly so many steps from here."""
    if state == 5:
        return 1.0 if steps == 0 else 0.0
    return 0.0 if steps == 0 else sum(0.5 * _ending(to, steps - 1) for _, to in _REBER[state])


@dataclass(frozen=True)
class EmbeddedReber(Problem):
    """Embedded Reber strings: B c B (a Reber string) E c E, with c = T or P at both places.

    Symbols B, T, P, S, X, V, E are 0 … 6. What follows each symbol is asked; where the grammar
    leaves a choice of two, nobody can know. The one answer that needs memory over the whole inner
    string is the second c.

    The `length` of the data is the number of symbols of a string without its last one; strings of
    exactly this length are drawn, as the grammar draws them.

    Args:
        agreement_only: only the second c is asked.

    Reference: Hochreiter & Schmidhuber, "Long short-term memory", 1997, experiment 1, after
    Cleeremans, Servan-Schreiber & McClelland 1989.
    """

    agreement_only: bool = True

    name: ClassVar[str] = "embedded Reber grammar"
    must_be_causal: ClassVar[bool] = True
    targets: ClassVar[Targets] = "classes"
    shortest: ClassVar[int] = 5 + _SHORTEST_INNER

    @property
    def num_inputs(self) -> int:
        return 7

    @property
    def num_outputs(self) -> int:
        return 7

    def draw(self, random: np.random.Generator, count: int, length: int) -> SequenceBatch:
        words = np.array([self._word(random, length - 5) for _ in range(count)])  # (B, length + 1)
        targets = words[:, 1:].copy()
        if self.agreement_only:
            targets[:, :-2] = IGNORE
            targets[:, -1] = IGNORE
        return batch(words[:, :-1], targets)

    @staticmethod
    def _word(random: np.random.Generator, inner: int) -> list[int]:
        outer = int(random.integers(_T, _P + 1))
        word, state = [_B, outer, _B], 0
        for left in range(inner, 0, -1):
            chances = np.array([_ending(to, left - 1) for _, to in _REBER[state]])
            symbol, state = _REBER[state][int(random.random() < chances[1] / chances.sum())]
            word.append(symbol)
        return [*word, _E, outer, _E]

    def baselines(self, length: int) -> dict[str, float]:
        if self.agreement_only:
            return {"without memory": math.log(2)}
        return {"entropy of the grammar (optimum)": self._entropy(length - 5) / length}

    @staticmethod
    def _entropy(inner: int) -> float:
        """Nats of a whole string with an inner one of this length, c being T or P alike."""
        total, share = math.log(2), {0: 1.0}
        for left in range(inner, 0, -1):
            after: dict[int, float] = {}
            for state, p in share.items():
                chances = [_ending(to, left - 1) for _, to in _REBER[state]]
                for (_, to), chance in zip(_REBER[state], chances, strict=True):
                    q = chance / sum(chances)
                    if q > 0:
                        total -= p * q * math.log(q)
                        after[to] = after.get(to, 0.0) + p * q
            share = after
        return total
