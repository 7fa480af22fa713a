"""Pixel models: sampling beside the naive way, and a training step beside its products alone.

    python benchmarks/pixelrnn.py sampling --images 16
    python benchmarks/pixelrnn.py training --hidden 64

Times are of one thread's own work, so that what else runs on the machine counts little; of more
threads (--threads) they are those of the clock.

`sampling`: 28 × 28 images of two levels, 7 layers, h = 16. The naive way computes the whole image
for every pixel; it is timed on a few pixels, since all cost the same.

`training`: a step (forward and backward) of a Diagonal BiLSTM layer on 28 × 28 images in batches of
16, beside the same step's products and convolutions with everything else left out: on the same
lines, skewed and with the places outside the image, as the layer computes them; and for comparison
on the pixels of the image alone, which half of the skewed places are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from seqmodels.layers.pixel import (
    DiagonalBiLSTM,
    GatedPixelCNN,
    Maps,
    PixelCNN,
    PixelStack,
    RowLSTM,
)
from seqmodels.models import PixelRNN, sample_images

KINDS = {
    "row_lstm": RowLSTM,
    "diagonal_bilstm": DiagonalBiLSTM,
    "pixelcnn": PixelCNN,
    "gated_pixelcnn": GatedPixelCNN,
}
SIZE, LAYERS = 28, 7


def seconds(work: Callable[[], object]) -> float:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def sampling(images: int, pixels: int) -> None:
    print(f"{'layers':18s} {'incremental':>12s} {'naive':>12s} {'ratio':>7s}")
    for name, kind in KINDS.items():
        torch.manual_seed(0)
        layers = partial(PixelStack, layer=kind, num_layers=LAYERS)
        model = PixelRNN(1, SIZE, SIZE, 2, layers=layers, likelihood="bernoulli").eval()
        some = torch.randint(2, (images, 1, SIZE, SIZE))
        with torch.no_grad():
            model(some)  # whatever is built is built now
            forward = [seconds(lambda: model(some)) for _ in range(pixels)]  # noqa: B023
        naive = SIZE * SIZE * statistics.median(forward)
        fast = min(seconds(lambda: sample_images(model, images)) for _ in range(2))  # noqa: B023
        print(f"{name:18s} {fast:10.2f} s {naive:10.1f} s {naive / fast:6.0f}×", flush=True)


def training(hidden: int, images: int, repeats: int) -> None:
    torch.manual_seed(0)
    layer = DiagonalBiLSTM(hidden, 1)
    x = torch.randn(images, SIZE, SIZE + 1, 2 * hidden, requires_grad=True)

    def whole() -> None:
        layer(Maps(x, None)).x.sum().backward()

    skewed = _products(layer, x, steps=x.shape[1] + x.shape[2] - 1)
    unskewed = _products(layer, x, steps=x.shape[1])
    whole(), skewed(), unskewed()
    times = [(seconds(whole), seconds(skewed), seconds(unskewed)) for _ in range(repeats)]
    own, alone, pixels = (statistics.median(side) for side in zip(*times, strict=True))
    print(f"h = {hidden}, {images} images, engine {layer.left.recurrent.engine_used}")
    for name, other, column in (("products", alone, 1), ("on the pixels alone", pixels, 2)):
        ratio = statistics.median(row[0] / row[column] for row in times)
        print(f"step {1000 * own:.0f} ms, {name} {1000 * other:.0f} ms: {ratio:.2f}×")


def _products(layer: DiagonalBiLSTM, x: Tensor, steps: int) -> Callable[[], None]:
    """The products of the layer's step, forward and backward, one after the other, on T lines."""
    hidden, places = layer.hidden_size, (SIZE + 1) * len(x)
    rows = torch.randn(steps * places, 2 * hidden + 1)
    weight_ih = torch.randn(4 * hidden, 2 * hidden + 1)
    gates = torch.randn(steps * places, 4 * hidden)
    states = torch.randn(steps * places, hidden)
    up, side = torch.randn(2, 4 * hidden, hidden).unbind(0)
    branch = torch.randn(x.shape[0] * x.shape[1] * x.shape[2], hidden)
    expand = torch.randn(2 * hidden, hidden)
    wide = torch.randn(len(branch), 2 * hidden)
    lines = gates.view(steps, places, -1)
    before = states.view(steps, places, -1)

    def run() -> None:
        for _ in range(2):  # directions
            rows @ weight_ih.t()
            for t in range(steps):
                before[t] @ up.t(), before[t] @ side.t()
            for t in range(steps):
                lines[t] @ up, lines[t] @ side
            gates.t() @ states, gates.t() @ states
            gates @ weight_ih, gates.t() @ rows
        branch @ expand.t(), wide @ expand, wide.t() @ branch

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("sampling", "training"))
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--pixels", type=int, default=5, help="that the naive way is timed on")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "sampling":
        sampling(given.images, given.pixels)
    else:
        training(given.hidden, given.images, given.repeats)


if __name__ == "__main__":
    main()
