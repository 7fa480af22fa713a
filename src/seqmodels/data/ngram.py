"""The n-gram model, the simplest thing that a language model must beat."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

DENSE = 1 << 22  # count by a table of every possible key where it has at most so many places


class Table(NamedTuple):
    """Counts of what followed the contexts of one length. Keys are context · V + word, sorted."""

    keys: np.ndarray  # (K,) int64, each pair that was seen
    counts: np.ndarray  # (K,) how often
    totals: np.ndarray  # (contexts,) how often the context was followed by anything
    kinds: np.ndarray  # (contexts,) by how many different words


class NGram:
    """Interpolated n-gram model with Witten-Bell smoothing.

    With c(h, w) the count of w after the context h, c(h) its sum over w and t(h) the number of
    different words after h:

        p(w | h) = (c(h, w) + t(h) · p(w | h')) / (c(h) + t(h))

    where h' is h without its first word, and p(w) of the empty context is interpolated in the same
    way with 1 / V. After a context that was never seen, p(w | h) = p(w | h').
    Witten & Bell 1991, https://doi.org/10.1109/18.87000.

    Contexts are numbered by their place among the pairs that are one shorter, so that any order and
    vocabulary fits into 64 bits.

    Args:
        train: (N,) integers in [0, V), N ≥ 1.
        order: n ≥ 1; the context is n − 1 words.
        vocab_size: V.
    """

    def __init__(self, train: np.ndarray, order: int, vocab_size: int) -> None:
        if order < 1:
            raise ValueError(f"order must be >= 1, got {order}")
        if len(train) == 0:
            raise ValueError("an n-gram model needs training tokens, got none")
        self.order = order
        self.vocab_size = vocab_size
        self._tables: list[Table] = []
        contexts = np.zeros(len(train), dtype=np.int64)  # all tokens after the one empty context
        number = 1  # of contexts of this length
        for length in range(min(order, len(train))):
            wanted = contexts * vocab_size + train[length:]
            keys, counts, place = _count(wanted, number * vocab_size, index=length + 1 < order)
            owner = keys // vocab_size
            totals = np.bincount(owner, weights=counts, minlength=number)
            kinds = np.bincount(owner, minlength=number)
            self._tables.append(Table(keys, counts, totals, kinds))
            contexts, number = place[:-1], len(keys)

    def probabilities(self, tokens: np.ndarray, order: int | None = None) -> np.ndarray:
        """p(token_i | up to n − 1 tokens before it) for each i: (N,) float64.

        Args:
            tokens: (N,) integers in [0, V).
            order: n, at most the model's order; None: the model's.
        """
        order = self.order if order is None else order
        if not 1 <= order <= self.order:
            raise ValueError(f"order must lie in 1..{self.order}, got {order}")
        result = np.full(len(tokens), 1.0 / self.vocab_size)
        contexts = np.zeros(len(tokens), dtype=np.int64)  # −1: never seen
        for length, table in enumerate(self._tables[:order]):
            wanted = contexts * self.vocab_size + tokens[length:]
            spot = np.searchsorted(table.keys, wanted).clip(max=len(table.keys) - 1)
            found = (table.keys[spot] == wanted) & (contexts >= 0)
            count = np.where(found, table.counts[spot], 0)
            total, kinds = table.totals[contexts], table.kinds[contexts]
            # The last words of the training text may be a context that nothing followed.
            seen = (contexts >= 0) & (kinds > 0)
            lower = result[length:]
            mixed = (count + kinds * lower) / np.where(seen, total + kinds, 1)
            result[length:] = np.where(seen, mixed, lower)
            contexts = np.where(found, spot, -1)[:-1]
        return result

    def cross_entropy(self, tokens: np.ndarray, order: int | None = None) -> float:
        """Mean −log p of the tokens in nats."""
        return float(-np.log(self.probabilities(tokens, order)).mean())


def _count(wanted: np.ndarray, bound: int, *, index: bool) -> tuple[np.ndarray, ...]:
    """Sorted different values in [0, bound), their counts, and each value's place among them.

    The places cost a sort with its permutation, so they are left empty unless `index`.
    """
    if bound <= DENSE:
        every = np.bincount(wanted, minlength=bound)
        values = np.flatnonzero(every)
        places = np.cumsum(every > 0)[wanted] - 1 if index else wanted[:0]
        return values, every[values], places
    if index:
        values, places, counts = np.unique(wanted, return_inverse=True, return_counts=True)
        return values, counts, places
    values, counts = np.unique(wanted, return_counts=True)
    return values, counts, wanted[:0]


def ngram_cross_entropy(train: np.ndarray, valid: np.ndarray, order: int, vocab_size: int) -> float:
    """Mean −log p of the validation tokens in nats, under an n-gram model of the training ones.

    Args:
        train, valid: (N,), (M,) integers in [0, V).
        order: n ≥ 1.
        vocab_size: V.
    """
    return NGram(train, order, vocab_size).cross_entropy(valid)
