"""Symbols: counted, cut, turned to numbers and back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqmodels.data.vocabulary import (
    EOS,
    UNK,
    Level,
    Vocabulary,
    characters_before,
    lines_of,
    tokenise,
)

ODD = "Ærø\tπ ≈ 3,14 😀👩‍🚀\n\n\x0c\x85\u2028\x00\xa0naïve \U0010ffff\n"
LINES = "the cat  sat\n\n on\tthe mat"


def build(text: str, level: Level = "char", **settings: int) -> Vocabulary:
    return Vocabulary.build(tokenise(text, level), level, **settings)


# ------------------------------------------------------------------------------------- tokens


def test_words_and_the_end_of_every_line() -> None:
    words = ["the", "cat", "sat", EOS, EOS, "on", "the", "mat", EOS]
    assert list(tokenise(LINES, "word")) == words
    assert list(tokenise(LINES + "\n", "word")) == words
    assert list(tokenise("", "word")) == []


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_a_line_feed_ends_a_line(sign: str) -> None:
    text = f"one{sign}two\nthree\n"
    assert len(text.splitlines()) == 3  # what must not happen
    assert lines_of(text) == [f"one{sign}two", "three"]
    assert list(tokenise(text, "word")) == ["one", "two", EOS, "three", EOS]


@pytest.mark.parametrize("text", [LINES, LINES + "\n", "\n", "a", " a \n b", ODD])
@pytest.mark.parametrize("level", ["char", "word"])
def test_characters_before_a_token(text: str, level: Level) -> None:
    tokens = list(tokenise(text, level))
    starts = [characters_before(text, level, i) for i in range(len(tokens) + 2)]
    assert starts[-2:] == [len(text)] * 2
    for i, token in enumerate(tokens):
        rest = text[starts[i] :]
        assert rest.startswith(token if token != EOS else "\n") or (token == EOS and not rest.strip())
        # What comes before a token holds exactly the tokens before it.
        before = list(tokenise(text[: starts[i]], level))
        assert before[:i] == tokens[:i]
        assert len(before) - i in (0, 1 if level == "word" else 0)


# --------------------------------------------------------------------------------- characters


@pytest.mark.parametrize("text", [ODD, "a", "\n", "<unk>", LINES, "\r", "é e\u0301"])
def test_decoding_gives_the_characters_back(text: str) -> None:
    vocabulary = build(text)
    numbers = vocabulary.encode(text)
    assert vocabulary.decode(numbers) == text
    assert "".join(map(vocabulary.decode_next, numbers)) == text
    assert len(numbers) == len(text)
    assert vocabulary.unk_id not in numbers  # the text "<unk>" is five characters, not the symbol


def test_the_table_and_the_dictionary_agree() -> None:
    vocabulary = build("hello 😀")
    text = "hello world 😀👩 \ud800"
    assert vocabulary.encode(text).tolist() == vocabulary.encode(list(text)).tolist()


# ---------------------------------------------------------------------------------- vocabulary


def test_the_most_frequent_come_first_and_ties_in_their_order() -> None:
    assert build("bbbaac").symbols == ["b", "a", "c", UNK]
    assert build("cab").symbols == ["a", "b", "c", UNK]
    assert build("b a\nb", "word").symbols == [EOS, "b", "a", UNK]


def test_the_order_of_the_text_does_not_matter() -> None:
    text = "to be or not to be"
    assert build(text[::-1]).symbols == build(text).symbols


def test_rare_symbols_become_unknown() -> None:
    vocabulary = build("aaaa bb c", min_count=2)
    assert set(vocabulary.symbols) == {"a", "b", " ", UNK}
    assert vocabulary.decode(vocabulary.encode("abc")) == f"ab{UNK}"


@pytest.mark.parametrize("most", [2, 3, 4, 5, 100])
def test_at_most_so_many_symbols(most: int) -> None:
    vocabulary = build("aaabbc", max_size=most)
    assert len(vocabulary) == min(most, 4)
    kept = [s for s in vocabulary.symbols if s != UNK]
    assert kept == ["a", "b", "c"][: most - 1]


def test_the_place_of_the_unknown_symbol_is_its_rank() -> None:
    # Five a, four others of which none is kept: <unk> is the second most frequent.
    assert build("aaaaa xyz", "char", min_count=2).symbols == ["a", UNK]
    assert build("a a a <unk> <unk> b\n", "word").symbols == ["a", UNK, EOS, "b"]


def test_unknown_words_of_the_text_are_the_unknown_symbol() -> None:
    vocabulary = build("a <unk> b\n", "word")
    assert vocabulary.symbols.count(UNK) == 1
    numbers = vocabulary.encode(tokenise("zebra <unk> a\n", "word"))
    assert numbers.dtype == np.int64
    assert numbers[:2].tolist() == [vocabulary.unk_id] * 2
    assert vocabulary.decode(numbers) == "<unk> <unk> a\n"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_size": 1}, "data.max_vocab must be >= 2 or null, got 1"),
        ({"max_size": 0}, "data.max_vocab must be >= 2 or null, got 0"),
        ({"min_count": 0}, "data.min_count must be >= 1, got 0"),
    ],
)
def test_impossible_limits_are_refused(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build("abc", **settings)


@pytest.mark.parametrize("level", ["char", "word"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_a_vocabulary_survives_json(level: Level, lowercase: bool) -> None:
    made = Vocabulary.build(tokenise(ODD, level), level, lowercase=lowercase)
    back = Vocabulary.from_dict(json.loads(json.dumps(made.to_dict())))
    assert back.symbols == made.symbols
    assert (back.level, back.lowercase, back.unk_id) == (level, lowercase, made.unk_id)
    tokens = tokenise(ODD + "unseen", level)
    assert back.encode(tokens).tolist() == made.encode(tokens).tolist()


@pytest.mark.parametrize(
    ("symbols", "level", "said"),
    [
        (["a", "a", UNK], "char", "twice: 'a'"),
        (["a", "b"], "char", "must hold <unk>"),
        ([], "word", "must hold <unk>"),
        (["ab", UNK], "char", "'ab' of a vocabulary is not a character"),
        (["", UNK], "char", "'' of a vocabulary is not a character"),
        ([3, UNK], "word", "3 of a vocabulary is not text"),
        ([UNK], "byte", "'char' or 'word', got 'byte'"),
    ],
)
def test_impossible_vocabularies_are_refused(symbols: list[str], level: Level, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Vocabulary(symbols, level)


@pytest.mark.parametrize("missing", ["level", "symbols"])
def test_half_a_vocabulary_is_refused(missing: str) -> None:
    plain = build("abc").to_dict()
    del plain[missing]
    with pytest.raises(KeyError, match=missing):
        Vocabulary.from_dict(plain)


# ------------------------------------------------------------------------------- words, prompts


def test_decoded_words_are_lines_again() -> None:
    vocabulary = build(LINES, "word")
    numbers = vocabulary.encode(tokenise(LINES, "word"))
    assert vocabulary.decode(numbers) == "the cat sat\n\non the mat\n"
    assert vocabulary.decode(numbers[:2]) == "the cat"
    assert vocabulary.decode([]) == ""


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("the cat", ["the", "cat"]),
        (" the  cat ", ["the", "cat"]),
        ("the cat\n", ["the", "cat", EOS]),
        ("on\nthe", ["on", EOS, "the"]),
        ("the dog", ["the", UNK]),
        ("\n", [EOS]),
        ("  ", [EOS]),
        ("", [EOS]),
        (None, [EOS]),
    ],
)
def test_a_prompt_of_words(prompt: str | None, tokens: list[str]) -> None:
    vocabulary = build(LINES, "word")
    assert [vocabulary.symbols[n] for n in vocabulary.encode_prompt(prompt)] == tokens


@pytest.mark.parametrize(
    ("prompt", "characters"),
    [("The", [UNK, "h", "e"]), (" t", [" ", "t"]), ("", ["\n"]), (None, ["\n"]), ("\n", ["\n"])],
)
def test_a_prompt_of_characters(prompt: str | None, characters: list[str]) -> None:
    vocabulary = build(LINES)
    assert [vocabulary.symbols[n] for n in vocabulary.encode_prompt(prompt)] == characters


@pytest.mark.parametrize("level", ["char", "word"])
def test_a_prompt_is_turned_to_lower_case_as_the_text_was(level: Level) -> None:
    vocabulary = Vocabulary.build(tokenise(LINES, level), level, lowercase=True)
    assert vocabulary.encode_prompt("THE Cat") == vocabulary.encode_prompt("the cat")
    assert vocabulary.unk_id not in vocabulary.encode_prompt("THE Cat")
