"""A loss that explodes, and its rescue by every clipping policy.

    python benchmarks/exploding.py [--steps 600] [--seeds 3] [--jobs 2] [--out DIR]

Trains `experiment=exploding` with every policy and seed and makes `exploding.png` (loss and
gradient norm by step), `table.md` and `table.json`. What has ended is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

POLICIES = {
    "none": ["clip=none"],
    "norm": ["clip=norm"],
    "per_layer": ["clip=per_layer"],
    "adaptive": ["clip=adaptive"],
    "auto": ["clip=auto"],
    "value": ["clip=value", "clip.max_value=0.001"],
    "step": ["clip=step", "clip.max_norm=0.001"],
    "skip": ["clip=skip", "clip.max_norm=20"],
}


@dataclass
class Result:
    """What one run came to."""

    policy: str
    seed: int
    outcome: str  # finished, or why it ended
    steps: list[int]
    losses: list[float]
    norms: list[float]
    valid: float | None


def train(policy: str, seed: int, args: argparse.Namespace) -> Result:
    """One run, or what there is of it already."""
    run_dir: Path = args.out / f"{policy}_seed{seed}"
    record = run_dir / "run.json"
    ended = ("finished", "failed")
    if not (record.exists() and json.loads(record.read_text("utf-8"))["status"] in ended):
        args.out.mkdir(parents=True, exist_ok=True)
        line = [
            *(sys.executable, "-m", "seqmodels", "train", "experiment=exploding"),
            *POLICIES[policy],
            *(f"seed={seed}", f"trainer.max_steps={args.steps}", f"run_dir={run_dir}"),
            *("trainer.log_every_n_steps=1", "num_threads=1", "logger=none", "resume=true"),
            *args.overrides,
        ]
        with (args.out / f"{policy}_seed{seed}.log").open("a", encoding="utf-8") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
        if not record.exists():
            raise SystemExit(f"{policy}, seed {seed}: status {done.returncode}, see {log.name}")
    told: dict[str, Any] = json.loads(record.read_text("utf-8"))
    rows = [json.loads(row) for row in (run_dir / "metrics.jsonl").read_text("utf-8").splitlines()]
    rows = [row for row in rows if row.get("train/loss") is not None]
    return Result(
        policy=policy,
        seed=seed,
        outcome="finished" if told["status"] == "finished" else str(told["reason"]).split(";")[0],
        steps=[row["step"] for row in rows],
        losses=[row["train/loss"] for row in rows],
        norms=[row["gradient/norm"] for row in rows],
        valid=told["metrics"].get("val/loss"),
    )


def draw(results: list[Result], path: Path) -> None:
    """Loss and gradient norm by step, seed 0; a cross where a run ended early."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    first = [r for r in results if r.seed == results[0].seed]
    top = 3e3
    for at, result in enumerate(first):
        colour = "black" if result.policy == "none" else colormaps["tab10"](at)
        for axis, values in zip(panels, (result.losses, result.norms), strict=True):
            axis.plot(result.steps, values, color=colour, label=f"clip={result.policy}", lw=1.2)
            if result.outcome != "finished" and values:  # the step that was not logged: infinite
                ends = [result.steps[-1], result.steps[-1] + 1]
                axis.plot(ends, [values[-1], top], ":", color=colour)
                axis.plot(ends[-1], top, "x", color=colour, ms=10, mew=2.5)
    for axis, name in zip(panels, ("training loss", "gradient norm before clipping"), strict=True):
        axis.set_yscale("log")
        axis.set_xscale("log")
        axis.set_xlabel("step")
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
    panels[0].axhline(1 / 6, color="gray", ls=":", lw=1)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.suptitle("experiment=exploding; cross: the run ends; dotted: always answering 1")
    figure.savefig(path, dpi=120)


def markdown(results: list[Result]) -> str:
    rows = [["clip", "seed", "outcome", "steps", "largest norm", "validation loss at the end"]]
    rows.append(["---"] * len(rows[0]))
    for r in results:
        loss = "–" if r.valid is None or r.outcome != "finished" else f"{r.valid:.4f}"
        most = f"{max(r.norms):.3g}" if r.norms else "–"
        last = str(r.steps[-1]) if r.steps else "0"
        rows.append([r.policy, str(r.seed), r.outcome, last, most, loss])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--out", type=Path, default=Path("outputs/exploding"))
    parser.add_argument("overrides", nargs="*", help="of every run, such as optimizer.lr=0.05")
    args = parser.parse_args()
    jobs = [(policy, seed) for policy in args.policies for seed in range(args.seeds)]
    results = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for result in pool.map(lambda job: train(*job, args), jobs):
            results.append(result)
            print(f"clip={result.policy}, seed {result.seed}: {result.outcome}", flush=True)
    text = markdown(results)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    plain = [asdict(result) for result in results]
    (args.out / "table.json").write_text(json.dumps(plain) + "\n", encoding="utf-8")
    draw(results, args.out / "exploding.png")
    print(f"\n{text}\n{args.out}/exploding.png")


if __name__ == "__main__":
    main()
