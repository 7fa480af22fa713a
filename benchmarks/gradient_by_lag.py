"""How far back the gradient of one answer reaches: cells, residual layers and initialisations.

    python benchmarks/gradient_by_lag.py [--steps 600] [--seeds 3] [--jobs 2] [--out DIR]

Trains `experiment=gradient_by_lag` for every variant and seed, then measures ‖∂L/∂s_{T−k}‖ of the
one answer, at the first weights and at the last ones, in the lowest recurrent layer. Makes
`gradient_by_lag.png`, `table.md` and `table.json`. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from seqmodels.analysis.gradients import norms_by_lag
from seqmodels.commands.building import build_model, load_run

VARIANTS = {
    "rnn": ["model/cell=rnn"],
    "rnn, orthogonal": ["model/cell=rnn", "init=orthogonal"],
    "leaky, τ = 10": ["model/cell=leaky", "model.cell.tau=10"],
    "lstm": ["model/cell=lstm"],
    "lstm, forget bias 1": ["model/cell=lstm", "init=forget_bias"],
    "lstm, chrono 200": ["model/cell=lstm", "init=chrono", "init.max_time=200"],
    "gru": ["model/cell=gru"],
    "4 × rnn": ["model/cell=rnn", "model.layers.num_layers=4"],
    "4 × rnn, residual": ["model/cell=rnn", "model/layers=residual", "model.layers.num_layers=4"],
}
LAGS = (1, 10, 50, 100, 199)


def train(variant: str, seed: int, args: argparse.Namespace) -> Path:
    """One run, or what there is of it already."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in variant.replace("×", "x"))
    run_dir: Path = args.out / f"{name}_seed{seed}"
    record = run_dir / "run.json"
    if record.exists() and json.loads(record.read_text("utf-8"))["status"] == "finished":
        return run_dir
    args.out.mkdir(parents=True, exist_ok=True)
    line = [
        *(sys.executable, "-m", "seqmodels", "train", "experiment=gradient_by_lag"),
        *VARIANTS[variant],
        *(f"seed={seed}", f"trainer.max_steps={args.steps}", f"run_dir={run_dir}"),
        *("num_threads=1", "logger=none", "resume=true", *args.overrides),
    ]
    with (args.out / f"{name}_seed{seed}.log").open("a", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(line, stdout=log, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        raise SystemExit(f"{variant}, seed {seed}: status {done.returncode}, see {log.name}")
    return run_dir


def answer_loss(targets: Tensor, outputs: Tensor) -> Tensor:
    """Of the last step, summed: the gradient of a state is then that of its own sequence."""
    return nn.functional.cross_entropy(outputs, targets, reduction="sum")


def measure(run_dir: Path) -> tuple[Tensor, Tensor, float]:
    """(T) norms by lag in the lowest layer with the first and the last weights, and the loss."""
    cfg, data, trained, _ = load_run(run_dir, "last", lambda stored: stored)
    loader = data.valid_loader()
    assert loader is not None
    batch = next(iter(loader))
    curves = []
    for model in (build_model(cfg, data), trained):
        term = partial(answer_loss, batch.targets[:, -1])
        layers = norms_by_lag(model.eval(), batch.inputs, term)
        curves.append(next(iter(layers.values())))  # by name, the lowest comes first
    record = json.loads((run_dir / "run.json").read_text("utf-8"))
    return curves[0], curves[1], float(record["metrics"]["val/loss"])


def draw(curves: dict[str, list[tuple[Tensor, Tensor, float]]], path: Path) -> None:
    """One panel for the first weights, one for the last; one line per variant, the median seed."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for index, axis in enumerate(panels):
        for at, (variant, runs) in enumerate(curves.items()):
            each = torch.stack([run[index] for run in runs])  # (seeds, T)
            line = each.median(0).values.clamp(min=1e-38)
            colour = colormaps["tab10"](at)
            style = "--" if "," in variant else "-"
            axis.plot(line.tolist(), style, color=colour, label=variant, lw=1.6)
            if len(runs) > 1:
                low, high = each.min(0).values, each.max(0).values
                axis.fill_between(
                    range(len(line)), low.clamp(min=1e-38), high, color=colour, alpha=0.12, lw=0
                )
        axis.set_yscale("log")
        axis.set_ylim(1e-14, 1e3)
        axis.set_xlabel("lag k: steps before the answer")
        axis.grid(alpha=0.3)
    panels[0].set_title("first weights")
    panels[1].set_title("after training")
    panels[0].set_ylabel(r"$\|\partial L_T / \partial s_{T-k}\|$, lowest layer")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=120)


def markdown(curves: dict[str, list[tuple[Tensor, Tensor, float]]]) -> str:
    rows = [["variant", "weights", *(f"k = {lag}" for lag in LAGS), "validation loss"]]
    rows.append(["---"] * len(rows[0]))
    for variant, runs in curves.items():
        for index, name in enumerate(("first", "last")):
            line = torch.stack([run[index] for run in runs]).median(0).values
            losses = [run[2] for run in runs]
            loss = f"{sorted(losses)[len(losses) // 2]:.3f}" if index else ""
            shown = [f"{float(line[lag]):.1e}" for lag in LAGS]
            rows.append([variant, name, *shown, loss])
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    chance = f"Answers are one of four: chance is {math.log(4):.3f} nats."
    return f"Gradient norm of one answer by lag, the median over seeds. {chance}\n\n{table}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("outputs/gradient_by_lag"))
    parser.add_argument("overrides", nargs="*", help="of every run, such as data.length=100")
    args = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [(variant, seed) for variant in args.variants for seed in range(args.seeds)]
    curves: dict[str, list[tuple[Tensor, Tensor, float]]] = {v: [] for v in args.variants}
    with ThreadPoolExecutor(args.jobs) as pool:
        directories = pool.map(lambda job: train(*job, args), jobs)
        for (variant, seed), run_dir in zip(jobs, directories, strict=True):
            curves[variant].append(measure(run_dir))
            print(f"{variant}, seed {seed}: loss {curves[variant][-1][2]:.3f}", flush=True)
    text = markdown(curves)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    plain = {
        variant: [{"first": a.tolist(), "last": b.tolist(), "loss": c} for a, b, c in runs]
        for variant, runs in curves.items()
    }
    (args.out / "table.json").write_text(json.dumps(plain) + "\n", encoding="utf-8")
    draw(curves, args.out / "gradient_by_lag.png")
    print(f"\n{text}\n{args.out}/gradient_by_lag.png")


if __name__ == "__main__":
    main()
