"""Counting, grammars and recall are as defined, and their baselines are exact."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic import (
    AssociativeRecall,
    Blocks,
    Counting,
    DelayedRecall,
    Dyck,
    EmbeddedReber,
    Parity,
    Problem,
    SyntheticData,
)


def drawn(problem: Problem, count: int, length: int, seed: int = 0) -> tuple[Any, Any]:
    made: SequenceBatch = problem.draw(np.random.default_rng(seed), count, length)
    inputs, targets = made.inputs.numpy(), made.targets.numpy()
    assert inputs.shape == targets.shape and inputs.dtype == targets.dtype == np.int64
    assert inputs.min() >= 0 and inputs.max() < problem.num_inputs
    asked = targets[targets != IGNORE]
    assert asked.min() >= 0 and asked.max() < problem.num_outputs
    return inputs, targets


def entropy_of_answers(targets: Any) -> float:
    """Nats of the answers where it is known at which step one is, per answer."""
    total = count = 0.0
    for column in targets.T:
        asked = column[column != IGNORE]
        for n in Counter(asked.tolist()).values():
            total -= n * math.log(n / len(asked))
        count += len(asked)
    return total / count


def test_parity() -> None:
    bits, odd = drawn(Parity(), 50, 9)
    np.testing.assert_array_equal(odd, np.logical_xor.accumulate(bits.astype(bool), 1))
    _, last = drawn(Parity(every_step=False), 50, 9)
    assert (last[:, :-1] == IGNORE).all()
    np.testing.assert_array_equal(last[:, -1], odd[:, -1])
    assert Parity().baselines(9)["chance"] == pytest.approx(math.log(2) * 8 / 9)


def test_counting_starts_anew_at_each_blank() -> None:
    letters, counts = drawn(Counting(least=2, most=4), 200, 30)
    for row, asked in zip(letters, counts, strict=True):
        found = 0
        length = 0
        for symbol, answer in zip(row, asked, strict=True):
            assert (answer != IGNORE) == (symbol == 2)
            if symbol == 2:
                assert answer == found and 2 <= length <= 4
                found = length = 0
            else:
                found, length = found + (symbol == 0), length + 1
    for length in (7, 30):  # in short sequences the long words are cut more often
        (value,) = Counting(2, 6).baselines(length).values()
        _, counts = drawn(Counting(2, 6), 10_000, length)
        all_answers = counts[counts != IGNORE]
        shares = np.bincount(all_answers) / len(all_answers)
        assert value == pytest.approx(-(shares * np.log(shares)).sum(), rel=0.01)


@pytest.mark.parametrize(("letters", "word"), [(2, "aaabbb"), (3, "aaabbbccc")])
def test_blocks_ask_where_the_next_symbol_is_certain(letters: int, word: str) -> None:
    inputs, targets = drawn(Blocks(letters), 2, 3)
    assert "".join("abc"[i] for i in inputs[0]) == word
    said = "".join("." if t == IGNORE else ("abc"[:letters] + "$")[t] for t in targets[0])
    assert said == "..." + word[4:] + "$"
    assert str(Blocks(letters).baselines(1)["without counting"]) == "0.0"
    expected = -(math.log(1 / 3) / 3 + 2 / 3 * math.log(2 / 3))
    assert Blocks(letters).baselines(3)["without counting"] == pytest.approx(expected)


def test_baselines_of_several_lengths_count_by_their_answers() -> None:
    """The loss is a mean over answers, and a^9 b^9 asks for nine times as many as ab."""
    data = SyntheticData(Blocks(), length=1, valid_lengths=[1, 9], valid_sequences=2)
    (value,) = data.baselines().values()
    assert value == pytest.approx(0.9 * Blocks().baselines(9)["without counting"])


@pytest.mark.parametrize(("types", "depth"), [(1, 3), (2, 2), (3, 8)])
def test_dyck_words_are_balanced_and_their_answers_on_top(types: int, depth: int) -> None:
    problem = Dyck(types, depth)
    inputs, targets = drawn(problem, 400, 12)
    deepest = 0
    for row, asked in zip(inputs, targets, strict=True):
        stack: list[int] = []
        for symbol, answer in zip(row, asked, strict=True):
            if symbol < types:
                stack.append(symbol)
            else:
                assert stack.pop() == symbol - types
            deepest = max(deepest, len(stack))
            assert answer == (1 + stack[-1] if stack else 0)
        assert not stack
    assert deepest == min(depth, 6)
    (value,) = problem.baselines(12).values()
    inputs, targets = drawn(problem, 20_000, 12)
    told = np.where(inputs < types, IGNORE, targets)  # a bracket that opens is its own answer
    share = float((told != IGNORE).mean())
    assert value == pytest.approx(share * entropy_of_answers(told), rel=0.02)


def test_reber_strings_follow_their_grammar_and_agree() -> None:
    allowed = {
        0: {1: 1, 2: 2}, 1: {3: 1, 4: 3}, 2: {1: 2, 5: 4}, 3: {4: 2, 3: 5}, 4: {2: 3, 5: 5},
    }  # fmt: skip
    inputs, targets = drawn(EmbeddedReber(agreement_only=False), 200, 14)
    for row, following in zip(inputs, targets, strict=True):
        np.testing.assert_array_equal(following[:-1], row[1:])
        word = [*row.tolist(), int(following[-1])]
        assert word[0] == 0 and word[2] == 0 and word[-1] == 6 and word[-3] == 6
        assert word[1] in (1, 2) and word[-2] == word[1]
        state = 0
        for symbol in word[3:-3]:
            state = allowed[state][symbol]
        assert state == 5
    _, agreement = drawn(EmbeddedReber(), 50, 14)
    assert (agreement[:, -2] != IGNORE).all() and (agreement[:, :-2] == IGNORE).all()


def test_the_entropy_of_the_grammar_is_that_of_its_strings() -> None:
    problem = EmbeddedReber(agreement_only=False)
    for length in (8, 9, 11):
        inputs, _ = drawn(problem, 30_000, length)
        counts = np.array(list(Counter(map(bytes, inputs)).values())) / 30_000
        (value,) = problem.baselines(length).values()
        found = -(counts * np.log(counts)).sum()
        assert value * length == pytest.approx(found, rel=0.01)


def test_recall() -> None:
    symbols, targets = drawn(DelayedRecall(delay=3, alphabet=5), 20, 10)
    np.testing.assert_array_equal(targets[:, 3:], symbols[:, :-3])
    assert (targets[:, :3] == IGNORE).all()
    inputs, targets = drawn(AssociativeRecall(keys=6, values=4), 300, 5)
    for row, asked in zip(inputs, targets, strict=True):
        pairs = dict(zip(row[:-1:2].tolist(), row[1::2].tolist(), strict=True))
        assert len(pairs) == 5 and asked[-1] == pairs[row[-1]] - 6
    assert {int(a) for a in targets[:, -1]} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("problem", "length"),
    [
        (Parity(), 6), (Counting(), 9), (Blocks(), 6), (Dyck(), 6), (EmbeddedReber(), 9),
        (DelayedRecall(delay=2), 6), (AssociativeRecall(), 4),
    ],
    ids=lambda p: getattr(p, "name", p),
)  # fmt: skip
def test_each_is_data_like_any_other(problem: Problem, length: int) -> None:
    data = SyntheticData(problem, length=length, batch_size=4, valid_sequences=5, test_sequences=5)
    assert all(value >= 0 for value in data.baselines().values())
    assert data.describe()["digest"] == data.describe()["digest"]
    first, second = data.draw(0), data.draw(0)
    assert (first.inputs == second.inputs).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Counting(3, 2), "least <= most"),
        (lambda: Blocks(4), "letters 2 or 3"),
        (lambda: Dyck(0), "types, depth >= 1"),
        (lambda: DelayedRecall(0), "delay >= 1"),
        (lambda: AssociativeRecall(values=1), "values >= 2"),
        (lambda: SyntheticData(EmbeddedReber(), length=5), "at least 8"),
        (lambda: drawn(Dyck(), 2, 7), "even number of steps"),
        (lambda: drawn(AssociativeRecall(keys=3), 2, 4), "4 pairs need as many keys"),
    ],
)
def test_what_cannot_be(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
