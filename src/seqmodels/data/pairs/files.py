"""Pairs of lines from files."""

from __future__ import annotations

from typing import NamedTuple

from seqmodels.data.sources import Source, read_source
from seqmodels.data.vocabulary import lines_of


class Pair(NamedTuple):
    """Two lines, and where they stand."""

    source: str
    target: str
    place: str


def read_pairs(
    path: str | None, source_path: str | None, target_path: str | None
) -> tuple[dict[str, list[Pair]], list[str]]:
    """The pairs of each text that there is, "all" or the splits; and the files.

    Args:
        path: a file with two columns, a tab between them, or a folder with one for each split; or
        source_path, target_path: two files or folders, line beside line.

    Raises:
        ValueError, OSError: a file cannot be read or is empty; a line has no two columns; the two
            files have not as many lines.
    """
    if path is not None:
        table = read_source(path)
        found = {}
        for name in table.texts:
            lines = enumerate(_lines(table, name), 1)
            found[name] = [_columns(line, f"{table.places[name]}, line {n}") for n, line in lines]
        return found, table.files
    source, target = read_source(source_path), read_source(target_path)
    if set(source.texts) != set(target.texts):
        raise ValueError(
            f"data.source_path={source_path} holds {', '.join(source.texts)} and "
            f"data.target_path={target_path} {', '.join(target.texts)}: give two files, or two "
            "folders with the same splits"
        )
    both = {name: _beside(source, target, name) for name in source.texts}
    return both, [*source.files, *target.files]


def _lines(source: Source, name: str) -> list[str]:
    return [line.removesuffix("\r") for line in lines_of(source.texts[name])]


def _columns(line: str, place: str) -> Pair:
    columns = line.split("\t")
    if len(columns) != 2:
        raise ValueError(
            f"{place}: expected two columns, source and target with a tab between them, got "
            f"{len(columns)}: {line!r:.60}"
        )
    return Pair(columns[0], columns[1], place)


def _beside(source: Source, target: Source, name: str) -> list[Pair]:
    sources, targets = _lines(source, name), _lines(target, name)
    if len(sources) != len(targets):
        raise ValueError(
            f"{source.places[name]} has {len(sources):,} lines and {target.places[name]} "
            f"{len(targets):,}: line k of the one must belong to line k of the other"
        )
    where = f"{source.places[name]} and {target.places[name]}, line"
    both = zip(sources, targets, strict=True)
    return [Pair(s, t, f"{where} {number}") for number, (s, t) in enumerate(both, 1)]
