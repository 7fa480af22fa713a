"""Text sets through `datasets`: local files of the hub's formats."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmodels.data import HubTextData, TextData
from seqmodels.data import hub_text as module

ROWS = ["the quick brown fox", "", "jumps over\nthe lazy dog", 'ünï, "quoted", 😀', "end"] * 8
TEXT = "".join(row + "\n" for row in ROWS)
SMALL: dict[str, Any] = {"batch_size": 3, "seq_len": 5, "eval_batch_size": 2, "eval_seq_len": 4}


def write_parquet(path: Path, rows: list[str], column: str) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({column: rows, "label": range(len(rows))}), path)


def write_json(path: Path, rows: list[str], column: str) -> None:
    path.write_text("".join(json.dumps({"label": 1, column: row}) + "\n" for row in rows))


def write_csv(path: Path, rows: list[str], column: str) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([[column], *([row] for row in rows)])


def write_text(path: Path, rows: list[str], _column: str) -> None:
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, list[str], str], None]] = {
    "parquet": write_parquet,
    "jsonl": write_json,
    "json": write_json,
    "csv": write_csv,
    "txt": write_text,
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., HubTextData]:
    def build(**settings: Any) -> HubTextData:
        return HubTextData(cache_dir=str(tmp_path / "cache"), **{**SMALL, **settings})

    return build


def ready(data: HubTextData) -> HubTextData:
    data.setup()
    return data


def text_of(data: HubTextData, split: Any) -> str:
    return data.vocabulary.decode(data.tokens[split])


@pytest.mark.parametrize("ending", WRITERS)
def test_rows_become_lines(tmp_path: Path, make: Callable[..., HubTextData], ending: str) -> None:
    path = tmp_path / f"set.{ending}"
    rows = [row or "-" for row in ROWS] if ending == "csv" else ROWS  # csv: "" is a missing value
    WRITERS[ending](path, rows, "text")
    data = ready(make(data_files=str(path), split=(1, 0, 0)))
    assert text_of(data, "train") == "".join(row + "\n" for row in rows)
    assert json.loads(json.dumps(data.describe()))["files"] == [str(path)]


@pytest.mark.parametrize("level", ["char", "word"])
def test_the_same_streams_as_of_a_text_file(
    tmp_path: Path, make: Callable[..., HubTextData], level: Any
) -> None:
    write_parquet(tmp_path / "set.parquet", ROWS, "text")
    (tmp_path / "set.txt").write_text(TEXT, encoding="utf-8")
    settings = {"level": level, "split": (0.6, 0.2, 0.2)}
    hub = ready(make(data_files=str(tmp_path / "set.parquet"), **settings)).describe()
    local = TextData(path=str(tmp_path / "set.txt"), **{**SMALL, **settings})
    local.setup()
    different = {key for key, value in local.describe().items() if hub[key] != value}
    assert different == {"summary", "files"}  # the digest, too, is the same


def test_rows_that_end_their_line_themselves(
    tmp_path: Path, make: Callable[..., HubTextData]
) -> None:
    rows = [" = Title = \n", "", " Text . \n"] * 9  # as in WikiText
    write_json(tmp_path / "w.json", rows, "text")
    data = ready(make(data_files=str(tmp_path / "w.json"), split=(1, 0, 0)))
    assert text_of(data, "train") == " = Title = \n\n Text . \n" * 9


# Characters in the splits of the sets below.
SIZES = {"train": 400, "validation": 120, "test": 80}


@pytest.mark.parametrize(
    ("splits", "settings", "expected"),
    [
        (["train", "validation", "test"], {}, {"train": 400, "valid": 120, "test": 80}),
        (["train", "validation"], {}, {"train": 400, "valid": 120}),
        (["train", "test"], {}, {"train": 300, "valid": 100, "test": 80}),
        (["train"], {}, {"train": 240, "valid": 80, "test": 80}),
        (["train", "test"], {"split": (1, 0, 0)}, {"train": 400, "test": 80}),
        (
            ["train", "validation"],
            {"train_split": "validation", "valid_split": "train"},
            {"train": 120, "valid": 400},
        ),
    ],
)
def test_splits_of_a_set(
    tmp_path: Path,
    make: Callable[..., HubTextData],
    splits: list[str],
    settings: dict[str, Any],
    expected: dict[str, int],
) -> None:
    files = {split: str(tmp_path / f"{split}.jsonl") for split in splits}
    for split, path in files.items():
        write_json(Path(path), ["abc"] * (SIZES[split] // 4), "text")
    data = ready(make(data_files=files, **{"split": (0.6, 0.2, 0.2), **settings}))
    assert {split: len(tokens) for split, tokens in data.tokens.items()} == expected
    assert data.characters == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [(["a.jsonl", "b.json"], "json"), (["a.csv.gz"], "csv"), (["x/*.parquet"], "parquet")],
)
def test_the_format_that_the_ending_says(paths: list[str], expected: str) -> None:
    assert module.format_of(paths) == expected


def test_the_format_can_be_said(tmp_path: Path, make: Callable[..., HubTextData]) -> None:
    write_text(tmp_path / "noending", ROWS, "")
    data = ready(make(data_files=[str(tmp_path / "noending")], format="text", split=(1, 0, 0)))
    assert text_of(data, "train") == TEXT


def test_local_text_does_not_need_the_library() -> None:
    program = "import sys, seqmodels.data; assert 'datasets' not in sys.modules"
    path = str(Path(__file__).parents[1] / "src")
    subprocess.run([sys.executable, "-c", program], check=True, env={"PYTHONPATH": path})
