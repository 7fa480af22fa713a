"""Which pixels of an image are kept when it is completed."""

from __future__ import annotations

import torch
from torch import Tensor

KEEPS = ("top_half", "bottom_half", "left_half", "right_half", "centre", "border", "random")


def keep_mask(name: str, height: int, width: int, seed: int = 0) -> Tensor:
    """(R, W) bool: True where the pixel is kept.

    centre: the inner half of the rows and of the columns; border: all but it; random: half of the
    pixels, drawn with the seed.

    Raises:
        ValueError: there is no mask of this name.
    """
    keep = torch.zeros(height, width, dtype=torch.bool)
    if name == "top_half":
        keep[: height // 2] = True
    elif name == "bottom_half":
        keep[height // 2 :] = True
    elif name == "left_half":
        keep[:, : width // 2] = True
    elif name == "right_half":
        keep[:, width // 2 :] = True
    elif name in ("centre", "border"):
        rows, columns = (height + 1) // 4, (width + 1) // 4
        keep[rows : height - rows, columns : width - columns] = True
        keep = keep if name == "centre" else ~keep
    elif name == "random":
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(height * width, generator=generator)
        keep.view(-1)[order[: height * width // 2]] = True
    else:
        raise ValueError(f"keep: expected one of {', '.join(KEEPS)}, got {name!r}")
    return keep
