"""Images that need no download: scikit-learn's digits and photographs, and coloured digits."""

from __future__ import annotations

from typing import Literal

import numpy as np

from seqmodels.data.images.files import Array, Images

BuiltIn = Literal["digits", "photographs", "coloured_digits"]
FLIPPED = 0.1  # share of the pixels whose blue is not their red, in the coloured digits


def read_built_in(kind: BuiltIn, patch: int) -> Images:
    """The images of this name.

    digits: 1,797 grey digits of 8 × 8 pixels and 16 levels; the set has 17, of which the two
    brightest are taken together.

    photographs: squares of patch × patch pixels, beside each other, of the two photographs in
    scikit-learn; colour, 256 levels.

    coloured_digits: the digits in black and white are the green channel. Red is a fair coin for
    each pixel, and blue is red but for one pixel in ten, chosen at random. So red tells
    ln 2 − H(0.1) nats about blue in every pixel, and nothing else in the image tells any.

    Raises:
        ValueError: the name is none of these, or patch does not fit.
    """
    from sklearn.datasets import load_digits, load_sample_images

    if kind == "photographs":
        photographs = load_sample_images().images
        least = min(min(p.shape[:2]) for p in photographs)
        if not 2 <= patch <= least:
            raise ValueError(f"data.patch must lie in 2 … {least}, got {patch}")
        return Images(np.concatenate([_squares(p, patch) for p in photographs]), None)
    if kind not in ("digits", "coloured_digits"):
        raise ValueError(
            f"data.built_in: expected digits, photographs or coloured_digits, got {kind!r}"
        )
    digits = load_digits()
    pixels = np.minimum(digits.images, 15).astype(np.uint8)[..., None]  # (N, 8, 8, 1)
    labels = digits.target.astype(np.int64)
    if kind == "digits":
        return Images(pixels, labels, top=15)
    random = np.random.default_rng(0)
    red = random.integers(0, 2, pixels.shape, dtype=np.uint8)
    blue = red ^ (random.random(pixels.shape) < FLIPPED)
    return Images(np.concatenate([red, (pixels > 7).astype(np.uint8), blue], -1), labels, top=1)


def _squares(photograph: Array, patch: int) -> Array:
    """(N, patch, patch, 3) of (H, W, 3), without what is left over at the edges."""
    rows, columns = (size // patch for size in photograph.shape[:2])
    whole = photograph[: rows * patch, : columns * patch]
    squares = whole.reshape(rows, patch, columns, patch, 3).swapaxes(1, 2)
    return squares.reshape(-1, patch, patch, 3)
