"""Tables of numbers: text with separators, NPY and NPZ."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from seqmodels.data.arrays import read_arrays

Array = np.ndarray

TEXT = (".csv", ".tsv", ".txt", ".dat")
KNOWN = ".csv, .tsv, .txt, .dat (.gz too), .npy or .npz"
_GAPS = ("", "NA", "N/A", "NaN", "nan", "null", "None", "-", "?")


@dataclass(frozen=True)
class Table:
    """Columns by name.

    Attributes:
        columns: (T) float64 each; NaN where there is no number.
        cells: what stands there, of a text.
        lines: of each row, of a text.
    """

    columns: dict[str, Array]
    cells: dict[str, list[str]] | None = None
    lines: list[int] | None = None

    def place(self, name: str, row: int) -> str:
        """Where a row is, and what stands there, for messages."""
        if self.cells is None or self.lines is None:
            return f"row {row + 1}"
        cell = self.cells[name][row]
        return f"line {self.lines[row]} " + (f"({cell!r})" if cell else "(nothing)")


def suffix_of(file: Path) -> str:
    """The ending in small letters, below the .gz of a compressed text."""
    inner = Path(file.stem).suffix.lower() if file.suffix.lower() == ".gz" else ""
    return inner if inner in TEXT else file.suffix.lower()


def read_table(file: Path, *, separator: str | None = None, decimal: str = ".") -> Table:
    """A file's columns; see `FileSeries` for the kinds of files and for both settings.

    Raises:
        ValueError: the file is no table; names the line or the array.
        OSError: it cannot be read.
    """
    suffix = suffix_of(file)
    if suffix in (".npy", ".npz"):
        return Table(_arrays(file))
    if suffix not in TEXT:
        raise ValueError(f"{file}: expected a {KNOWN} file, got {suffix or 'no ending'}")
    lines = [
        (number, line)
        for number, line in enumerate(_lines(file), 1)
        if not line.startswith("#")
    ]  # fmt: skip
    while lines and not lines[-1][1].strip():
        lines.pop()
    first = next((line for _, line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{file}: there is nothing in it")
    found = _separator(first, suffix, decimal) if separator is None else separator
    rows: list[tuple[int, list[str]]] = []
    names: list[str] | None = None
    for number, line in lines:
        if not line.strip():
            if rows:  # in a single column an empty line is a gap
                raise ValueError(f"{file}, line {number}: it is empty: fill the gap or cut it")
            continue
        cells = _split(line, found, f"{file}, line {number}")
        if names is None:
            if any(_number(cell, decimal) is None for cell in cells):
                names = [cell or str(k) for k, cell in enumerate(cells)]
                continue
            names = [str(k) for k in range(len(cells))]
        if len(cells) != len(names):
            shown = "blanks" if found == " " else repr(found)
            raise ValueError(
                f"{file}, line {number}: expected {len(names)} columns, as in the first line, got "
                f"{len(cells)} (separated by {shown}; data.separator=… for another)"
            )
        rows.append((number, cells))
    assert names is not None
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: two columns have the same name: {', '.join(names)}")
    if not rows:
        raise ValueError(f"{file}: there is nothing in it below the names of its columns")
    columns, texts = {}, {}
    for k, name in enumerate(names):
        texts[name] = [cells[k] for _, cells in rows]
        read = (_number(cell, decimal) for cell in texts[name])
        columns[name] = np.array([np.nan if value is None else value for value in read])
    return Table(columns, texts, [number for number, _ in rows])


def is_decimal_comma(cell: str) -> bool:
    """Whether it would be a number if its comma were a point."""
    return re.fullmatch(r"[+-]?\d*,\d+(e[+-]?\d+)?", cell, re.IGNORECASE) is not None


def times_of(table: Table, name: str) -> Array:
    """A column of times as numbers (T), in its own unit, or in seconds where it holds dates.

    Raises:
        ValueError: a time is neither a number nor a date of ISO 8601.
    """
    values = table.columns[name]
    if np.isfinite(values).all():
        return values
    assert table.cells is not None
    seconds = np.empty(len(values))
    for row, cell in enumerate(table.cells[name]):
        try:
            moment = datetime.fromisoformat(f"{cell}-01" if len(cell) == 7 else cell)
        except ValueError:
            raise ValueError(
                f"{name!r} is no time in {table.place(name, row)}: expected numbers, or dates such "
                "as 2020-01-31 or 2020-01-31T12:00"
            ) from None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds[row] = aware.timestamp()
    return seconds


def _lines(file: Path) -> list[str]:
    content = file.read_bytes()
    if file.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{file}: cannot be decompressed ({error})") from None
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file}: not a text in UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None


def _separator(first: str, suffix: str, decimal: str) -> str:
    """Of tab, semicolon and comma the one that makes most columns of the first line."""
    if suffix == ".tsv":
        return "\t"
    counts = {
        each: len(next(csv.reader([first], delimiter=each)))
        for each in ("\t", ";", ",")
        if each != decimal
    }
    most = max(counts, key=lambda each: counts[each])
    if counts[most] > 1:
        return most
    return " " if suffix in (".txt", ".dat") else ","


def _split(line: str, separator: str, place: str) -> list[str]:
    if separator == " ":
        return [cell.strip('"') for cell in line.split()]
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise ValueError(f"{place}: {error}") from None
    return [cell.strip() for cell in row]


def _number(cell: str, decimal: str) -> float | None:
    """None: it is no number; a gap is NaN."""
    if cell in _GAPS:
        return float("nan")
    if "_" in cell or (decimal == "," and "." in cell):
        return None
    try:
        return float(cell.replace(",", ".") if decimal == "," else cell)
    except ValueError:
        return None


def _arrays(file: Path) -> dict[str, Array]:
    table: dict[str, Array] = {}
    for key, array in read_arrays(file).items():
        if array.ndim not in (1, 2) or array.dtype.kind not in "fiu":
            raise ValueError(
                f"{file}: expected numbers of shape (T,) or (T, C), got {array.shape} of "
                f"{array.dtype}{f' in {key!r}' if key else ''}"
            )
        for k, column in enumerate((array if array.ndim == 2 else array[:, None]).T):
            name = key if key and array.ndim == 1 else f"{key}_{k}" if key else str(k)
            table[name] = np.asarray(column, dtype=np.float64)
    if not table or min(map(len, table.values())) == 0:
        raise ValueError(f"{file}: there is nothing in it")
    if len({len(c) for c in table.values()}) > 1:
        raise ValueError(f"{file}: its arrays are of different lengths")
    return table
