"""The n-gram baseline against its definition, word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from seqmodels.data import NGram, ngram_cross_entropy

VOCAB = 6


def text(size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.choice(VOCAB, size=size, p=[0.4, 0.3, 0.2, 0.1, 0.0, 0.0])


def probability(train: list[int], history: list[int], word: int, vocab_size: int) -> float:
    """p(word | history) by the definition, the context being the whole history."""
    length = len(history)
    lower = probability(train, history[1:], word, vocab_size) if length else 1.0 / vocab_size
    followers = [train[i] for i in range(length, len(train)) if train[i - length : i] == history]
    if not followers:
        return lower
    kinds = len(set(followers))
    return (followers.count(word) + kinds * lower) / (len(followers) + kinds)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 3, 60])
def test_agrees_with_the_definition(order: int, size: int) -> None:
    train = text(size, seed=size)
    valid = np.random.default_rng(1).integers(0, VOCAB, size=40)  # with words never seen
    expected = [
        probability(train.tolist(), valid[max(0, i - order + 1) : i].tolist(), int(word), VOCAB)
        for i, word in enumerate(valid)
    ]
    model = NGram(train, order, VOCAB)
    np.testing.assert_allclose(model.probabilities(valid), expected, rtol=1e-12)
    mean = -sum(map(math.log, expected)) / len(expected)
    assert ngram_cross_entropy(train, valid, order, VOCAB) == pytest.approx(mean, rel=1e-12)


def test_a_model_holds_those_of_lower_order() -> None:
    train, valid = text(80, seed=2), text(40, seed=3)
    model = NGram(train, 4, VOCAB)
    for order in (1, 2, 3, 4):
        alone = ngram_cross_entropy(train, valid, order, VOCAB)
        assert model.cross_entropy(valid, order) == pytest.approx(alone, rel=1e-14)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_probabilities_add_up_to_one(order: int, seed: int) -> None:
    model = NGram(text(50, seed), order, VOCAB)
    context = np.random.default_rng(seed).integers(0, VOCAB, size=order - 1)
    total = sum(model.probabilities(np.append(context, word))[-1] for word in range(VOCAB))
    assert total == pytest.approx(1.0, rel=1e-12)


def test_large_vocabularies_count_as_small_ones_do() -> None:
    # Too many possible pairs for a table: they are sorted instead. Order 5 would not fit into 64
    # bits if contexts were numbered by their words.
    train, valid = text(60, seed=4), text(30, seed=5)
    wide = 3_000_000
    expected = [
        probability(train.tolist(), valid[max(0, i - 4) : i].tolist(), int(word), wide)
        for i, word in enumerate(valid)
    ]
    np.testing.assert_allclose(NGram(train, 5, wide).probabilities(valid), expected, rtol=1e-12)


def test_narrow_integers_do_not_overflow() -> None:
    # Tokens are kept as int32; a pair of words of this vocabulary needs more.
    train, valid = text(60, seed=6) + 40_000, text(30, seed=7) + 40_000
    wide = NGram(train, 3, 50_000).probabilities(valid)
    narrow = NGram(train.astype(np.int32), 3, 50_000).probabilities(valid.astype(np.int32))
    np.testing.assert_array_equal(narrow, wide)


def test_a_context_that_only_ends_the_text_is_as_good_as_unseen() -> None:
    model = NGram(np.array([0, 1, 0, 2]), 2, 3)
    after = [float(model.probabilities(np.array([2, word]))[1]) for word in range(3)]
    assert after == [float(model.probabilities(np.array([word]))[0]) for word in range(3)]


def test_a_bigram_model_finds_what_follows_what() -> None:
    train = np.tile([0, 1, 2, 3], 500)
    assert ngram_cross_entropy(train, train, 1, 4) == pytest.approx(math.log(4), abs=1e-2)
    assert ngram_cross_entropy(train, train, 2, 4) < 0.01


def test_impossible_orders() -> None:
    with pytest.raises(ValueError, match="order must be >= 1, got 0"):
        NGram(text(9, 0), 0, VOCAB)
    with pytest.raises(ValueError, match=r"order must lie in 1..2, got 3"):
        NGram(text(9, 0), 2, VOCAB).probabilities(text(9, 0), order=3)
    with pytest.raises(ValueError, match="needs training tokens"):
        NGram(text(9, 0)[:0], 2, VOCAB)
