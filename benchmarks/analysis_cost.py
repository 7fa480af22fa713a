"""What the analysis of the layers adds to the time of training: two LSTM layers of 256 units.

    python benchmarks/analysis_cost.py [--steps 1000] [--pairs 3]

Runs the same training with and without `callbacks.analysis` at its default cadence, one after the
other, again and again, and prints the median of the pairs' ratios. The losses must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def train(run_dir: Path, own: list[str], args: argparse.Namespace) -> tuple[float, float]:
    """Seconds of the training itself and the last validation loss."""
    line = [
        *(sys.executable, "-m", "seqmodels", "train", "model/cell=lstm"),
        *("model.layers.num_layers=2", "model.layers.hidden_size=256"),
        *(f"trainer.max_steps={args.steps}", f"trainer.val_check_interval={args.steps}"),
        *("logger=none", "~callbacks.curves", "~callbacks.samples", f"run_dir={run_dir}"),
        *own,
        *args.overrides,
    ]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(done.stderr)
    rows = [json.loads(r) for r in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    # Tokens per second are of whole steps with everything between them.
    speeds = [r["time/tokens_per_second"] for r in rows if r.get("time/tokens_per_second")]
    loss = json.loads((run_dir / "run.json").read_text("utf-8"))["metrics"]["val/loss"]
    return sum(1 / speed for speed in speeds), float(loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of every run, such as num_threads=1")
    args = parser.parse_args()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(args.pairs):
            order = [("with", []), ("without", ["~callbacks.analysis"])]
            found = {}
            for name, own in order if index % 2 else reversed(order):
                found[name] = train(Path(folder) / f"{name}{index}", own, args)
            if found["with"][1] != found["without"][1]:
                raise SystemExit(f"the losses differ: {found}")
            ratios.append(found["with"][0] / found["without"][0])
            print(f"pair {index + 1}: {ratios[-1]:.4f}", flush=True)
    print(f"median {statistics.median(ratios):.4f} times the time without")


if __name__ == "__main__":
    main()
