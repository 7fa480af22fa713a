"""Linear recurrences: the scan over all steps at once beside the loops over single steps.

    python benchmarks/linear_scan.py [--seconds 1] [--threads 1]

For each cell and shape (I = H, float32): milliseconds of the engine `parallel`, then how many times
as long the loop in Python (`eager`) and the printed one (`generated`) take, then what `auto` takes
and its time over that of the fastest of the three. Medians of calls made in turn; `forward` runs
without gradients, `step` is forward and backward. Last the largest error of `parallel` in float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.timing import interleave
from seqmodels.cells import Cell, LRUCell, MinGRUCell, MinLSTMCell
from seqmodels.engines import ENGINES, choose

CELLS: dict[str, Callable[[int, int], Cell[Any]]] = {
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "lru": LRUCell,
}
SHAPES = (  # T, B, H
    (1, 1, 64),
    (35, 20, 200),
    (128, 1, 64),
    (4096, 1, 64),
    (1024, 1, 256),
    (512, 4, 64),
    (512, 16, 64),
    (256, 16, 256),
    (128, 64, 256),
)


def call(engine: str, cell: Cell[Any], x: Tensor, step: bool) -> Callable[[], object]:
    run = ENGINES[engine]

    def forward() -> object:
        with torch.no_grad():
            return run(cell, x)

    leaves = [x, *cell.parameters()]

    def forward_and_backward() -> object:
        return torch.autograd.grad(run(cell, x)[0].sum(), leaves)

    return forward_and_backward if step else forward


def line(name: str, shape: tuple[int, int, int], seconds: float, step: bool) -> str:
    steps, batch, size = shape
    torch.manual_seed(0)
    cell, x = CELLS[name](size, size), torch.randn(steps, batch, size, requires_grad=step)
    parallel = call("parallel", cell, x, step)
    ratios, milliseconds = {"parallel": 1.0}, 0.0
    for other in ("generated", "eager"):
        if ENGINES[other].why_not(cell, x, None, None) is not None:
            continue
        pairs = interleave(call(other, cell, x, step), parallel, seconds=seconds)
        ratios[other], milliseconds = pairs.ratio, 1e3 * pairs.reference_seconds
    auto = choose("auto", cell, x, None, None).name
    loss = ratios[auto] / min(ratios.values())
    what = "step" if step else "forward"
    loops = " ".join(f"{ratios.get(o, float('nan')):9.2f}" for o in ("eager", "generated"))
    sizes = f"{steps:5d},{batch:3d},{size:4d}"
    return f"{name:9s}{sizes:15s}{what:9s}{milliseconds:9.2f} {loops}  {auto:10s}{loss:5.2f}"


def error() -> float:
    torch.manual_seed(0)
    cell, x = MinGRUCell(64, 64), torch.randn(4096, 1, 64)
    with torch.no_grad():
        found, _ = ENGINES["parallel"](cell, x)
        exact, _ = ENGINES["eager"](cell.double(), x.double())
    return float((found - exact).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each comparison")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.threads} threads")
    print("cell     T, B, H        what     parallel     eager generated  auto       loss")
    for name in CELLS:
        for shape in SHAPES:
            for step in (False, True):
                print(line(name, shape, given.seconds, step), flush=True)
    print(f"min_gru 4096,1,64: largest error in float32 {error():.1e}")


if __name__ == "__main__":
    main()
