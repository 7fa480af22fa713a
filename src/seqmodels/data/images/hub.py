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
) -> dict[Split, Images]:
    """The splits of a set with a column of images and one of classes; "train" among them.

    Args:
        name: on the hub, such as "ylecun/mnist", or a folder that looks like a set of the hub.
        config: the set's configuration, where it has several.
        image_column, label_column: None: the only one of that kind.
        cache_dir: where `datasets` keeps what it read; None: its own place.

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
            splits[split] = _images(table, image_column, label_column, f"{shown}, split {hub_name}")
    if "train" not in splits:
        raise ValueError(f"{shown} has no split 'train'; it has {', '.join(map(str, loaded))}")
    return splits


def _images(table: Any, image_column: str | None, label_column: str | None, shown: str) -> Images:
    import datasets

    images = _column(table, image_column, datasets.Image, "image", shown)
    labels = _column(table, label_column, datasets.ClassLabel, "label", shown)
    if len(table) == 0:
        raise ValueError(f"{shown}: there is nothing in it")
    pixels, places = [], [f"{shown}, row {row}" for row in range(len(table))]
    for place, picture in zip(places, table[images], strict=True):
        if picture is None:
            raise ValueError(f"{place}: there is no image")
        pixels.append(to_array(picture, place))
    found = np.asarray(table[labels])
    if found.dtype.kind not in "iu" or found.min() < 0:
        raise ValueError(f"{shown}: column {labels!r} holds no classes from 0 for every row")
    return Images(alike(pixels, places), found.astype(np.int64))


def _column(table: Any, name: str | None, kind: type, what: str, shown: str) -> str:
    fitting: list[str] = [
        column for column, feature in table.features.items() if isinstance(feature, kind)
    ]
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
