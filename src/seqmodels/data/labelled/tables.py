"""Texts with labels in the columns of a table, a row each."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
LONGEST = (1 << 31) - 1  # characters of a cell; the csv module itself stops at 131,072


class Example(NamedTuple):
    text: str
    label: str
    place: str  # where it was read, for messages


def example_of(text: Any, label: Any, place: str) -> Example:
    """The example, or a ValueError that says what is wrong with it and where."""
    if not isinstance(text, str):
        raise ValueError(f"{place}: expected a text, got {type(text).__name__} {text!r:.40}")
    if not text.strip():
        raise ValueError(f"{place}: the text is empty: leave it out or fill it")
    if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
        raise ValueError(f"{place}: expected a label, a word or a whole number, got {label!r:.40}")
    return Example(text, str(label).strip(), place)


def ending_of(file: Path) -> str:
    """The ending in small letters, below that of a packed file; "" of a folder."""
    bare = Path(file.stem) if file.suffix.lower() == ".gz" else file
    return bare.suffix.lower() if file.is_file() else ""


def read_text(file: Path, remarks: list[str]) -> str:
    """The text of a file; Latin-1 where it is not UTF-8, which is remarked."""
    raw = file.read_bytes()
    if file.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{file}: cannot be decompressed ({error})") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\x00" in raw:
            raise ValueError(f"{file}: not a text file") from None
        remarks.append(f"{file.name} read as Latin-1, for it is not UTF-8")
        text = raw.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_table(
    file: Path, text_column: str, label_column: str, remarks: list[str]
) -> list[Example]:
    """The rows of a table; `remarks` are added to."""
    ending = ending_of(file)
    if ending == ".parquet":
        rows = _parquet(file, text_column, label_column)
    elif ending == ".jsonl":
        rows = _json_lines(file, read_text(file, remarks), text_column, label_column)
    elif ending in TABLES:
        separator = "," if ending == ".csv" else "\t"
        rows = _separated(file, read_text(file, remarks), separator, text_column, label_column)
    else:
        raise ValueError(
            f"{file}: expected {', '.join(TABLES)} (.gz too) with columns of texts and labels, or "
            f"a folder, got {ending or 'no ending'}"
        )
    examples = [example_of(*row) for row in rows]
    if not examples:
        raise ValueError(f"{file}: there is no example in it")
    return examples


def check_columns(
    names: Iterable[str], text_column: str, label_column: str, shown: str
) -> list[str]:
    """The two columns, or a ValueError where there is no such column."""
    names = list(names)
    for column, setting in ((text_column, "text_column"), (label_column, "label_column")):
        if column not in names:
            raise ValueError(
                f"{shown} has no column {column!r}; it has {_few(names)}: choose "
                f"with data.{setting}=NAME"
            )
    return [text_column, label_column]


def _few(names: list[str]) -> str:
    """The names of columns as far as they can be read."""
    more = [f"and {len(names) - 20} more"] if len(names) > 20 else []
    return ", ".join([*(f"{name!r:.60}" for name in names[:20]), *more])


Row = tuple[Any, Any, str]  # text, label, place


def _separated(
    file: Path, text: str, separator: str, text_column: str, label_column: str
) -> Iterator[Row]:
    # Quotes have a meaning in .csv; many .tsv files hold single ones as plain signs.
    lines = io.StringIO(text)
    if separator == ",":
        reader = csv.reader(lines, strict=True)
    else:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    names = _next(reader, file)
    if not names:
        raise ValueError(f"{file}: there is nothing in its first line, expected names of columns")
    columns = check_columns(names, text_column, label_column, str(file))
    for column in columns:
        if names.count(column) > 1:
            raise ValueError(f"{file}: {names.count(column)} columns are called {column!r}")
    at = [names.index(column) for column in columns]
    while True:
        place = f"{file}, line {reader.line_num + 1}"  # where it begins
        cells = _next(reader, file)
        if cells is None:
            return
        if not cells:
            continue
        if len(cells) != len(names):
            raise ValueError(
                f"{place}: expected {len(names)} columns, as in the first line, got {len(cells)}"
            )
        yield cells[at[0]], cells[at[1]], place


def _next(reader: Any, file: Path) -> list[str] | None:
    """The next row; None after the last."""
    first = reader.line_num + 1
    usual = csv.field_size_limit(LONGEST)  # of the whole process: others may count on it
    try:
        row: list[str] | None = next(reader, None)
    except csv.Error as error:
        why = f"{error}: is a quote left open?" if reader.line_num > first else str(error)
        raise ValueError(f"{file}, line {first}: {why}") from None
    finally:
        csv.field_size_limit(usual)
    return row


def _json_lines(file: Path, text: str, text_column: str, label_column: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{place}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ValueError(f"{place}: expected an object with columns, got {type(row).__name__}")
        columns = check_columns(row, text_column, label_column, place)
        yield row[columns[0]], row[columns[1]], place


def _parquet(file: Path, text_column: str, label_column: str) -> Iterator[Row]:
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    try:
        table = parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise
        reason = (str(error).splitlines() or ["damaged"])[0]
        raise ValueError(f"{file}: not a Parquet file: {reason:.200}") from None
    columns = check_columns(table.column_names, text_column, label_column, str(file))
    texts, labels = (table[column].to_pylist() for column in columns)
    for number, (text, label) in enumerate(zip(texts, labels, strict=True)):
        yield text, label, f"{file}, row {number}"
