"""Vocabularies: what is kept, how texts become numbers and text again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from seqmodels.data import EOS, UNK, Vocabulary, tokenise
from seqmodels.data.vocabulary import Level, characters_before

WORDS = ["b", "a", "b", "c", "a", "b", UNK, "d"]


@pytest.mark.parametrize(
    ("limits", "symbols"),
    [
        ({}, ["b", "a", UNK, "c", "d"]),  # 3, 2, then 1 each in the order of their characters
        ({"min_count": 2}, [UNK, "b", "a"]),  # UNK: itself, c and d
        ({"max_size": 3}, [UNK, "b", "a"]),
        ({"max_size": 4}, ["b", UNK, "a", "c"]),
        ({"max_size": 2}, [UNK, "b"]),
        ({"max_size": 5}, ["b", "a", UNK, "c", "d"]),
        ({"min_count": 9}, [UNK]),
    ],
)
def test_most_frequent_first_and_unk_where_its_count_says(
    limits: dict[str, int], symbols: list[str]
) -> None:
    assert Vocabulary.build(WORDS, "word", **limits).symbols == symbols


def test_unk_is_there_without_any_unknown() -> None:
    assert Vocabulary.build("abba", "char").symbols == ["a", "b", UNK]


def test_characters_that_spell_unk_stay_characters() -> None:
    vocabulary = Vocabulary.build("x<unk>", "char")
    numbers = vocabulary.encode("<unk>x")
    assert vocabulary.unk_id not in numbers
    assert vocabulary.decode(numbers) == "<unk>x"


@pytest.mark.parametrize("level", ["char", "word"])
def test_unknown_symbols_become_unk(level: Level) -> None:
    vocabulary = Vocabulary.build("abc", level)
    numbers = vocabulary.encode("axb€c😀")
    assert numbers.dtype == np.int64
    assert [vocabulary.symbols[n] for n in numbers] == ["a", UNK, "b", UNK, "c", UNK]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("a b", ["a", "b", EOS]),
        ("a b\n", ["a", "b", EOS]),
        ("\n", [EOS]),
        (" a \t b\n\n c\n", ["a", "b", EOS, EOS, "c", EOS]),
        ("a\x0cb\x85c\u2028d\n", ["a", "b", "c", "d", EOS]),  # white space, but no line's end
    ],
)
def test_words_and_an_eos_for_each_line(text: str, tokens: list[str]) -> None:
    assert tokenise(text, "word") == tokens


@pytest.mark.parametrize("sign", [*"\v\f\x1c\x1d\x1e\x85\u2028\u2029"])
def test_only_a_line_feed_ends_a_line(sign: str) -> None:
    text = f"a{sign}b\nc"
    assert len(text.splitlines()) == 3  # what must not happen
    assert tokenise(text, "word") == ["a", "b", EOS, "c", EOS]


def test_the_table_of_characters_is_the_dictionary() -> None:
    vocabulary = Vocabulary.build("hello 😀\U0010ffff", "char")
    text = "hello world 😀👩 \ud800 \U0010ffff\x00"
    assert vocabulary.encode(text).tolist() == vocabulary.encode(list(text)).tolist()


@pytest.mark.parametrize("missing", ["level", "symbols"])
def test_half_a_vocabulary(missing: str) -> None:
    plain = Vocabulary.build("ab", "char").to_dict()
    del plain[missing]
    with pytest.raises(KeyError, match=missing):
        Vocabulary.from_dict(plain)


@pytest.mark.parametrize("text", ["one two\n\n  three\tfour \nfive", "a\n", "\n\n", "x y "])
def test_characters_before_points_at_the_token(text: str) -> None:
    tokens = tokenise(text, "word")
    offsets = [characters_before(text, "word", i) for i in range(len(tokens) + 1)]
    for token, offset in zip(tokens, offsets, strict=False):
        if token == EOS:
            assert text[offset : offset + 1] in ("\n", "")
        else:
            assert text[offset:].startswith(token)
    assert offsets == sorted(offsets)
    assert offsets[-1] == len(text)
    assert [characters_before(text, "char", i) for i in (0, 1, 99)] == [0, 1, len(text)]


@pytest.mark.parametrize(
    ("level", "text"),
    [("char", "Tab\tnew\nline  ünï😀 \x00"), ("word", "one two\n\nthree\n"), ("word", "a b c")],
)
def test_decode_gives_the_text_back(level: Level, text: str) -> None:
    tokens = tokenise(text, level)
    numbers = Vocabulary.build(tokens, level).encode(tokens)
    decoded = Vocabulary.build(tokens, level).decode(numbers)
    assert decoded == (text if level == "char" else text.rstrip("\n") + "\n")


def test_written_as_it_comes() -> None:
    vocabulary = Vocabulary.build(["a", EOS], "word")
    pieces = [vocabulary.decode_next(int(n)) for n in vocabulary.encode(["a", "a", EOS, "a"])]
    assert "".join(pieces) == "a a \na "


@pytest.mark.parametrize("level", ["char", "word"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_travels_through_json(level: Level, lowercase: bool) -> None:
    before = Vocabulary.build(tokenise("ünï \n\x85 🎈 a a", level), level, lowercase=lowercase)
    after = Vocabulary.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after.symbols == before.symbols
    assert (after.level, after.lowercase, after.unk_id) == (level, lowercase, before.unk_id)


@pytest.mark.parametrize(
    ("level", "prompt", "tokens"),
    [
        ("char", "ab", ["a", "b"]),
        ("char", "", ["\n"]),
        ("char", None, ["\n"]),
        ("word", "a b", ["a", "b"]),
        ("word", "a\n", ["a", EOS]),
        ("word", "a\n b", ["a", EOS, "b"]),
        ("word", "a z", ["a", UNK]),
        ("word", "  ", [EOS]),
        ("word", None, [EOS]),
    ],
)
def test_prompts_go_on_in_their_line(level: Level, prompt: str | None, tokens: list[str]) -> None:
    vocabulary = Vocabulary.build(["a", "b", "\n" if level == "char" else EOS], level)
    assert [vocabulary.symbols[n] for n in vocabulary.encode_prompt(prompt)] == tokens


def test_an_empty_prompt_starts_with_a_symbol_that_the_text_has() -> None:
    vocabulary = Vocabulary.build("abbb", "char")  # no line break
    assert [vocabulary.symbols[n] for n in vocabulary.encode_prompt("")] == ["b"]
    rare = Vocabulary.build("ab", "char", min_count=2)
    assert rare.encode_prompt(None) == [rare.unk_id]  # there is nothing else


@pytest.mark.parametrize(
    ("level", "prompt", "unknown", "opening"),
    [
        ("char", "aЖbЖ日", ["Ж", "日"], "aЖbЖ日"),
        ("char", "ab", [], "ab"),
        ("word", "a zz b yy zz", ["zz", "yy"], "a zz b yy zz "),
        ("word", "a b\n", [], "a b\n"),
        ("word", "a ", [], "a "),
        ("word", None, [], ""),
    ],
)
def test_what_is_unknown_in_a_prompt_and_how_it_opens_a_text(
    level: Level, prompt: str | None, unknown: list[str], opening: str
) -> None:
    vocabulary = Vocabulary.build(["a", "b", "\n" if level == "char" else EOS], level)
    assert vocabulary.unknown_in(prompt) == unknown
    assert vocabulary.opening(prompt) == opening


def test_prompts_are_turned_to_lower_case_as_the_text_was() -> None:
    vocabulary = Vocabulary.build("ab", "char", lowercase=True)
    assert vocabulary.encode_prompt("AB") == vocabulary.encode_prompt("ab")


@pytest.mark.parametrize(
    ("symbols", "level", "message"),
    [
        (["a", "a", UNK], "char", "twice: 'a'"),
        (["a"], "char", "must hold <unk>"),
        (["ab", UNK], "char", "'ab' of a vocabulary is not a character"),
        ([3, UNK], "word", "3 of a vocabulary is not text"),
        (["a", UNK], "byte", "'char', 'word', 'subword', got 'byte'"),
    ],
)
def test_impossible_vocabularies(symbols: list[str], level: Level, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(symbols, level)


@pytest.mark.parametrize(
    ("limits", "message"),
    [({"max_size": 1}, "max_vocab must be >= 2"), ({"min_count": 0}, "min_count must be >= 1")],
)
def test_impossible_limits(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary.build("ab", "char", **limits)
