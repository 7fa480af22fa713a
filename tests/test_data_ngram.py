"""The n-gram model: a proper distribution, and the equation of its docstring."""

from __future__ import annotations

import math

import numpy as np
import pytest

import seqmodels.data.ngram as module
from seqmodels.data.ngram import NGram, ngram_cross_entropy

V = 5
TRAIN = np.array([0, 1, 2, 0, 1, 3, 0, 1, 2, 2, 2, 0, 3])  # 4 never comes; 3 ends it
VALID = np.array([0, 1, 2, 4, 1, 2, 2, 0, 3, 3, 0, 1, 4, 4])


@pytest.fixture(params=["tables", "sorting"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small problems are counted by tables, large ones by sorting: both are tried on the same."""
    if request.param == "sorting":
        monkeypatch.setattr(module, "DENSE", 0)


def witten_bell(train: list[int], context: tuple[int, ...], word: int, vocab_size: int) -> float:
    """p(word | context) by counting, in the slowest way."""
    n = len(context)
    lower = (
        1.0 / vocab_size if n == 0 else witten_bell(train, context[1:], word, vocab_size)
    )
    after = [train[i + n] for i in range(len(train) - n) if tuple(train[i : i + n]) == context]
    if not after:
        return lower
    kinds = len(set(after))
    return (after.count(word) + kinds * lower) / (len(after) + kinds)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_equals_counting_by_hand(order: int) -> None:
    ours = NGram(TRAIN, order, V).probabilities(VALID)
    tokens = VALID.tolist()
    theirs = [
        witten_bell(TRAIN.tolist(), tuple(tokens[max(0, i - order + 1) : i]), token, V)
        for i, token in enumerate(tokens)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    "context", [(0, 1), (2, 2), (1, 3), (3, 3), (4, 4), (0, 3), (4, 0)], ids=str
)
def test_the_probabilities_of_all_words_add_up_to_one(
    order: int, context: tuple[int, int]
) -> None:
    # (4, ·) was never seen; (0, 3) only at the very end, where nothing follows.
    model = NGram(TRAIN, order, V)
    every = [model.probabilities(np.array([*context, word]))[-1] for word in range(V)]
    assert math.fsum(every) == pytest.approx(1.0, abs=1e-14)
    assert min(every) > 0


def test_a_lower_order_of_a_model_is_the_model_of_that_order() -> None:
    model = NGram(TRAIN, 3, V)
    for order in (1, 2, 3):
        theirs = NGram(TRAIN, order, V).probabilities(VALID)
        np.testing.assert_array_equal(model.probabilities(VALID, order), theirs)


def test_the_loss_is_the_mean_in_nats() -> None:
    train = np.array([0, 0, 0, 1])
    # Unigrams of V = 2: p(0) = (3 + 2 · 1/2) / 6, p(1) = (1 + 2 · 1/2) / 6.
    expected = -(math.log(4 / 6) + math.log(2 / 6)) / 2
    assert ngram_cross_entropy(train, np.array([0, 1]), 1, 2) == pytest.approx(expected, abs=1e-15)


def test_large_vocabularies_and_orders_do_not_overflow() -> None:
    size = 2**31  # numbers of contexts of four words would not fit into 64 bits
    words = np.array([0, 5, size - 1, 5, 0, 5, size - 1, 5], dtype=np.int64)
    ours = NGram(words, 5, size).probabilities(words)
    theirs = [
        witten_bell(words.tolist(), tuple(words[max(0, i - 4) : i].tolist()), int(word), size)
        for i, word in enumerate(words)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_narrow_integers_do_not_overflow() -> None:
    train, valid = TRAIN + 40_000, VALID + 40_000
    size = 50_000  # 40,000 · 50,000 is beyond 31 bits
    wide = NGram(train, 3, size).probabilities(valid)
    narrow = NGram(train.astype(np.int32), 3, size).probabilities(valid.astype(np.int32))
    np.testing.assert_array_equal(narrow, wide)


@pytest.mark.parametrize("order", [3, 4, 9])
def test_an_order_beyond_the_text_is_no_harm(order: int) -> None:
    train = np.array([0, 1, 1])
    tokens = [1, 1, 0, 1]
    ours = NGram(train, order, 2).probabilities(np.array(tokens))
    theirs = [
        witten_bell(train.tolist(), tuple(tokens[max(0, i - order + 1) : i]), token, 2)
        for i, token in enumerate(tokens)
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    assert NGram(train, order, 2).probabilities(np.array([], dtype=np.int64)).shape == (0,)


def test_impossible_models_are_refused() -> None:
    with pytest.raises(ValueError, match="order must be >= 1, got 0"):
        NGram(TRAIN, 0, V)
    with pytest.raises(ValueError, match="needs training tokens"):
        NGram(TRAIN[:0], 2, V)
    for order in (0, 3):
        with pytest.raises(ValueError, match=rf"order must lie in 1\.\.2, got {order}"):
            NGram(TRAIN, 2, V).probabilities(VALID, order)
