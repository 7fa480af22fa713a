"""Which class is taken for which, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
from torch import Tensor

from seqmodels.training.prediction import Classification
from seqmodels.training.recording import TensorBoard

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Confusion(pl.Callback):
    """After each validation on TensorBoard; when training ends, as `confusion.png` in the run too.

    Args:
        classes: most classes that are drawn.
    """

    first_process_only = True

    def __init__(self, *, classes: int = 40) -> None:
        if classes < 2:
            raise ValueError(f"callbacks.confusion.classes must be >= 2, got {classes}")
        self.classes = classes

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figure = self._drawn(pl_module) if trainer.state.fn == "fit" else None
        for logger in trainer.loggers:
            if figure is not None and isinstance(logger, TensorBoard):
                logger.experiment.add_figure("confusion", figure, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figure = self._drawn(pl_module)
        if figure is not None:
            folder = Path(trainer.default_root_dir)
            figure.savefig(folder / ".confusion.tmp.png", dpi=110)
            (folder / ".confusion.tmp.png").replace(folder / "confusion.png")

    def _drawn(self, task: pl.LightningModule) -> Figure | None:
        if not isinstance(task, Classification) or task.confusion is None:
            return None
        counts = task.confusion
        if not 2 <= len(counts) <= self.classes or int(counts.sum()) == 0:
            return None
        return confusion_picture(counts, task.class_names)


def confusion_picture(counts: Tensor, names: list[str]) -> Figure:
    """Counts (O, O) by true class (rows) and answer; the colour is the share of the row."""
    from matplotlib.figure import Figure

    size = max(4.0, min(12.0, 1.6 + 0.62 * len(names)))
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axis = figure.subplots()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    image = axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        for row, column in ((r, c) for r in range(len(names)) for c in range(len(names))):
            dark = float(shares[row, column]) > 0.5
            axis.text(
                column, row, f"{int(counts[row, column]):,}", ha="center", va="center",
                fontsize=8, color="white" if dark else "black",
            )  # fmt: skip
    short = [name if len(name) <= 16 else name[:15] + "…" for name in names]
    axis.set_xticks(range(len(names)), short, rotation=0 if len(names) <= 4 else 90)
    axis.set_yticks(range(len(names)), short)
    axis.set_xlabel("answer")
    axis.set_ylabel("true class")
    right = int(counts.diagonal().sum())
    axis.set_title(f"{right:,} of {int(counts.sum()):,} right", fontsize=10)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    return figure
