"""A sweep against the same runs one by one: time of both, and what a job costs beside its training.

    python benchmarks/sweep.py                      # 24 runs
    python benchmarks/sweep.py --parts 3            # three sweeps of 8, each beside its own runs
    python benchmarks/sweep.py --runs 6

Each part is a sweep of its own, then the same runs each as a `seqmodels train` in a process of its
own, so that a machine whose load changes changes both. The sweep's start (its processes import
torch) is paid once for each part. The overhead of a job is what the sweep's wall time, times the
workers, has beside the runs' own recorded times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 300
CELLS = ("rnn", "leaky", "lstm", "gru")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--steps", type=int, default=100, help="training steps of each run")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    each = arguments.runs // arguments.parts
    cells = min(len(CELLS), each)
    seeds = each // cells
    together = alone = trained = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for part in range(arguments.parts):
            numbers = [part * seeds + seed + 1 for seed in range(seeds)]
            first, own = _sweep(Path(folder), part, cells, numbers, arguments)
            second = sum(
                _single(Path(folder), cell, seed, arguments)
                for cell in CELLS[:cells]
                for seed in numbers
            )
            load = os.getloadavg()[0]
            print(
                f"part {part + 1}: {cells * seeds} runs: sweep {first:.1f} s, one by one "
                f"{second:.1f} s, ratio {first / second:.2f}, load {load:.1f}",
                flush=True,
            )
            together, alone, trained = together + first, alone + second, trained + own
    runs = cells * seeds * arguments.parts
    overhead = (together * arguments.workers - trained) / runs
    print(
        f"{runs} runs, {os.cpu_count()} cores ({platform.machine()}): sweep {together:.1f} s, one "
        f"by one {alone:.1f} s, ratio {together / alone:.3f} (target 0.6)"
    )
    print(f"overhead of a job, the sweep's start included: {overhead:.2f} s (target 3)")
    return 0


def _settings(folder: Path, arguments: argparse.Namespace) -> list[str]:
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(TEXT, encoding="utf-8")
    return [
        f"data.path={text}",
        "data.batch_size=8",
        "data.seq_len=32",
        "data.eval_batch_size=8",
        "model.layers.hidden_size=32",
        f"trainer.max_steps={arguments.steps}",
        f"trainer.val_check_interval={arguments.steps}",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "num_threads=1",
    ]


def _sweep(
    folder: Path, part: int, cells: int, seeds: list[int], arguments: argparse.Namespace
) -> tuple[float, float]:
    """(wall time, sum of the runs' own times) of a sweep."""
    target = folder / f"sweep{part}"
    axes = [f"model/cell={','.join(CELLS[:cells])}"]
    axes += [f"seed={','.join(map(str, seeds))}"] if len(seeds) > 1 else [f"seed={seeds[0]}"]
    own = [*_settings(folder, arguments), *axes, f"sweep.dir={target}"]
    took = _call(["-m", *own, f"sweep.jobs={arguments.workers}"])
    records = [json.loads(path.read_text()) for path in target.glob("*/run.json")]
    assert len(records) == cells * len(seeds), "a run is missing"
    return took, sum(record["wall_time_seconds"] for record in records)


def _single(folder: Path, cell: str, seed: int, arguments: argparse.Namespace) -> float:
    target = folder / f"single_{cell}_{seed}"
    own = [*_settings(folder, arguments), f"model/cell={cell}", f"seed={seed}"]
    return _call([*own, f"run_dir={target}"])


def _call(words: list[str]) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "seqmodels", "train", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return time.monotonic() - began


if __name__ == "__main__":
    raise SystemExit(main())
