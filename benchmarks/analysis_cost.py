"""What the measurements of the recurrent layers cost a run, at their default cadence.

    python benchmarks/analysis_cost.py [--text FILE] [--measurements 12] [--override KEY=VALUE …]

Trains a character model, two LSTM layers of 256 units, with `callbacks.analysis` called every ten
steps instead of every 500: each measurement lies between training steps, so that what else the
machine does falls on both. The share of the training time is that of one measurement over 500
steps, of the medians and of each measurement beside the ten steps before it. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from seqmodels.training.callbacks.analysis import LayerAnalysis

EVERY = 10  # steps between two measurements here
DEFAULT = 500  # and by default


class Timed(LayerAnalysis):
    """The same, which keeps how long each step and each measurement took, in seconds."""

    steps_took: list[float] = []  # noqa: RUF012  # read after the run has thrown the object away
    took: list[float] = []  # noqa: RUF012
    _since = 0.0

    def on_train_batch_start(self, *given: Any, **named: Any) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *given: Any, **named: Any) -> None:
        now = time.perf_counter()
        self.steps_took.append(now - self._since)
        super().on_train_batch_end(trainer, *given, **named)
        if trainer.global_step % self.every_n_steps == 0:
            self.took.append(time.perf_counter() - now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, default=None, help="None: the package's own")
    parser.add_argument("--measurements", type=int, default=12)
    parser.add_argument("--override", nargs="*", default=[])
    given = parser.parse_args()

    # The run finds the class by its module's name, and that module is not this one.
    sys.path.insert(0, str(Path(__file__).parent))
    import analysis_cost
    from seqmodels.cli import main as command

    with tempfile.TemporaryDirectory() as folder:
        status = command(
            [
                "train",
                *([] if given.text is None else [f"data.path={given.text.resolve()}"]),
                *("model/cell=lstm", "model.layers.hidden_size=256", "model.layers.num_layers=2"),
                f"trainer.max_steps={EVERY * (given.measurements + 2)}",
                *("num_threads=1", "logger=none", "trainer.limit_val_batches=1"),
                *("trainer.limit_test_batches=1", "~callbacks.samples", "~callbacks.curves"),
                *("trainer.enable_progress_bar=false", f"run_dir={folder}/run"),
                "callbacks.analysis._target_=analysis_cost.Timed",
                f"callbacks.analysis.every_n_steps={EVERY}",
                *given.override,
            ]
        )
    if status:
        sys.exit(status)
    timed = analysis_cost.Timed
    took = timed.took[1:-1]  # what comes first builds things; the last step saves a checkpoint
    blocks = [timed.steps_took[EVERY * i : EVERY * (i + 1)] for i in range(1, len(took) + 1)]
    steps = [statistics.median(block) for block in blocks]
    shares = sorted(a / (DEFAULT * b) for a, b in zip(took, steps, strict=True))
    low, middle, high = statistics.quantiles(shares, n=4, method="inclusive")
    print(
        f"one measurement {statistics.median(took):.3f} s, one training step "
        f"{statistics.median(steps):.3f} s (medians of {len(took)}); every {DEFAULT} steps "
        f"{middle:.2%} of the training time, quartiles {low:.2%} to {high:.2%}"
    )


if __name__ == "__main__":
    main()
