"""The learning curves of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl


class Curves(pl.Callback):
    """Draws `curves.png` into the run directory when training ends.

    Args:
        baselines: draw the losses of the data's simple models as lines.
    """

    first_process_only = True

    def __init__(self, *, baselines: bool = True) -> None:
        self.baselines = baselines

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        draw_curves(Path(trainer.default_root_dir), baselines=self.baselines)


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def column(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric, where it was logged and finite."""
    points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in points], [value for _, value in points]


def draw_curves(run_dir: Path, *, baselines: bool = True) -> Path:
    """Loss, gradient norm with the clipped share, and learning rate over the steps."""
    # Not pyplot: it would choose a window system and keep global state.
    from matplotlib.figure import Figure

    rows = read_metrics(run_dir)
    figure = Figure(figsize=(9, 7), layout="constrained")
    loss, gradient, rate = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.5, 1]}
    )
    loss.plot(*column(rows, "train/loss"), color="tab:blue", alpha=0.6, label="training")
    loss.plot(*column(rows, "val/loss"), color="tab:orange", marker="o", ms=4, label="validation")
    if baselines:
        record = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
        styles = (":", "--", "-.")
        for index, (name, value) in enumerate(record.get("baselines", {}).items()):
            style = styles[index % len(styles)]
            loss.axhline(value, color="gray", ls=style, lw=1, label=f"{name} ({value:.3f})")
    loss.set_ylabel("loss (nats)")
    loss.legend()
    loss.set_title(run_dir.name)
    gradient.plot(*column(rows, "gradient/norm"), color="tab:green")
    gradient.set_ylabel("gradient norm\nbefore clipping")
    gradient.set_yscale("log")
    share = gradient.twinx()
    share.plot(*column(rows, "gradient/clipped_share"), color="tab:red", alpha=0.4)
    share.set_ylabel("clipped share", color="tab:red")
    share.set_ylim(-0.02, 1.02)
    rate.plot(*column(rows, "train/learning_rate"), color="black")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    for axis in (loss, gradient, rate):
        axis.grid(alpha=0.3)
    path = run_dir / "curves.png"
    temporary = run_dir / ".curves.tmp.png"
    figure.savefig(temporary, dpi=120)
    temporary.replace(path)
    return path
