"""Local text that cannot be read or used: one clear line that names the file or the setting."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import pytest

from seqmodels.data import TextData

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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "byte"}, "data.level: expected one of 'char', 'word', 'subword'; got 'byte'"),
        (
            {"split": (0.9, 0.2, 0.1)},
            r"data.split: expected three fractions .* got \[0.9, 0.2, 0.1\]",
        ),
        ({"split": (0.5, 0.5)}, "data.split: expected three"),
        ({"split": (1.1, -0.1, 0)}, "data.split: expected three"),
        ({"split": (math.nan, 0.5, 0.5)}, "data.split: expected three"),
        ({"split": (0, 0.5, 0.5)}, "training fraction must be above 0"),
        ({"batch_size": 0}, "data.batch_size must be >= 1, got 0"),
        ({"seq_len": 0}, "data.seq_len must be >= 1, got 0"),
        ({"eval_batch_size": -1}, "data.eval_batch_size must be >= 1, got -1"),
        ({"eval_seq_len": 0}, "data.eval_seq_len must be >= 1, got 0"),
        ({"max_vocab": 1}, "data.max_vocab must be >= 2"),
        ({"min_count": 0}, "data.min_count must be >= 1"),
        ({"max_chars": 0}, "data.max_chars must be >= 1 or null, got 0"),
    ],
)
def test_settings_are_checked_before_anything_is_read(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TextData(path="nowhere", **settings)


def refusal(path: Path | str, error: type[Exception], **settings: Any) -> str:
    with pytest.raises(error) as caught:
        ready(path, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["nowhere.txt", "no/where", "*.txt", "[ab].txt"])
def test_nothing_there(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path / name, FileNotFoundError)
    assert message.startswith(f"data.path={tmp_path / name}: ")
    assert ("no file matches this pattern" in message) == (name[0] in "*[")


@pytest.mark.parametrize("name", ["empty.txt", "empty.txt.gz"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "")
    assert refusal(path, ValueError) == f"{path} is empty: give a file with text"


@pytest.mark.parametrize("level", ["char", "word"])
def test_nothing_but_white_space(tmp_path: Path, level: str) -> None:
    # At word level this would be a text of <eos> alone.
    path = write(tmp_path / "t.txt", " \n\t\n" * 500)
    said = refusal(path, ValueError, level=level)
    assert said == f"{path} is nothing but white space: give a file with text"


def test_a_path_of_no_letters() -> None:
    assert "data.path is empty" in refusal("", ValueError)


def test_a_short_split_of_a_folder_names_its_own_file(tmp_path: Path) -> None:
    write(tmp_path / "a.train.txt")
    path = write(tmp_path / "a.valid.txt", "abc")
    message = refusal(tmp_path, ValueError)
    assert f"the valid split of {path} has 3 tokens" in message
    assert "data.split" not in message  # which does not matter here


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "word"}, "data.level=word, but .* one of level char"),
        ({"lowercase": True}, "data.lowercase=true, but .* made with lowercase=false"),
    ],
)
def test_a_vocabulary_of_another_kind(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "t.txt")
    vocabulary = ready(path).vocabulary
    with pytest.raises(ValueError, match=message):
        TextData(path=str(path), **{**SMALL, **settings}).setup(vocabulary)


def test_a_pattern_of_empty_files(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / name, "")
    assert f"the 2 files of {tmp_path}/* are empty" in refusal(tmp_path / "*", ValueError)


def test_an_empty_split(tmp_path: Path) -> None:
    write(tmp_path / "train.txt")
    path = write(tmp_path / "valid.txt", "")
    assert str(path) in refusal(tmp_path, ValueError)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(TEXT.encode() + "Tür".encode("latin-1"))
    message = refusal(path, ValueError)
    assert f"{path} is not UTF-8: byte {len(TEXT) + 1} is 0xfc" in message


@pytest.mark.parametrize("damage", ["truncated", "not gzip", "flipped"])
def test_a_damaged_archive(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "t.txt.gz")
    raw = path.read_bytes()
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    elif damage == "flipped":
        raw = raw[:20] + bytes(b ^ 0xFF for b in raw[20:40]) + raw[40:]
    path.write_bytes(TEXT.encode() if damage == "not gzip" else raw)
    assert f"{path} is not a whole gzip archive: " in refusal(path, ValueError)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([], ["none for train", "holds no file"]),
        (["a.txt", "b.txt"], ["none for train", "holds a.txt, b.txt", "/*'"]),
        (["train.txt", "test.txt"], ["none for valid", "holds test.txt, train.txt"]),
        ([f"{i}.txt" for i in range(12)], ["none for train", "and 4 more"]),
        (["a.train.txt", "b.train.txt", "valid"], ["which file is the train split", "a.train.txt"]),
        (["train.txt", "train.txt.gz", "valid"], ["which file is the train split", "txt.gz"]),
        (["train", "val.txt", "dev.txt"], ["which file is the valid split: dev.txt, val.txt"]),
        (["train.valid.txt"], ["which file is the valid split: train.valid.txt"]),
    ],
)
def test_an_unclear_folder(tmp_path: Path, names: list[str], parts: list[str]) -> None:
    for name in names:
        write(tmp_path / name)
    message = refusal(tmp_path, ValueError)
    assert message.startswith(f"data.path={tmp_path}: ")
    assert [part for part in parts if part not in message] == []


@pytest.mark.parametrize(
    ("text", "settings", "parts"),
    [
        ("a" * 100, {"split": (0.17, 0.43, 0.4)}, ["train split", "17 tokens", "18 that 3 streams",
         "lower data.batch_size, or lower data.seq_len"]),
        ("a" * 20, {"split": (0.9, 0.1, 0)}, ["valid split", "2 tokens", "4 that 2 streams",
         "lower data.eval_batch_size, or change data.split"]),
        ("a" * 20, {"split": (0.99, 0.01, 0)}, ["valid split", "1 tokens"]),
        ("a" * 20, {"split": (0.9, 0, 0.1), "eval_batch_size": 5}, ["test split", "10 that 5"]),
        ("ab", {"batch_size": 1, "split": (1, 0, 0)}, ["2 tokens", "6 that one stream needs"]),
        ("a\n", {"level": "word", "split": (1, 0, 0)}, ["train split", "2 tokens"]),
    ],
)  # fmt: skip
def test_too_little_text(
    tmp_path: Path, text: str, settings: dict[str, Any], parts: list[str]
) -> None:
    path = write(tmp_path / "t.txt", text)
    message = refusal(path, ValueError, **settings)
    assert [part for part in [str(path), *parts] if part not in message] == []


def test_one_chunk_of_text_is_enough(tmp_path: Path) -> None:
    path = write(tmp_path / "t.txt", "a" * 18)
    for drop_remainder in (False, True):
        data = ready(path, split=(1, 0, 0), drop_remainder=drop_remainder)
        assert len(data.train_loader()) == 1
