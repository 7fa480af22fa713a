"""Series of the user's own: CSV, text, NPY and NPZ files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqmodels.data.series.sources import Array, Series, Source
from seqmodels.data.series.tables import (
    KNOWN,
    TEXT,
    Table,
    is_decimal_comma,
    read_table,
    suffix_of,
    times_of,
)

Columns = str | int | Sequence[str | int] | None


class FileSeries(Source):
    """Columns of a file; several files are several series, which nothing connects.

    Args:
        path: a file, a folder of them, or a list. `.csv`, `.tsv`, `.txt` and `.dat`, each with a
            line of names or without, compressed by gzip (`.csv.gz`) or not; `.npy` (T,) or (T, C);
            `.npz`, an array a column or more. Columns without names are called 0, 1, … Lines that
            begin with # are left out.
        target: the column, or a list of them, that is predicted; None: all, or the only one.
        inputs: columns that are known and drive it; None: the targets are forecast from their own
            past.
        time: a column of times, numbers or dates (ISO 8601), which must go on evenly: a step that
            is not positive, or longer than 1.5 times the median, is refused. None: rows are steps.
        separator: of a text's columns, one character; " ": any blanks. None: of tab, semicolon and
            comma the one that makes most columns of the first line; `.tsv` has tabs, and `.txt` and
            `.dat` blanks where there is none of the three.
        decimal: the sign before decimals in a text, "." or ",".
    """

    endless = False

    def __init__(
        self,
        path: str | Sequence[str],
        *,
        target: Columns = None,
        inputs: Columns = None,
        time: str | int | None = None,
        separator: str | None = None,
        decimal: str = ".",
    ) -> None:
        given = [path] if isinstance(path, str) else list(path)
        self.files: list[Path] = []
        for each in given:
            file = Path(each).expanduser()
            if file.is_dir():
                known = {*TEXT, ".npy", ".npz"}
                inside = sorted(f for f in file.iterdir() if suffix_of(f) in known)
                if not inside:
                    raise ValueError(f"{file}: no {KNOWN} file in it")
                self.files += inside
            else:
                self.files.append(file)
        if not self.files:
            raise ValueError("data.path: expected at least one file")
        if separator is not None and len(separator) != 1:
            raise ValueError(f"data.separator: expected one character, got {separator!r}")
        if decimal not in (".", ",") or decimal == separator:
            raise ValueError(
                f"data.decimal: expected '.' or ',' and not the separator, got {decimal!r}"
            )
        self.target, self.inputs = _names(target, "target"), _names(inputs, "inputs")
        self._time = None if time is None else str(time)
        self.separator, self.decimal = separator, decimal
        shown = self.files[0].name if len(self.files) == 1 else f"{len(self.files)} files"
        self.title = shown

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        found = []
        for file in self.files:
            table = read_table(file, separator=self.separator, decimal=self.decimal)
            if self._time is not None:
                self._check_times(file, table, self._time)
            inputs = [] if self.inputs is None else self.inputs
            targets = self.target
            if targets is None:
                apart = {*inputs, self._time}
                targets = [name for name in table.columns if name not in apart]
                if len(targets) > 1 and self.inputs is not None:
                    raise ValueError(
                        f"{file}: say which column is predicted with data.target=NAME; "
                        f"there are {', '.join(targets)}"
                    )
                if not targets:
                    raise ValueError(f"{file}: no column is left to be predicted")
            self.names, self.input_names = tuple(targets), tuple(inputs)
            found.append(
                Series(
                    self._columns(file, table, targets),
                    self._columns(file, table, inputs) if inputs else None,
                    str(file),
                )
            )
        return found

    def _columns(self, file: Path, table: Table, names: list[str]) -> Array:
        for name in names:
            _must_have(file, table, name)
            bad = np.flatnonzero(~np.isfinite(table.columns[name]))
            if len(bad):
                cell = "" if table.cells is None else table.cells[name][bad[0]]
                hint = ""
                if self.decimal == "." and is_decimal_comma(cell):
                    hint = "; data.decimal=',' reads decimal commas"
                elif self.target is None:
                    hint = "; or choose other columns with data.target=NAME"
                raise ValueError(
                    f"{file}: column {name!r} has no number in {table.place(name, bad[0])}, one of "
                    f"{len(bad)} gaps in {len(table.columns[name])} rows: fill or cut them, a "
                    f"series must be whole{hint}"
                )
        return np.stack([table.columns[name] for name in names], 1)

    @staticmethod
    def _check_times(file: Path, table: Table, name: str) -> None:
        _must_have(file, table, name)
        try:
            steps = np.diff(times_of(table, name))
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        usual = float(np.median(steps)) if len(steps) else 0.0
        bad = np.flatnonzero((steps <= 0) | (steps > 1.5 * usual))
        if len(bad):
            one, two = (table.place(name, bad[0] + k) for k in (0, 1))
            raise ValueError(
                f"{file}: the times {name!r} have a gap, or go back, between {one} and {two}, one "
                f"of {len(bad)} such places: the usual step is {usual:g}; fill or cut them"
            )


def _must_have(file: Path, table: Table, name: str) -> None:
    if name not in table.columns:
        known = list(table.columns)
        unnamed = table.cells is not None and known == [str(k) for k in range(len(known))]
        raise ValueError(
            f"{file}: no column {name!r}; it has {', '.join(known)}"
            + (" (its first line holds numbers, no names)" if unnamed else "")
        )


def _names(given: Columns, setting: str) -> list[str] | None:
    if given is None:
        return None
    names = [str(g) for g in ([given] if isinstance(given, str | int) else given)]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"data.{setting}: expected different columns, got {names}")
    return names
