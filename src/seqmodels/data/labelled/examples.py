"""Texts and their classes, from files, folders and the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seqmodels.data.base import Split
from seqmodels.data.hub_text import load_set
from seqmodels.data.labelled.tables import (
    TABLES,
    Example,
    check_columns,
    ending_of,
    example_of,
    read_table,
    read_text,
)

_NAMES: dict[str, Split] = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
    "dev": "valid", "test": "test",
}  # fmt: skip
UNLABELLED = -1  # what sets of the hub write where a label is kept secret


def read_examples(
    path: str, *, text_column: str, label_column: str, classes: Sequence[str] = ()
) -> tuple[dict[Split, list[Example]], list[str]]:
    """The examples of each split that a file or folder holds, and remarks about how it was read.

    Where nothing is named after a split, all is "train".

    Args:
        path: a table (.csv, .tsv, .jsonl, .parquet; .gz of the texts too), or a folder with
            tables named after the splits (train.csv, valid.csv, test.csv); a folder with one folder
            for each class and a text in each of its files, or one file for each class and a text in
            each of its lines (`pos.txt` and `neg.txt`, or `NAME.pos` and `NAME.neg`); or a folder
            with `train`, `test` and perhaps `valid`, each a folder of these kinds.
        text_column, label_column: of tables.
        classes: of folders and files for a class only these are read, and the others remarked; ():
            all are.

    Raises:
        ValueError, OSError: it is none of these, a column is missing, a text empty, a file broken.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"data.path={path}: there is no such file or folder")
    remarks: list[str] = []
    table = partial(read_table, text_column=text_column, label_column=label_column, remarks=remarks)
    if place.is_file():
        return {"train": table(place)}, remarks
    inside = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in inside if entry.is_dir()]
    tables = [entry for entry in inside if ending_of(entry) in TABLES]
    if tables:
        found = by_split(place, tables)
        return {
            s: read_table(f, text_column, label_column, remarks) for s, f in found.items()
        }, remarks
    if folders and all(entry.name.lower() in _NAMES for entry in folders):
        found = by_split(place, folders)
        return {s: _classes(f, remarks, classes) for s, f in found.items()}, remarks
    return {"train": _classes(place, remarks, classes)}, remarks


def read_hub(
    name: str,
    config: str | None,
    *,
    text_column: str,
    label_column: str,
    splits: dict[Split, str | None],
    cache_dir: str | None,
) -> dict[Split, list[Example]]:
    """The splits of a set of the hub, or of a folder that looks like one.

    Labels that the set has names for are these names. A split whose labels are secret (-1) is
    refused: choose another.
    """
    shown = name if config is None else f"{name} ({config})"
    loaded = load_set(
        name,
        config,
        cache_dir=cache_dir,
        local=Path(name).is_dir(),
        shown=shown,
        advice="Give local files with data.path=PATH",
    )
    found: dict[Split, list[Example]] = {}
    for split, hub_name in splits.items():
        if hub_name is None:
            continue
        if hub_name not in loaded:
            raise ValueError(
                f"{shown} has no split {hub_name!r}; it has {', '.join(map(str, loaded))}: choose "
                f"with data.{split}_split=NAME, or null to keep a part of the training split apart"
            )
        table = loaded[hub_name]
        columns = check_columns(table.column_names, text_column, label_column, shown)
        names = getattr(table.features[label_column], "names", None)
        rows = zip(*(table[column] for column in columns), strict=True)
        found[split] = [
            example_of(text, _hub_label(label, names, f"{shown}, split {hub_name}"), where)
            for text, label, where in (
                (*row, f"{shown}, split {hub_name}, row {number}")
                for number, row in enumerate(rows)
            )
        ]
    return found


def _hub_label(label: Any, names: list[str] | None, shown: str) -> Any:
    if label == UNLABELLED:
        raise ValueError(
            f"{shown}: its labels are kept secret (-1): choose another split, or null to keep a "
            "part of the training split apart (data.test_split=null)"
        )
    return names[label] if names is not None and isinstance(label, int) else label


def by_split(place: Path, entries: list[Path]) -> dict[Split, Path]:
    """Which entry of a folder is which split, by their names; a single one is "train"."""
    found: dict[Split, Path] = {}
    for entry in entries:
        stem = entry.name.lower().partition(".")[0]
        words = [word for word in re.split(r"[._-]", stem) if word in _NAMES]
        if len(words) != 1:
            if len(entries) == 1:
                return {"train": entry}
            raise ValueError(
                f"{entry}: expected files named after the splits, such as train.csv and test.csv; "
                f"to read one of them, data.path={entry}"
            )
        if _NAMES[words[0]] in found:
            raise ValueError(
                f"{place}: {found[_NAMES[words[0]]].name} and {entry.name} are both of the "
                f"{_NAMES[words[0]]} split: leave one"
            )
        found[_NAMES[words[0]]] = entry
    if "train" not in found:
        raise ValueError(f"{place}: there is nothing for training among {_listed(entries)}")
    return found


def _classes(place: Path, remarks: list[str], classes: Sequence[str]) -> list[Example]:
    """One class for each folder, or for each file."""
    inside = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in inside if entry.is_dir()]
    if folders:
        wanted = _wanted(place, [folder.name for folder in folders], remarks, classes)
        folders = [folder for folder in folders if folder.name in wanted]
        examples = []
        for folder in folders:
            files = sorted(f for f in folder.iterdir() if f.is_file() and f.name[0] != ".")
            if not files:
                raise ValueError(f"{folder}: the class {folder.name!r} has no example in it")
            examples += [example_of(read_text(f, remarks), folder.name, str(f)) for f in files]
        return examples
    files = [entry for entry in inside if entry.is_file()]
    by_class = _class_names(place, files)
    examples = []
    for name in _wanted(place, list(by_class), remarks, classes):
        file = by_class[name]
        # A line ends with a line feed and nothing else: other signs may stand in a text.
        lines = read_text(file, remarks).removesuffix("\n").split("\n")
        if lines == [""]:
            raise ValueError(f"{file}: the class {name!r} has no example in it")
        examples += [example_of(line, name, f"{file}, line {n}") for n, line in enumerate(lines, 1)]
    return examples


def _wanted(place: Path, names: list[str], remarks: list[str], classes: Sequence[str]) -> list[str]:
    """Those of the names that are among the classes, where there are such."""
    if not classes:
        return names
    left = [name for name in names if name not in classes]
    if len(left) == len(names):
        raise ValueError(
            f"{place}: expected the classes {', '.join(classes)} (data.classes), and there are "
            f"{', '.join(names)}"
        )
    if left:
        remarks.append(f"{', '.join(left)} in {place.name} left out")
    return [name for name in names if name in classes]


def _class_names(place: Path, files: list[Path]) -> dict[str, Path]:
    bare = [file.with_suffix("") if file.suffix == ".gz" else file for file in files]
    if len({b.stem for b in bare}) == 1 and all(b.suffix for b in bare):
        names = [b.suffix[1:] for b in bare]  # NAME.pos, NAME.neg
    else:
        names = [b.stem for b in bare if b.suffix == ".txt"]  # pos.txt, neg.txt
        files = [f for f, b in zip(files, bare, strict=True) if b.suffix == ".txt"]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"{place}: expected tables ({', '.join(TABLES)}), a folder or a file for each class "
            f"(pos/ and neg/, pos.txt and neg.txt, NAME.pos and NAME.neg), or train and test; it "
            f"holds {_listed(list(place.iterdir()))}"
        )
    return dict(zip(names, files, strict=True))


def _listed(entries: Iterable[Path]) -> str:
    names = sorted(entry.name for entry in entries)
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return (", ".join(names[:6]) or "nothing") + more
