"""Echo state networks on the tasks that measure memory, beside published numbers.

    python benchmarks/memory.py [--out DIR] [--seeds 20] [--only mackey_glass narma10 …]

Each forecast is an ordinary run of `seqmodels train experiment=…_esn seed=…`; what is finished is
not run again. Prints `table.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from seqmodels.analysis.capacity import memory_capacity
from seqmodels.analysis.pictures_dynamics import capacity_picture
from seqmodels.cells import ReservoirCell

# Experiment, metric, what is better, what is asked for, what is published.
RUNS: dict[str, tuple[str, str, str]] = {
    "mackey_glass": ("test/nrmse_84", "best ≤ 3e-4", "2.8e-4 (Jaeger 2001, 3,000 steps)"),
    "narma10": ("test/nrmse", "≤ 0.2", "0.1 to 0.2 for 200 to 400 units"),
    "lorenz": (
        "test/valid_time",
        "median ≥ 5 Lyapunov times",
        "5 to 6 (Pathak 2018, Gauthier 2021)",
    ),
}
CAPACITIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "tanh, radius 0.9": ({"spectral_radius": 0.9, "input_scaling": 0.1}, "≥ 30", "31.9"),
    "tanh, dense, radius 0.95": (
        {"spectral_radius": 0.95, "input_scaling": 0.05, "density": 1.0}, "≥ 30", ""
    ),
    "orthogonal, linear": (
        {"topology": "orthogonal", "spectral_radius": 0.98, "nonlinearity": "identity"},
        "≥ 85", "89.3",
    ),
    "ring, tanh": (
        {
            "topology": "ring", "spectral_radius": 0.98, "input_scaling": 0.01,
            "input_distribution": "sign",
        },
        "≥ 85", "95.6 (linear)",
    ),
}  # fmt: skip


def forecast(name: str, seed: int, out: Path) -> dict[str, float]:
    run_dir = out / f"{name}_seed{seed}"
    record = run_dir / "run.json"
    if not (record.exists() and json.loads(record.read_text("utf-8"))["status"] == "finished"):
        out.mkdir(parents=True, exist_ok=True)
        line = [
            *(sys.executable, "-m", "seqmodels", "train", f"experiment={name}_esn"),
            *(f"seed={seed}", f"run_dir={run_dir}", "logger=none", "resume=true"),
            "num_threads=1",
        ]
        with (out / f"{run_dir.name}.log").open("a", encoding="utf-8") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if done.returncode:
            raise SystemExit(f"{run_dir}: status {done.returncode}, see {log.name}")
    metrics: dict[str, float] = json.loads(record.read_text("utf-8"))["metrics"]
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/memory"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", nargs="+", default=[*RUNS, "capacity"])
    args = parser.parse_args()
    rows = [
        "| task | measured: median | best | worst | target | published |",
        "|---|---|---|---|---|---|",
    ]
    for name, (metric, target, published) in RUNS.items():
        if name not in args.only:
            continue
        values = []
        for seed in range(args.seeds):
            values.append(forecast(name, seed, args.out)[metric])
            print(f"{name}, seed {seed}: {metric} {values[-1]:.4g}", flush=True)
        worse = max if metric != "test/valid_time" else min
        better = min if worse is max else max
        rows.append(
            f"| {name}, {metric.partition('/')[2]}, {len(values)} reservoirs | "
            f"{statistics.median(values):.3g} | {better(values):.3g} | {worse(values):.3g} | "
            f"{target} | {published} |"
        )
    if "capacity" in args.only:
        found = {}
        for name, (settings, target, published) in CAPACITIES.items():
            torch.manual_seed(0)
            cell = ReservoirCell(1, 100, **settings).double()
            found[name] = memory_capacity(cell, steps=50_000, lags=200)
            rows.append(
                f"| memory capacity, 100 units, {name} | {found[name].total:.1f} | | | {target} | "
                f"{published} |"
            )
        args.out.mkdir(parents=True, exist_ok=True)
        capacity_picture(found).savefig(args.out / "capacity.png", dpi=110)
    table = "\n".join(rows) + "\n"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "table.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
