"""Which earlier pixels the layers of a pixel model see, and how strongly, as a picture.

    python benchmarks/receptive_fields.py [--size 15] [--draws 40] [--out receptive_fields.png]

For each kind of layer, once and seven times one above the other, behind a first convolution of
3 × 3 so that the layers' own shapes are seen: the root mean square of ∂o / ∂x_{r,w}, o a random
mixture of the scores of one pixel, over untrained weights and random images drawn anew, float64.
What is exactly zero in every draw is not seen.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from seqmodels.layers.pixel import (
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelStack,
    RowLSTM,
)
from seqmodels.models import PixelRNN

KINDS: dict[str, Any] = {
    "Row LSTM": RowLSTM,
    "Diagonal BiLSTM": DiagonalBiLSTM,
    "PixelCNN": PixelCNN,
    "Gated PixelCNN": GatedPixelCNN,
}
DEPTHS = (1, 7)
UNSEEN, LATER = "tab:red", "0.85"
FAINTEST = 1e-6  # of the strongest, is still told apart


def gradients(kind: Any, layers: int, size: int, place: tuple[int, int], draws: int) -> np.ndarray:
    """(R, W): the root mean square over draws of ∂o / ∂x, o a mixture of the scores at `place`."""
    squares = torch.zeros(size, size, dtype=torch.float64)
    for seed in range(draws):
        torch.manual_seed(seed)
        stack = partial(PixelStack, layer=kind, hidden_size=16, num_layers=layers)
        model = PixelRNN(1, size, size, 2, layers=stack, kernel_size=3).double()
        values = torch.randn(1, size, size, 1, dtype=torch.float64, requires_grad=True)
        scores = model.logits(values)[0, 0, place[0], place[1]]  # (L,)
        (found,) = torch.autograd.grad(scores @ torch.randn_like(scores), values)
        squares += found[0, :, :, 0].square()
    return (squares / draws).sqrt().numpy()


def draw(maps: dict[tuple[str, int], np.ndarray], place: tuple[int, int], path: Path) -> None:
    figure = Figure(figsize=(11, 5.9), layout="constrained")
    panels = figure.subplots(len(DEPTHS), len(KINDS))
    size = len(next(iter(maps.values())))
    before = np.arange(size * size).reshape(size, size) < place[0] * size + place[1]
    norm = LogNorm(FAINTEST, 1.0, clip=True)
    for row, depth in enumerate(DEPTHS):
        for column, kind in enumerate(KINDS):
            panel, found = panels[row, column], maps[kind, depth]
            seen = found > 0.0
            # What is not seen, in its own colour below what is.
            beneath = np.where(before, 1.0, 0.0)
            panel.imshow(beneath, cmap=ListedColormap([LATER, UNSEEN]), vmin=0, vmax=1)
            strength = np.ma.masked_where(~seen, found / found.max())
            picture = panel.imshow(strength, cmap="viridis", norm=norm)
            own = (place[1] - 0.5, place[0] - 0.5)
            panel.add_patch(Rectangle(own, 1, 1, fill=False, ec="black", lw=1.5))
            layers = "1 layer" if depth == 1 else f"{depth} layers"
            counted = f"{int(seen.sum())} of {int(before.sum())} earlier pixels"
            panel.set_title(f"{kind}, {layers}\n{counted}", fontsize=9)
            panel.set_xticks([])
            panel.set_yticks([])
    figure.colorbar(picture, ax=panels, label="gradient / the strongest", shrink=0.8)
    keys = [
        Patch(color=UNSEEN, label="earlier, not seen"),
        Patch(color=LATER, label="later: must not be seen"),
        Patch(fill=False, ec="black", label="the pixel itself"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=15, help="height and width of the images")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("receptive_fields.png"))
    given = parser.parse_args()
    place = (given.size * 3 // 4, given.size // 2)
    maps = {}
    earlier = place[0] * given.size + place[1]
    for name, kind in KINDS.items():
        for depth in DEPTHS:
            found = gradients(kind, depth, given.size, place, given.draws)
            maps[name, depth] = found
            print(f"{name}, layers: {depth}, sees {int((found > 0).sum())} of {earlier}")
            if found.ravel()[earlier:].any():
                raise SystemExit(f"{name} sees a pixel that is not an earlier one")
    draw(maps, place, given.out)
    print(given.out)


if __name__ == "__main__":
    main()
