"""Temporal order after Pascanu et al. 2013: who learns it, and up to which length it holds.

    python benchmarks/temporal_order.py [--seeds 5] [--steps 16000] [--minutes 90] [--out DIR]

Trains `experiment=temporal_order` with every policy (none; clip; the regulariser Ω; both) and
seed, and tests the checkpoint of the least validation loss (on lengths 50, 100 and 500) on 1,000
sequences of each length. What is finished is not run again: the same command goes on where it was
stopped, and makes the table, `table.md`, `table.json` and `table.png`, of what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

POLICIES = {
    "none": ["clip=none"],
    "clip": ["clip=norm"],
    "regulariser": ["clip=none", "task.omega={omega}"],
    "clip + regulariser": ["clip=norm", "task.omega={omega}"],
}
STARTED = time.monotonic()
COLOURS = {
    "none": "tab:red",
    "clip": "tab:blue",
    "regulariser": "tab:orange",
    "clip + regulariser": "tab:green",
}


@dataclass
class Result:
    """What one run came to."""

    policy: str
    seed: int
    outcome: str  # solved | not solved | diverged | failed
    steps: int
    seconds: float
    errors: dict[int, int]  # of the test sequences, by length; {} where nothing was tested
    reason: str | None


def command(policy: str, seed: int, run_dir: Path, args: argparse.Namespace) -> list[str]:
    own = [text.format(omega=args.omega) for text in POLICIES[policy]]
    lengths = ",".join(map(str, args.lengths))
    return [
        *(sys.executable, "-m", "seqmodels", "train", "experiment=temporal_order", *own),
        f"seed={seed}",
        f"data.test_lengths=[{lengths}]",
        f"data.test_sequences={args.sequences}",
        f"trainer.max_steps={args.steps}",
        "num_threads=1",
        "logger=none",
        "resume=true",
        f"run_dir={run_dir}",
        *args.overrides,
    ]


def read(policy: str, seed: int, run_dir: Path) -> Result | None:
    """The run's result; None where it has not ended."""
    path = run_dir / "run.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if record["status"] not in ("finished", "failed"):
        return None
    metrics = record["metrics"]
    prefix = "test/errors_"
    errors = {
        int(name.removeprefix(prefix).partition("_")[0]): int(value)
        for name, value in metrics.items()
        if name.startswith(prefix)
    }
    reason = record["reason"]
    if record["status"] == "failed":
        outcome = "diverged" if "loss" in str(reason) else "failed"
    else:
        outcome = "solved" if errors and not any(errors.values()) else "not solved"
    seconds = float(record["wall_time_seconds"])
    return Result(policy, seed, outcome, record["steps"], seconds, errors, reason)


def work(policy: str, seed: int, args: argparse.Namespace) -> Result | None:
    """One run, or what there is of it already; None where there is no time left to start it."""
    run_dir = args.out / f"{policy.replace(' + ', '_')}_seed{seed}"
    result = read(policy, seed, run_dir)
    if result is None and time.monotonic() - STARTED > args.minutes * 60:
        print(f"{policy}, seed {seed}: not started, the time is over", flush=True)
        return None
    if result is None:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (args.out / f"{run_dir.name}.log").open("a", encoding="utf-8") as log:
            line = command(policy, seed, run_dir, args)
            done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
        result = read(policy, seed, run_dir)
        if result is None:
            raise SystemExit(f"{run_dir} ended with status {done.returncode}: see its .log")
    shown = ", ".join(f"{n}: {e}" for n, e in sorted(result.errors.items())) or result.reason
    elapsed = f"{result.seconds:.0f} s"
    print(f"{policy}, seed {seed}: {result.outcome}, {result.steps:,} steps, {elapsed}; {shown}")
    sys.stdout.flush()
    return result


def markdown(results: list[Result], lengths: list[int], sequences: int) -> str:
    heads = ["policy", "seed", "outcome", "steps", "seconds", *(f"T = {n}" for n in lengths)]
    rows = [heads, ["---"] * len(heads)]
    for r in results:
        errors = [str(r.errors.get(n, "–")) for n in lengths]
        rows.append([r.policy, str(r.seed), r.outcome, f"{r.steps:,}", f"{r.seconds:.0f}", *errors])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"Errors of {sequences:,} test sequences of each length T.\n\n{table}\n"


def draw(results: list[Result], lengths: list[int], sequences: int, path: Path) -> None:
    """Success rate, the share of seeds with fewer than 1 % of errors, and errors, by length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    success, wrong = figure.subplots(1, 2)
    for policy in dict.fromkeys(r.policy for r in results):
        own = [r for r in results if r.policy == policy]
        each = [[r.errors.get(n, sequences) / sequences for r in own] for n in lengths]
        rates = [sum(e < 0.01 for e in errors) / len(own) for errors in each]
        success.plot(lengths, rates, "o-", color=COLOURS[policy], label=f"{policy} ({len(own)})")
        for index in range(len(own)):
            shares = [errors[index] for errors in each]
            wrong.plot(lengths, shares, ".-", color=COLOURS[policy], alpha=0.6)
    success.set_ylabel("share of seeds with < 1 % errors")
    success.set_ylim(-0.03, 1.03)
    success.legend()
    wrong.axhline(0.75, color="gray", ls=":", lw=1)
    wrong.set_ylabel("share of wrong sequences (dotted: chance)")
    for axis in (success, wrong):
        axis.set_xlabel("length T of the test sequences")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16_000, help="of each run")
    parser.add_argument("--minutes", type=float, default=90.0, help="after which none is started")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument(
        "--lengths", nargs="+", type=int, default=[50, 100, 150, 200, 300, 500, 1000]
    )
    parser.add_argument("--sequences", type=int, default=1000, help="of each length")
    parser.add_argument("--omega", type=float, default=1.0, help="weight of the regulariser")
    parser.add_argument("--out", type=Path, default=Path("outputs/temporal_order"))
    parser.add_argument("overrides", nargs="*", help="of every run, such as optimizer.lr=0.02")
    args = parser.parse_args()
    # Seed by seed, so that a table that was stopped has something of every policy.
    cells = [(policy, seed) for seed in range(args.seeds) for policy in args.policies]
    with ThreadPoolExecutor(args.jobs) as pool:
        made = list(pool.map(lambda cell: work(*cell, args), cells))
    results = [result for result in made if result is not None]
    results.sort(key=lambda r: (args.policies.index(r.policy), r.seed))
    text = markdown(results, args.lengths, args.sequences)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    plain = {"sequences": args.sequences, "runs": [asdict(r) for r in results]}
    (args.out / "table.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    draw(results, args.lengths, args.sequences, args.out / "table.png")
    print(f"\n{text}\n{args.out}/table.md, after {(time.monotonic() - STARTED) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
