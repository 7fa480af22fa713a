"""What seeing a pixel's earlier channels is worth, where it is known.

    python benchmarks/colours.py FOLDER [--steps 800] [--seed 0] [--threads 1]

In the coloured digits (`seqmodels.data.pixels.read_built_in`) a pixel's red tells 1 − H(0.1) bits
about its blue, H the entropy of a coin, and nothing else tells anything about either. So a model
with masks between the groups of channels can be better by that much in blue than one whose channels
are independent given the earlier pixels, and by nothing in red and green. Trains both (runs in
FOLDER) and prints the bits of each channel, test images, with standard errors over images.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cli import main as seqmodels
from seqmodels.commands import building
from seqmodels.data.pixels.built_in import FLIPPED

CHANNELS = ("red", "green", "blue")


def entropy(p: float) -> float:
    """Of a coin, in bits."""
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def train(run_dir: Path, independent: bool, given: argparse.Namespace) -> None:
    words = [
        "train", "experiment=pixelrnn_digits", "data.built_in=coloured_digits",
        f"model.independent_channels={str(independent).lower()}",
        "model/layers=gated_pixelcnn", "model.layers.hidden_size=12", "model.layers.num_layers=2",
        f"trainer.max_steps={given.steps}", f"trainer.val_check_interval={given.steps // 4}",
        f"seed={given.seed}", f"num_threads={given.threads}", "~callbacks.images", "logger=none",
        "trainer.enable_progress_bar=false", f"run_dir={run_dir}",
    ]  # fmt: skip
    if seqmodels(words):
        raise SystemExit(f"{run_dir}: the training failed")


@torch.no_grad()
def bits(run_dir: Path) -> tuple[Tensor, float]:
    """(N, 3): bits a pixel of every test image and channel; the share whose blue is not red."""
    _, data, model, _ = building.load_run(run_dir, "best", lambda stored: stored)
    images = next(iter(data.test_loader())).inputs  # (N, 3, R, W)
    logits = model.eval()(images)  # (N, 3, R, W, L)
    nats = functional.cross_entropy(logits.flatten(0, 3), images.flatten(), reduction="none")
    flipped = (images[:, 0] != images[:, 2]).double().mean()
    return nats.view(images.shape).flatten(2).mean(2).double() / math.log(2), float(flipped)


def shown(values: Tensor) -> str:
    """Mean and standard error."""
    return f"{float(values.mean()):8.4f} ± {float(values.std()) / math.sqrt(len(values)):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    found = {}
    for name, independent in (("masks", False), ("independent", True)):
        train(given.folder / name, independent, given)
        found[name], flipped = bits(given.folder / name)
    gain = found["independent"] - found["masks"]
    known = [0.0, 0.0, 1.0 - entropy(FLIPPED)]
    print(f"\nbits a pixel, test{'':14s}masks{'':10s}independent{'':16s}gain{'':9s}known")
    for c, channel in enumerate(CHANNELS):
        cells = [shown(each[:, c]) for each in (found["masks"], found["independent"], gain)]
        print(f"{channel:12s}" + "".join(f"{cell:>21s}" for cell in cells) + f"{known[c]:14.4f}")
    print(f"bits per dimension, gain: {shown(gain.mean(1)).strip()}, known {sum(known) / 3:.4f}")
    least = 1.0 - entropy(flipped)
    print(f"of these test images {flipped:.4f} of the pixels are flipped: {least:.4f} bits in blue")


if __name__ == "__main__":
    main()
