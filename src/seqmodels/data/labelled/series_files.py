"""Series of numbers with a class each, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqmodels.data.arrays import read_arrays
from seqmodels.data.base import SPLITS, Split
from seqmodels.data.labelled.examples import by_split
from seqmodels.data.labelled.tables import ending_of, read_text

SEPARATORS = {".tsv": "\t", ".csv": ",", ".txt": None}  # None: any blanks


class LabelledSeries(NamedTuple):
    values: np.ndarray  # (T, C) float32
    label: str
    place: str  # where it was read, for messages


def read_labelled_series(path: str) -> dict[Split, list[LabelledSeries]]:
    """The series of each split that there is; "train" alone where nothing is named after a split.

    Args:
        path: a text file with a series on each line, its class first and then its numbers (as of
            the UCR archive): `.tsv`, `.csv`, `.txt` (blanks), `.gz` too; a folder with such files,
            named after the splits (NAME_TRAIN.tsv, NAME_TEST.tsv); or `.npz` with `x` (N, T) or
            (N, T, C) and `y` (N), or `x_train`, `y_train`, `x_valid`, … . Series of a file may
            differ in length: lines do, and in arrays NaN after the end of a series is no number.

    Raises:
        ValueError, OSError: it is none of these; the message names file and line or series.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"data.path={path}: there is no such file or folder")
    if place.is_dir():
        files = sorted(f for f in place.iterdir() if ending_of(f) in SEPARATORS)
        files = [f for f in files if not f.name.lower().startswith("readme")]
        if not files:
            raise ValueError(f"data.path={path}: no {', '.join(SEPARATORS)} file in it")
        found = {split: _lines(file) for split, file in by_split(place, files).items()}
    elif place.suffix.lower() == ".npz":
        found = _arrays(place)
    elif ending_of(place) in SEPARATORS:
        found = {"train": _lines(place)}
    else:
        raise ValueError(
            f"{place}: expected {', '.join(SEPARATORS)} (.gz too), .npz, or a folder, got "
            f"{ending_of(place) or 'no ending'}"
        )
    channels = {series.values.shape[1] for each in found.values() for series in each}
    if len(channels) > 1:
        raise ValueError(f"{place}: the splits have {sorted(channels)} numbers at each step")
    return found


def _lines(file: Path) -> list[LabelledSeries]:
    separator = SEPARATORS[ending_of(file)]
    found = []
    for number, line in enumerate(read_text(file, []).split("\n"), 1):
        if not line.strip():
            continue
        place = f"{file}, line {number}"
        label, *cells = (cell.strip() for cell in line.strip("\n").split(separator))
        while cells and not cells[-1]:
            cells.pop()
        try:
            values = np.array([float(cell) for cell in cells], np.float64)
        except ValueError as error:
            raise ValueError(f"{place}: expected a class and numbers: {error}") from None
        found.append(_series(values[:, None], label, place))
    if not found:
        raise ValueError(f"{file}: there is nothing in it")
    return found


def _arrays(file: Path) -> dict[Split, list[LabelledSeries]]:
    arrays = read_arrays(file)
    pairs = {split: (f"x_{split}", f"y_{split}") for split in SPLITS}
    if "x" in arrays or "y" in arrays:
        pairs = {"train": ("x", "y")}
    found: dict[Split, list[LabelledSeries]] = {}
    for split, (x, y) in pairs.items():
        if x not in arrays and y not in arrays and split != "train":
            continue
        for name in (x, y):
            if name not in arrays:
                raise ValueError(
                    f"{file}: there is no array {name!r}; it has {', '.join(arrays) or 'none'}"
                )
        found[split] = _rows(arrays[x], arrays[y], f"{file}, {x}")
    return found


def _rows(x: np.ndarray, y: np.ndarray, shown: str) -> list[LabelledSeries]:
    if x.ndim not in (2, 3) or x.dtype.kind not in "fiu" or 0 in x.shape:
        raise ValueError(f"{shown}: expected numbers (N, T) or (N, T, C), got {x.shape} {x.dtype}")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iuU":
        raise ValueError(
            f"{shown}: expected a class for each of {len(x)} series, whole numbers or words, got "
            f"{y.shape} {y.dtype}"
        )
    whole = x.astype(np.float64).reshape(*x.shape[:2], -1)  # (N, T, C)
    return [
        _series(values, str(label), f"{shown}, series {n}")
        for n, (values, label) in enumerate(zip(whole, y, strict=True))
    ]


def _series(values: Any, label: str, place: str) -> LabelledSeries:
    there = np.flatnonzero(~np.isnan(values).all(1))
    values = values[: there[-1] + 1] if len(there) else values[:0]
    if not len(values):
        raise ValueError(f"{place}: the series is empty")
    if not label:
        raise ValueError(f"{place}: there is no class")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise ValueError(f"{place}: step {bad[0][0]} is {values[tuple(bad[0])]}, expected a number")
    return LabelledSeries(values.astype(np.float32), label, place)
