"""Images of the Hugging Face hub, through `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seqmodels.data.base import Split
from seqmodels.data.hub_text import load_set
from seqmodels.data.images.files import Images
from seqmodels.data.images.pictures import alike, to_array

_SPLITS: dict[str, Split] = {
    "train": "train", "validation": "valid", "valid": "valid", "val": "valid", "test": "test",
}  # fmt: skip


def read_hub(
    name: str,
    config: str | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    cache_dir: str | None = None,
    classes: bool = True,
) -> dict[Split, Images]:
    """The splits of a set with a column of images and one of classes; "train" among them.

    Args:
        name: on the hub, such as "ylecun/mnist", or a folder that looks like a set of the hub.
        config: the set's configuration, where it has several.
        image_column, label_column: None: the only one of that kind.
        cache_dir: where `datasets` keeps what it read; None: its own place.
        classes: whether there must be classes; False: the images are without, unless label_column
            is given or the set has just one column of them.

    Raises:
        ValueError: it cannot be had, or has no such columns.
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
    splits: dict[Split, Images] = {}
    for hub_name, table in loaded.items():
        split = _SPLITS.get(str(hub_name))
        if split is not None:
            place = f"{shown}, split {hub_name}"
            splits[split] = _images(table, image_column, label_column, place, classes)
    if "train" not in splits:
        raise ValueError(f"{shown} has no split 'train'; it has {', '.join(map(str, loaded))}")
    return splits


def _images(
    table: Any, image_column: str | None, label_column: str | None, shown: str, classes: bool
) -> Images:
    import datasets

    images = _column(table, image_column, datasets.Image, "image", shown)
    labels = None
    if classes or label_column is not None or len(_fitting(table, datasets.ClassLabel)) == 1:
        labels = _column(table, label_column, datasets.ClassLabel, "label", shown)
    if len(table) == 0:
        raise ValueError(f"{shown}: there is nothing in it")
    pixels, places = [], [f"{shown}, row {row}" for row in range(len(table))]
    for place, picture in zip(places, table[images], strict=True):
        if picture is None:
            raise ValueError(f"{place}: there is no image")
        pixels.append(to_array(picture, place))
    if labels is None:
        return Images(alike(pixels, places), None)
    found = np.asarray(table[labels])
    if found.dtype.kind not in "iu" or found.min() < 0:
        raise ValueError(f"{shown}: column {labels!r} holds no classes from 0 for every row")
    return Images(alike(pixels, places), found.astype(np.int64))


def _fitting(table: Any, kind: type) -> list[str]:
    """The columns of this kind."""
    return [column for column, feature in table.features.items() if isinstance(feature, kind)]


def _column(table: Any, name: str | None, kind: type, what: str, shown: str) -> str:
    fitting = _fitting(table, kind)
    if name is None:
        if len(fitting) == 1:
            return fitting[0]
        raise ValueError(
            f"{shown}: it has {', '.join(table.column_names)}: choose with data.{what}_column=NAME"
        )
    # Classes may be plain numbers; images must be images.
    if name not in table.column_names or (what == "image" and name not in fitting):
        raise ValueError(
            f"{shown} has no {what} column {name!r}; it has {', '.join(table.column_names)}"
        )
    return name
