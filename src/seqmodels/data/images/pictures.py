"""Images from folders of PNG and JPEG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seqmodels.data.base import Split
from seqmodels.data.images.files import Array, Images

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_FOLDERS: dict[str, Split] = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}


def read_folder(folder: Path) -> dict[Split, Images]:
    """Pictures that lie in it, in one folder for each class, or in train and test of such.

    Raises:
        ValueError: there are none, or of different sizes; names the file.
        OSError: one cannot be read.
    """
    parts = {split: folder / name for name, split in _FOLDERS.items() if (folder / name).is_dir()}
    if "train" not in parts:
        return {"train": _read(folder, _classes(folder))}
    classes = _classes(parts["train"])
    for place in parts.values():
        other = set(_classes(place)) ^ set(classes)
        if other:
            raise ValueError(
                f"{place}: expected the same folders as in {parts['train']}, one for each class; "
                f"{', '.join(sorted(other))} is in one of them only"
            )
    return {split: _read(place, classes) for split, place in parts.items()}


def _inside(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in ENDINGS and f.is_file())


def _classes(folder: Path) -> list[str]:
    return sorted(d.name for d in folder.iterdir() if d.is_dir() and _inside(d))


def _read(folder: Path, classes: Sequence[str]) -> Images:
    if classes:
        files = [(file, k) for k, name in enumerate(classes) for file in _inside(folder / name)]
    else:
        files = [(file, -1) for file in _inside(folder)]
    if not files:
        raise ValueError(
            f"{folder}: no images in it (idx files, {', '.join(ENDINGS)}, or a folder of these for "
            "each class)"
        )
    pixels = alike([read_picture(file) for file, _ in files], [file for file, _ in files])
    return Images(pixels, np.array([k for _, k in files], np.int64) if classes else None)


def alike(pictures: Sequence[Array], places: Sequence[object]) -> Array:
    """(N, H, W, C) of N pictures of one size.

    Raises:
        ValueError: one is of another size than the first; named by its place.
    """
    for picture, place in zip(pictures, places, strict=True):
        if picture.shape != pictures[0].shape:
            raise ValueError(
                f"{place}: expected {_size(pictures[0])} as {places[0]}, got {_size(picture)}"
            )
    return np.stack(pictures)


def _size(picture: Array) -> str:
    height, width, channels = picture.shape
    return f"{height} × {width} pixels, {'grey' if channels == 1 else 'colour'}"


def read_picture(file: Path) -> Array:
    """(H, W, 1) or (H, W, 3) uint8 of a file; what is transparent is shown as if it were not.

    Raises:
        ValueError: it is no picture, or has more than 8 bits a pixel and channel.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            opened.load()
    except PermissionError:
        raise
    except Exception as error:  # a broken file shows in many ways, each format's decoder its own
        raise ValueError(f"{file}: not an image that can be read: {error}") from None
    return to_array(opened, file)


def to_array(picture: Image, place: object) -> Array:
    """(H, W, 1) or (H, W, 3) uint8.

    Raises:
        ValueError: it has more than 8 bits a pixel and channel.
    """
    if picture.mode[0] in "IF":  # Pillow would cut off what is above 255
        raise ValueError(f"{place}: expected 8 bits a pixel, got Pillow's mode {picture.mode}")
    grey = picture.mode in ("1", "L", "LA")
    pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    return pixels[..., None] if grey else pixels
