"""Series of the user's own: CSV, text, NPY and NPZ files."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqmodels.data.arrays import read_arrays
from seqmodels.data.series.sources import Array, Series, Source

_TEXT = {".csv": ",", ".tsv": "\t", ".txt": None, ".dat": None}
_KNOWN = ".csv, .tsv, .txt, .dat (.gz too), .npy or .npz"


class FileSeries(Source):
    """Columns of a file; several files are several series, which nothing connects.

    Args:
        path: a file, a folder of them, or a list. `.csv` (commas), `.tsv` (tabs), `.txt` and `.dat`
            (blanks), each with a line of names or without, compressed by gzip (`.csv.gz`) or not;
            `.npy` (T,) or (T, C); `.npz`, an array a column or more. Columns without names are
            called 0, 1, …
        target: the column, or a list of them, that is predicted; None: all, or the only one.
        inputs: columns that are known and drive it; None: the targets are forecast from their own
            past.
    """

    endless = False

    def __init__(
        self,
        path: str | Sequence[str],
        *,
        target: str | int | Sequence[str | int] | None = None,
        inputs: str | int | Sequence[str | int] | None = None,
    ) -> None:
        given = [path] if isinstance(path, str) else list(path)
        self.files: list[Path] = []
        for each in given:
            file = Path(each).expanduser()
            if file.is_dir():
                known = {*_TEXT, ".npy", ".npz"}
                inside = sorted(f for f in file.iterdir() if _suffix(f) in known)
                if not inside:
                    raise ValueError(f"{file}: no {_KNOWN} file in it")
                self.files += inside
            else:
                self.files.append(file)
        if not self.files:
            raise ValueError("data.path: expected at least one file")
        self._target, self._inputs = _names(target), _names(inputs)
        shown = self.files[0].name if len(self.files) == 1 else f"{len(self.files)} files"
        self.title = shown

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        found = []
        for file in self.files:
            table = read_table(file)
            inputs = [] if self._inputs is None else self._inputs
            targets = self._target
            if targets is None:
                targets = [name for name in table if name not in inputs]
                if len(targets) > 1 and self._inputs is not None:
                    raise ValueError(
                        f"{file}: say which column is predicted with data.target=NAME; "
                        f"there are {', '.join(targets)}"
                    )
            self.names = tuple(targets)
            found.append(
                Series(
                    _columns(file, table, targets),
                    _columns(file, table, inputs) if inputs else None,
                    str(file),
                )
            )
        return found


def _names(given: str | int | Sequence[str | int] | None) -> list[str] | None:
    if given is None:
        return None
    return [str(g) for g in ([given] if isinstance(given, str | int) else given)]


def _columns(file: Path, table: dict[str, Array], names: list[str]) -> Array:
    missing = [name for name in names if name not in table]
    if missing:
        raise ValueError(f"{file}: no column {missing[0]!r}; it has {', '.join(table)}")
    for name in names:
        bad = np.flatnonzero(~np.isfinite(table[name]))
        if len(bad):
            raise ValueError(
                f"{file}: column {name!r} has no number at row {bad[0] + 1} of {len(table[name])} "
                f"({len(bad)} gaps in all): fill or cut them, a series must be whole"
            )
    return np.stack([table[name] for name in names], 1)


def read_table(file: Path) -> dict[str, Array]:
    """Column names and values (T), float64; what is no number becomes NaN where it is a gap.

    Raises:
        ValueError: the file is no table of numbers; names the line or the array.
        OSError: it cannot be read.
    """
    suffix = _suffix(file)
    if suffix in (".npy", ".npz"):
        return _arrays(file)
    if suffix not in _TEXT:
        raise ValueError(f"{file}: expected a {_KNOWN} file, got {suffix or 'none'}")
    lines = _lines(file)
    rows = [
        (number, [cell.strip() for cell in _split(line, _TEXT[suffix])])
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    ]
    if not rows:
        raise ValueError(f"{file}: there is nothing in it")
    names = [str(k) for k in range(len(rows[0][1]))]
    if any(_number(cell) is None for cell in rows[0][1]):
        names = [cell.strip('"') for cell in rows.pop(0)[1]]
        if len(set(names)) < len(names):
            raise ValueError(f"{file}: two columns have the same name: {', '.join(names)}")
    values = np.full((len(rows), len(names)), np.nan)
    for index, (number, cells) in enumerate(rows):
        if len(cells) != len(names):
            raise ValueError(
                f"{file}, line {number}: expected {len(names)} columns, got {len(cells)}"
            )
        for column, cell in enumerate(cells):
            read = _number(cell)
            values[index, column] = np.nan if read is None else read
    return {name: values[:, k] for k, name in enumerate(names)}


def _suffix(file: Path) -> str:
    """The ending in small letters, below the .gz of a compressed text."""
    inner = Path(file.stem).suffix.lower() if file.suffix.lower() == ".gz" else ""
    return inner if inner in _TEXT else file.suffix.lower()


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
        raise ValueError(f"{file}: not a text file in UTF-8 ({error.reason})") from None


def _split(line: str, separator: str | None) -> list[str]:
    return line.split() if separator is None else next(csv.reader([line], delimiter=separator))


def _number(cell: str) -> float | None:
    """None: it is no number; a gap is NaN."""
    if cell.strip('"') in ("", "NA", "NaN", "nan", "null", "None", "-"):
        return float("nan")
    try:
        return float(cell.strip('"'))
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
        for k, column in enumerate(array.reshape(len(array), -1).T):
            name = key if key and array.ndim == 1 else f"{key}_{k}" if key else str(k)
            table[name] = np.asarray(column, dtype=np.float64)
    if not table or min(map(len, table.values())) == 0:
        raise ValueError(f"{file}: there is nothing in it")
    if len({len(c) for c in table.values()}) > 1:
        raise ValueError(f"{file}: its arrays are of different lengths")
    return table
