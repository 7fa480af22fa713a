"""Local text: where it is found, how it is cut, and what is said about it."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from seqmodels.data import IGNORE, StreamLoader, TextData, Vocabulary, tokenise
from seqmodels.data.sources import cut, join_texts, standard_library

TEXT = "the quick brown fox\njumps over\n\nthe lazy dog, the end\n" * 20
SMALL: dict[str, Any] = {"batch_size": 3, "seq_len": 5, "eval_batch_size": 2, "eval_seq_len": 4}


def write(path: Path, text: str = TEXT) -> Path:
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def ready(path: Path | str, **settings: Any) -> TextData:
    data = TextData(path=str(path), **{**SMALL, **settings})
    data.setup()
    return data


def text_of(data: TextData, split: Any) -> str:
    return data.vocabulary.decode(data.tokens[split])


# --------------------------------------------------------------------------------- where it lies


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz", "no_ending", "star[1].txt"])
def test_a_file(tmp_path: Path, name: str) -> None:
    data = ready(write(tmp_path / name), split=(1, 0, 0))
    assert text_of(data, "train") == TEXT
    assert data.valid_loader() is None
    assert data.test_loader() is None
    assert data.baselines() == {}
    described = data.describe()
    assert described["files"] == [str(tmp_path / name)]
    assert described["digest"] == hashlib.sha256(TEXT.encode()).hexdigest()


def test_all_files_of_a_pattern_are_one_text_with_whole_lines(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "second\nfile")
    write(tmp_path / "a.txt", "first file")
    write(tmp_path / "c.md", "not this one")
    (tmp_path / "d.txt").mkdir()
    data = ready(tmp_path / "*.txt", split=(1, 0, 0), batch_size=1)
    assert text_of(data, "train") == "first file\nsecond\nfile"
    assert [Path(file).name for file in data.files] == ["a.txt", "b.txt"]


def test_a_pattern_across_folders(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder / "z").mkdir(parents=True)
        write(tmp_path / folder / "z" / "t.txt", f"text of {folder}, long enough\n")
    data = ready(tmp_path / "**" / "*.txt", split=(1, 0, 0))
    assert text_of(data, "train").count("long enough") == 2


def test_joining_keeps_empty_texts_and_the_last_end() -> None:
    assert join_texts(["", "a", "", "b\n", "c"]) == "a\nb\nc"


@pytest.mark.parametrize(
    "names",
    [
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("wiki.train.tokens.gz", "wiki.valid.tokens.gz", "wiki.test.tokens.gz"),
        ("train.txt", "val.txt", "test.txt"),
        ("my-TRAIN", "my-dev", "my-test"),
        ("train", "validation", "test"),
    ],
)
@pytest.mark.parametrize("with_test", [False, True])
def test_a_folder_with_a_file_for_each_split(
    tmp_path: Path, names: tuple[str, ...], with_test: bool
) -> None:
    texts = ("a rather long text to train on", "to validate", "to test")
    for name, text in list(zip(names, texts, strict=True))[: 3 if with_test else 2]:
        write(tmp_path / name, text)
    write(tmp_path / "README.md", "about trains, tests and validity")
    write(tmp_path / ".train.txt", "hidden")
    data = ready(tmp_path)
    for split, text in list(zip(("train", "valid", "test"), texts, strict=True))[
        : len(data.tokens)
    ]:
        assert data.characters[split] == len(data.tokens[split]) == len(text)
    assert set(data.tokens) == {"train", "valid", "test"} - (set() if with_test else {"test"})
    assert data.describe()["unknown"]["valid"] == 2  # v and d are not in the training text
    assert len(data.describe()["files"]) == len(data.tokens)


def test_packing_changes_nothing(tmp_path: Path) -> None:
    plain = ready(write(tmp_path / "a.txt")).describe()
    packed = ready(write(tmp_path / "b.gz")).describe()
    different = {key for key in plain if plain[key] != packed[key]}
    assert different == {"summary", "files"}


def test_by_default_the_library_of_this_python() -> None:
    data = TextData()
    data.setup()
    described = json.loads(json.dumps(data.describe()))
    assert "standard library" in described["summary"]
    assert sum(described["characters"].values()) > 3_000_000
    assert {"argparse.py", "zipfile"} & {file.name for file in standard_library()}
    assert not any("site-packages" in str(file) for file in standard_library())
    assert standard_library() == sorted(standard_library())
    losses = data.baselines()
    assert 1 < losses["bigram"] < losses["unigram"] < math.log(len(data.vocabulary))


def test_line_ends_and_byte_order_marks(tmp_path: Path) -> None:
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n" * 5)
    text = text_of(ready(path, split=(1, 0, 0)), "train")
    assert text.startswith("one\ntwo\nthree\n")
    assert "\r" not in text


# ------------------------------------------------------------------------------------ how it is cut


@pytest.mark.parametrize(
    ("length", "fractions", "sizes"),
    [
        (1_115_394, (0.9, 0.1, 0.0), (1_003_854, 111_540, 0)),  # Tiny Shakespeare
        (10, (0.9, 0.0, 0.1), (9, 0, 1)),
        (10, (0.7, 0.2, 0.1), (7, 2, 1)),
        (100, (0.29, 0.29, 0.42), (29, 29, 42)),
        (7, (0.5, 0.25, 0.25), (3, 2, 2)),
        (7, (1 / 3, 1 / 3, 1 / 3), (2, 2, 3)),
        (7, (1, 0, 0), (7, 0, 0)),
        (0, (0.9, 0.05, 0.05), (0, 0, 0)),
    ],
)
def test_parts_at_exact_fractions(
    length: int, fractions: tuple[float, ...], sizes: tuple[int, ...]
) -> None:
    parts = [range(length)[where] for where in cut(length, fractions)]
    assert tuple(map(len, parts)) == sizes
    assert [i for part in parts for i in part] == list(range(length))


@pytest.mark.parametrize("level", ["char", "word"])
@pytest.mark.parametrize("split", [(0.9, 0.05, 0.05), (0.55, 0.45, 0), (0.5, 0, 0.5)])
def test_one_text_is_cut_in_order_and_counted_exactly(
    tmp_path: Path, level: Any, split: tuple[float, float, float]
) -> None:
    data = ready(write(tmp_path / "t.txt"), level=level, split=split)
    tokens = list(tokenise(TEXT, level))
    assert len(data.tokens["train"]) == int(split[0] * len(tokens))
    assert list(data.tokens) == [
        s for s, f in zip(("train", "valid", "test"), split, strict=True) if f
    ]
    together = [data.vocabulary.symbols[n] for ids in data.tokens.values() for n in ids]
    assert together == tokens
    assert sum(data.characters.values()) == len(TEXT)
    before = TEXT[: data.characters["train"]]  # what the training tokens stand for, to the letter
    assert (
        list(tokenise(before, level))[: len(data.tokens["train"])]
        == tokens[: len(data.tokens["train"])]
    )
    per_token = data.describe()["characters_per_token"]
    assert per_token["train"] == data.characters["train"] / len(data.tokens["train"])
    if level == "char":
        assert set(per_token.values()) == {1.0}


def test_the_vocabulary_is_of_the_training_text_alone(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "t.txt", "abc" * 30 + "xyz" * 10), split=(0.75, 0.25, 0))
    assert sorted(data.vocabulary.symbols) == ["<unk>", "a", "b", "c"]
    assert data.describe()["unknown"] == {"train": 0, "valid": 30}


def test_limits_of_the_vocabulary_and_lower_case(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt", "The the THE cat cat sat\n" * 20)
    data = ready(path, level="word", lowercase=True, max_vocab=4)
    assert data.vocabulary.symbols == ["the", "cat", "<eos>", "<unk>"]
    assert data.vocabulary.lowercase
    assert data.sizes() == {"num_tokens": 4}
    assert len(ready(path, level="word", min_count=30).vocabulary) == 2  # cat and <unk>


def test_unk_in_the_text_is_the_vocabularys_unk(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "t.txt", "a <unk> b\n" * 20), level="word", split=(1, 0, 0))
    assert len(data.vocabulary) == 4
    assert data.describe()["unknown"] == {"train": 20}


def test_only_the_first_characters(tmp_path: Path) -> None:
    data = ready(write(tmp_path / "t.txt"), max_chars=100, split=(1, 0, 0))
    assert text_of(data, "train") == TEXT[:100]


def test_a_given_vocabulary_is_used(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt")
    vocabulary = Vocabulary(["<unk>", "t", "h", "e"], "char")
    data = TextData(path=str(path), **SMALL)
    data.setup(vocabulary)
    assert data.vocabulary is vocabulary
    assert data.tokens["train"][:5].tolist() == [1, 2, 3, 0, 0]
    with pytest.raises(ValueError, match=r"data.level=word, but .* one of level char"):
        TextData(path=str(path), level="word", **SMALL).setup(vocabulary)


# ------------------------------------------------------------------------------------- the loaders


def predicted(loader: StreamLoader | None) -> int:
    assert loader is not None
    return sum(int((batch.targets != IGNORE).sum()) for batch in loader)


@pytest.mark.parametrize("drop_remainder", [False, True])
def test_every_split_predicts_all_its_tokens(tmp_path: Path, drop_remainder: bool) -> None:
    data = ready(write(tmp_path / "t.txt"), drop_remainder=drop_remainder)
    sizes = {split: len(tokens) for split, tokens in data.tokens.items()}
    train = data.train_loader()
    assert next(iter(train)).inputs.shape == (3, 5)
    whole = sizes["train"] - 3
    assert predicted(data.train_loader()) == (whole // 15 * 15 if drop_remainder else whole)
    # Evaluation leaves nothing out.
    assert predicted(data.valid_loader()) == sizes["valid"] - 2
    assert predicted(data.test_loader()) == sizes["test"] - 2
    valid = data.valid_loader()
    assert valid is not None
    assert next(iter(valid)).inputs.shape == (2, 4)


def test_the_chunk_of_evaluation_may_be_that_of_training(tmp_path: Path) -> None:
    loader = ready(write(tmp_path / "t.txt"), eval_seq_len=None).valid_loader()
    assert loader is not None
    assert next(iter(loader)).inputs.shape == (2, 5)


def test_baselines_up_to_an_order(tmp_path: Path) -> None:
    assert ready(write(tmp_path / "t.txt"), ngrams=0).baselines() == {}
    losses = ready(write(tmp_path / "t.txt"), ngrams=4).baselines()
    assert list(losses) == ["unigram", "bigram", "trigram", "4-gram"]
    assert list(losses.values()) == sorted(losses.values(), reverse=True)  # a text that repeats
