"""Images from idx, NPY and NPZ files and from scikit-learn's digits; folders of pictures beside."""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqmodels.data.arrays import read_arrays
from seqmodels.data.base import Split

Array = np.ndarray
# How the files of a split are called.
_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "valid": ("valid", "val"),
    "test": ("test", "t10k"),
}


@dataclass
class Images:
    """Images of one split.

    Attributes:
        pixels: (N, H, W, C) uint8; C = 1 (grey) or 3.
        labels: (N) int64, from 0; None where there are none.
        top: the greatest value that a pixel can have.
    """

    pixels: Array
    labels: Array | None
    top: int = 255


def read_images(path: str | None) -> dict[Split, Images]:
    """The splits that are there, "train" among them.

    Args:
        path: one of

            - a folder with idx files, such as MNIST's `train-images-idx3-ubyte`, `train-labels-…`,
              `t10k-images-…`, `t10k-labels-…`, packed with gzip or not;
            - an `.npz` file with x_train, y_train and perhaps x_test, y_test (x_valid, y_valid); or
              images and perhaps labels; an `.npy` file of images;
            - a folder of PNG or JPEG files, or with one folder of them for each class; or with the
              folders train, test (valid) of such;
            - None: the 1,797 digits of 8 × 8 pixels and 17 levels that come with scikit-learn.

            Arrays have the shape (N, H, W) or (N, H, W, C) and whole numbers from 0 to 255; where
            none is above 1 they count as black and white.

    Raises:
        ValueError: what is there is not images of one size; names the file.
        OSError: it cannot be read.
    """
    if path is None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = digits.images.astype(np.uint8)[..., None]
        return {"train": Images(pixels, digits.target.astype(np.int64), top=16)}
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"data.path: there is no {place}")
    if place.is_file():
        return _arrays(place)
    if any(place.glob("*idx[1-4]*")):
        return _idx_folder(place)
    from seqmodels.data.images.pictures import read_folder

    return read_folder(place)


def checked(
    pixels: Array, labels: Array | None, place: object, labels_place: object = None
) -> Images:
    """Images of arrays that may be anything.

    Args:
        pixels, labels: as they were read.
        place, labels_place: what to call them when something is wrong.

    Raises:
        ValueError: they are no images, or no labels of these images.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(
            f"{place}: expected images (N, H, W), (N, H, W, 1) or (N, H, W, 3), got {pixels.shape}"
        )
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"{place}: expected numbers, got {pixels.dtype}")
    if pixels.dtype != np.uint8:
        least, greatest = pixels.min(), pixels.max()
        whole = pixels.dtype.kind != "f" or bool((pixels == np.round(pixels)).all())
        if not (whole and least >= 0 and greatest <= 255):
            raise ValueError(
                f"{place}: expected whole numbers from 0 to 255, got {pixels.dtype} from "
                f"{least:g} to {greatest:g}"
            )
        pixels = pixels.astype(np.uint8)
    return Images(
        pixels,
        None if labels is None else _labels(labels, len(pixels), labels_place or place),
        top=1 if pixels.max() <= 1 else 255,
    )


def _labels(labels: Array, count: int, place: object) -> Array:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{place}: expected {count} whole numbers, one class for each image, got "
            f"{labels.dtype} {labels.shape}"
        )
    least, greatest = int(labels.min()), int(labels.max())
    if least < 0 or greatest > 65535:
        raise ValueError(f"{place}: expected classes from 0 to 65535, got {least} to {greatest}")
    return labels.astype(np.int64)


# --- idx ------------------------------------------------------------------------------------------


def read_idx(file: Path) -> Array:
    """The array of an idx file of bytes, plain or gzip; its header says its shape.

    Raises:
        ValueError: it is none, or not whole.
        OSError: it cannot be read.

    Reference: LeCun, Cortes & Burges, "The MNIST database of handwritten digits", file formats.
    """
    content = file.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{file} is not a whole gzip archive: {error}") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != 8 or not 1 <= content[3] <= 4:
        raise ValueError(
            f"{file}: not an idx file of bytes: it begins with {content[:4].hex(' ') or 'nothing'},"
            " expected 00 00 08 and the number of dimensions"
        )
    dims = content[3]
    start = 4 + 4 * dims
    if len(content) < start:
        raise ValueError(f"{file}: the header is cut off")
    shape = struct.unpack(f">{dims}I", content[4:start])
    expected = 1
    for size in shape:  # not NumPy's product, which overflows in silence
        expected *= size
    if len(content) - start != expected:
        raise ValueError(
            f"{file}: its header says {' × '.join(map(str, shape))} = {expected:,} bytes, and "
            f"{len(content) - start:,} are there"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _idx_folder(folder: Path) -> dict[Split, Images]:
    splits: dict[Split, Images] = {}
    for split, names in _NAMES.items():
        images = _idx_file(folder, names, "images", "[34]")
        if images is None:
            continue
        labels = _idx_file(folder, names, "labels", "1")
        splits[split] = checked(
            read_idx(images), None if labels is None else read_idx(labels), images, labels
        )
    if "train" not in splits:
        raise ValueError(f"{folder}: expected train-images-idx3-ubyte (or .gz) among its idx files")
    return splits


def _idx_file(folder: Path, names: tuple[str, ...], kind: str, dims: str) -> Path | None:
    found = {
        # The same file packed and unpacked: either will do, the last in this order is plain.
        file.name.removesuffix(".gz"): file
        for name in names
        for file in sorted(folder.glob(f"*{name}-{kind}*idx{dims}*"), reverse=True)
    }
    if len(found) > 1:
        raise ValueError(
            f"{folder}: it is not clear which are the {names[0]} {kind}: {', '.join(sorted(found))}"
        )
    return next(iter(found.values()), None)


# --- arrays ---------------------------------------------------------------------------------------


def _arrays(file: Path) -> dict[Split, Images]:
    if file.suffix not in (".npy", ".npz"):
        raise ValueError(f"{file}: expected an .npy or .npz file, or a folder")
    arrays = read_arrays(file)
    if "" in arrays:
        arrays = {"images": arrays[""]}
    if "x_train" in arrays:
        splits = {s: (arrays.get(f"x_{s}"), arrays.get(f"y_{s}")) for s in _NAMES}
    elif "images" in arrays:
        splits = {"train": (arrays["images"], arrays.get("labels"))}
    else:
        raise ValueError(
            f"{file}: expected arrays x_train, y_train, x_test, y_test, or images, labels; it has "
            f"{', '.join(arrays) or 'none'}"
        )
    return {
        split: checked(pixels, labels, f"{file}, {split} images", f"{file}, {split} labels")
        for split, (pixels, labels) in splits.items()
        if pixels is not None
    }
