"""Does a step cost more when it reads from further back? Delayed cells at several largest lags.

    python benchmarks/delays.py

Rounds of training calls (forward and backward), all lags in turn within each, so that what else
the machine does falls on all; one thread. The time is that of the quickest round; the ratio, to the
smallest lag, is the median of those within the rounds. A delayed cell has two lags, 1 and d, so
that its products are of one size. Printed as a table for docs/results.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from seqmodels.cells import Delay, GRUCell, RNNCell
from seqmodels.layers import Dilated, Recurrent

LAGS = (2, 10, 100)
DILATIONS = (1, 10, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="T")
    parser.add_argument("--batch", type=int, default=16, help="B")
    parser.add_argument("--hidden", type=int, default=64, help="H")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(given.batch, given.steps, 16)
    print(f"T, B, H = {given.steps}, {given.batch}, {given.hidden}; µs a step, forward + backward")
    print("| what | engine | lag | µs a step | ratio |\n|---|---|---|---|---|")
    for engine in ("eager", "compiled", "generated"):
        for kind in (RNNCell, GRUCell):
            made = [
                Recurrent(Delay(16, given.hidden, cell=kind, lags=(1, lag)), engine=engine)
                for lag in LAGS
            ]
            label = f"delay of {kind.__name__}, lags 1 and d"
            report(label, engine, LAGS, [call(one, x) for one in made], given)
    for engine in ("eager", "generated"):
        layers = [
            Dilated(Recurrent(GRUCell(16, given.hidden), engine=engine), d) for d in DILATIONS
        ]
        report("dilated GRUCell", engine, DILATIONS, [call(one, x) for one in layers], given)


def call(layer: torch.nn.Module, x: Tensor) -> Callable[[], None]:
    """One training step of a layer."""
    own = x.clone().requires_grad_()

    def run() -> None:
        y, _ = layer(own)
        torch.autograd.grad(y.sum(), [own, *layer.parameters()])

    return run


def report(
    label: str, engine: str, lags: tuple[int, ...], runs: list[Callable[[], None]],
    given: argparse.Namespace,
) -> None:  # fmt: skip
    """Time the runs in turn and print a row for each."""
    for run in runs:
        run()
    rounds: list[list[float]] = []
    for _ in range(given.rounds):
        times = []
        for run in runs:
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
        rounds.append(times)
    for column, lag in enumerate(lags):
        least = min(times[column] for times in rounds) / given.steps * 1e6
        # Within a round, what disturbs one disturbs the other.
        ratio = median(times[column] / times[0] for times in rounds)
        print(f"| {label} | `{engine}` | {lag} | {least:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
