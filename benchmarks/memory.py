"""Echo state networks and trained cells on the tasks that measure memory, beside published numbers.

    python benchmarks/memory.py [--out DIR] [--seeds 20] [--only mackey_glass capacity adding …]
    python benchmarks/memory.py --long --mnist FOLDER

Everything but the capacities is an ordinary run of `seqmodels train`; what is finished is not run
again. Prints `table.md`. On 2 cores the reservoirs take some 10 minutes (20 of each kind), the
trained cells 15; `--long` adds the adding problem at 1,000 steps (22 minutes) and, with `--mnist`,
sequential MNIST (52 minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Trained:
    """A run of a trained cell: its overrides, the metric shown, and what is asked of it."""

    group: str
    title: str
    overrides: str
    metric: str
    target: str
    long: bool = False


_PLAIN = "init=orthogonal optimizer.lr=0.001"
_COPY = (
    "model=prediction task=classification data=copy_memory data.length=100 data.batch_size=50 "
    "model.layers.hidden_size=128 scheduler=cosine trainer.max_steps=1500 "
    "trainer.val_check_interval=500"
)
_LOSS = "test/loss"
TRAINED = (
    Trained("adding", "adding, 100 steps, lstm", "experiment=adding", _LOSS, "< 0.01"),
    Trained(
        "adding", "adding, 100 steps, plain rnn",
        f"experiment=adding model/cell=rnn {_PLAIN} ~init.max_time", _LOSS, "fails",
    ),
    Trained(
        "adding", "adding, 400 steps, lstm",
        "experiment=adding data.length=400 init.max_time=400 scheduler=cosine "
        "trainer.max_steps=2000",
        _LOSS, "< 0.01",
    ),
    Trained(
        "adding", "adding, 1,000 steps, lstm",
        "experiment=adding data.length=1000 init.max_time=1000 scheduler=cosine "
        "trainer.max_steps=5000",
        _LOSS, "< 0.01", True,
    ),
    Trained(
        "copy_memory", "copy memory, 100 steps, lru", "experiment=copy_memory", _LOSS, "solved"
    ),
    Trained(
        "copy_memory", "copy memory, 100 steps, lstm", f"{_COPY} model/cell=lstm init=forget_bias",
        _LOSS, "no better than without memory",
    ),
    Trained(
        "copy_memory", "copy memory, 100 steps, plain rnn", f"{_COPY} model/cell=rnn {_PLAIN}",
        _LOSS, "no better than without memory",
    ),
    *(
        Trained(
            "anbn", f"a^n b^n, n ≤ 50 in training, lstm, seed {seed}",
            f"experiment=anbn seed={seed}", "test/solved_length", "n ≥ 100",
        )
        for seed in range(3)
    ),
    Trained(
        "mnist", "sequential MNIST, lru", "experiment=smnist", "test/accuracy", "≥ 0.97", True
    ),
)  # fmt: skip


def run(name: str, overrides: list[str], out: Path) -> dict[str, Any]:
    """The record of a run, which is made, or completed, where it is not finished."""
    run_dir = out / name
    record = run_dir / "run.json"
    if not (record.exists() and json.loads(record.read_text("utf-8"))["status"] == "finished"):
        out.mkdir(parents=True, exist_ok=True)
        line = [
            *(sys.executable, "-m", "seqmodels", "train", *overrides),
            *(f"run_dir={run_dir}", "logger=none", "resume=true", "num_threads=1"),
        ]
        with (out / f"{run_dir.name}.log").open("a", encoding="utf-8") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if done.returncode:
            raise SystemExit(f"{run_dir}: status {done.returncode}, see {log.name}")
    found: dict[str, Any] = json.loads(record.read_text("utf-8"))
    return found


def forecasts(names: list[str], seeds: int, out: Path) -> list[str]:
    rows = [
        "| task | measured: median | best | worst | target | published |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        metric, target, published = RUNS[name]
        values = []
        for seed in range(seeds):
            overrides = [f"experiment={name}_esn", f"seed={seed}"]
            values.append(run(f"{name}_seed{seed}", overrides, out)["metrics"][metric])
            print(f"{name}, seed {seed}: {metric} {values[-1]:.4g}", flush=True)
        worse = max if metric != "test/valid_time" else min
        better = min if worse is max else max
        rows.append(
            f"| {name}, {metric.partition('/')[2]}, {len(values)} reservoirs | "
            f"{statistics.median(values):.3g} | {better(values):.3g} | {worse(values):.3g} | "
            f"{target} | {published} |"
        )
    return rows


def capacities(out: Path) -> list[str]:
    rows = [
        "| memory capacity, 100 units | measured | most possible | target | published |",
        "|---|---|---|---|---|",
    ]
    found = {}
    for name, (settings, target, published) in CAPACITIES.items():
        torch.manual_seed(0)
        cell = ReservoirCell(1, 100, **settings).double()
        found[name] = memory_capacity(cell, steps=50_000, lags=200)
        rows.append(
            f"| {name} | {found[name].total:.1f} | {found[name].bound} | {target} | {published} |"
        )
    capacity_picture(found).savefig(out / "capacity.png", dpi=110)
    return rows


def trained(chosen: list[Trained], mnist: Path | None, out: Path) -> list[str]:
    rows = ["| task | measured | known | seconds | target |", "|---|---|---|---|---|"]
    for each in chosen:
        name = "".join(sign if sign.isalnum() else "_" for sign in each.title)
        overrides = each.overrides.split()
        if each.group == "mnist":
            overrides.append(f"data.path={mnist}")
        record = run(name, overrides, out)
        metrics = record["metrics"]
        shown = f"{metrics[each.metric]:.3g}"
        if each.metric == "test/solved_length":
            shown = f"all to n = {metrics[each.metric] / 2:.0f}"
        if each.group == "copy_memory":
            shown += f", {100 * metrics['test/accuracy']:.2f} % right"
        known = ", ".join(f"{n}: {v:.3g}" for n, v in record["baselines"].items())
        took = f"{record['wall_time_seconds']:.0f}"
        rows.append(f"| {each.title} | {shown} | {known} | {took} | {each.target} |")
        print(rows[-1], flush=True)
    return rows


def lengths(out: Path) -> list[str]:
    """The peak memory of fitting a readout to a series, and to one ten times as long."""
    rows = [
        "| steps of training, 200 units | peak resident memory | its states would take |",
        "|---|---|---|",
    ]
    for steps in (20_000, 60_000, 200_000):
        overrides = (
            "data=echo model=echo_state task=ridge optimizer=none scheduler=none clip=none "
            "callbacks=none model.layers.hidden_size=200 data.baseline_lags=1 "
            f"data.source.lags=[1] data.train={steps} trainer.precision=64-true data.double=true"
        )
        peak = run(f"steps_{steps}", overrides.split(), out)["peak_memory_mib"]
        rows.append(f"| {steps:,} | {peak:.0f} MiB | {steps * 200 * 8 / 2**20:.0f} MiB |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    groups = [*RUNS, "capacity", "length", "adding", "copy_memory", "anbn", "mnist"]
    parser.add_argument("--out", type=Path, default=Path("outputs/memory"))
    parser.add_argument("--seeds", type=int, default=20, help="reservoirs of each kind")
    parser.add_argument("--only", nargs="+", default=groups, choices=groups)
    parser.add_argument("--long", action="store_true", help="what takes 22 minutes or more, too")
    parser.add_argument("--mnist", type=Path, help="the folder of MNIST's idx files")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tables = []
    names = [name for name in RUNS if name in args.only]
    if names:
        tables.append(forecasts(names, args.seeds, args.out))
    if "capacity" in args.only:
        tables.append(capacities(args.out))
    if "length" in args.only:
        tables.append(lengths(args.out))
    chosen = [
        each
        for each in TRAINED
        if each.group in args.only
        and (args.long or not each.long)
        and (each.group != "mnist" or args.mnist is not None)
    ]
    if chosen:
        tables.append(trained(chosen, args.mnist, args.out))
    table = "\n\n".join("\n".join(rows) for rows in tables) + "\n"
    (args.out / "table.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
