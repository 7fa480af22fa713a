"""Images of a model side by side in one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

LINE = 1  # pixels between two images
BETWEEN = 96  # their brightness
UNKNOWN = (70, 90, 150)  # the colour of pixels that are to be completed
SIDE = 56  # small images are enlarged to about this many pixels


def grid(images: Tensor, levels: int, columns: int, missing: Tensor | None = None) -> np.ndarray:
    """The picture (height, width, 3) uint8 of images (N, C, R, W) of levels 0 … L − 1.

    Args:
        columns: images in a row; the last row may be shorter.
        missing: (N, R, W) bool, pixels that are shown as unknown.
    """
    count, channels, height, width = images.shape
    values = images.cpu().numpy().astype(np.float64) * (255.0 / (levels - 1))
    colour = np.repeat(values, 3, 1) if channels == 1 else values[:, :3]
    shown = np.moveaxis(colour, 1, -1).round().astype(np.uint8)  # (N, R, W, 3)
    if missing is not None:
        shown[missing.cpu().numpy()] = UNKNOWN
    scale = max(1, round(SIDE / max(height, width)))
    shown = shown.repeat(scale, 1).repeat(scale, 2)
    height, width = height * scale + LINE, width * scale + LINE
    rows = -(-count // columns)
    picture = np.full((rows * height + LINE, columns * width + LINE, 3), BETWEEN, np.uint8)
    for number, image in enumerate(shown):
        row, column = divmod(number, columns)
        top, left = row * height + LINE, column * width + LINE
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return picture


def write_png(picture: np.ndarray, path: Path) -> None:
    """Writes (height, width, 3) uint8, the whole file or nothing.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image

    temporary = path.with_name(f".{path.name}.tmp")
    Image.fromarray(picture).save(temporary, format="PNG")
    temporary.replace(path)
