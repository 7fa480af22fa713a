"""The n-gram model, the simplest thing that a language model must beat."""

from __future__ import annotations

import numpy as np


class NGram:
    """Interpolated n-gram model with Witten-Bell smoothing.

    With c(h, w) the count of w after the context h, c(h) its sum over w and t(h) the number of
    different words after h:

        p(w | h) = (c(h, w) + t(h) · p(w | h')) / (c(h) + t(h))

    where h' is h without its first word, and p(w) of the empty context is interpolated in the same
    way with 1 / V. Witten & Bell 1991, https://doi.org/10.1109/18.87000.

    Args:
        train: (N,) integers in [0, V).
        order: n ≥ 1; the context is n − 1 words.
        vocab_size: V.
    """

    def __init__(self, train: np.ndarray, order: int, vocab_size: int) -> None:
        if order < 1:
            raise ValueError(f"order must be >= 1, got {order}")
        self.order = order
        self.vocab_size = vocab_size
        # Per context length: sorted contexts, sorted (context, word) pairs, and their counts.
        self._tables: list[tuple[np.ndarray, ...]] = []
        for length in range(order):
            contexts, words = self._pairs(train, length)
            known, index = np.unique(contexts, return_inverse=True)
            pairs, counts = np.unique(index * vocab_size + words, return_counts=True)
            owner = pairs // vocab_size
            totals = np.bincount(owner, weights=counts, minlength=len(known))
            kinds = np.bincount(owner, minlength=len(known))
            self._tables.append((known, pairs, counts, totals, kinds))

    def _pairs(self, tokens: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Context numbers and the words after them, where a whole context of `length` exists."""
        steps = len(tokens) - length
        contexts = np.zeros(steps, dtype=np.int64)
        if length and self.vocab_size**length >= 2**63:
            raise ValueError(
                f"contexts of {length} words of {self.vocab_size} cannot be numbered in 64 bits; "
                "use a lower order"
            )
        for offset in range(length):
            contexts = contexts * self.vocab_size + tokens[offset : offset + steps]
        return contexts, tokens[length:]

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """p(token_i | up to n − 1 tokens before it) for each i: (N,)."""
        result = np.full(len(tokens), 1.0 / self.vocab_size)
        for length, (known, pairs, counts, totals, kinds) in enumerate(self._tables):
            if len(tokens) <= length:
                break
            contexts, words = self._pairs(tokens, length)
            place = np.searchsorted(known, contexts).clip(max=len(known) - 1)
            seen = known[place] == contexts
            pair = place * self.vocab_size + words
            spot = np.searchsorted(pairs, pair).clip(max=len(pairs) - 1)
            count = np.where(seen & (pairs[spot] == pair), counts[spot], 0)
            lower = result[length:]
            mixed = (count + kinds[place] * lower) / (totals[place] + kinds[place])
            result[length:] = np.where(seen, mixed, lower)
        return result


def ngram_cross_entropy(
    train: np.ndarray, valid: np.ndarray, order: int, vocab_size: int
) -> float:
    """Mean −log p of the validation tokens in nats, under an n-gram model of the training ones."""
    model = NGram(train, order, vocab_size)
    return float(-np.log(model.probabilities(valid)).mean())
