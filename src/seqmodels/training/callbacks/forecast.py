"""Forecasts beside the truth, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from seqmodels.data.series import SeriesData
from seqmodels.training.prediction import Regression
from seqmodels.training.recording import TensorBoard
from seqmodels.training.series_scores import VALID_BELOW, free_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Forecast(pl.Callback):
    """After the test of a model of series, `forecast.png` in the run directory and on TensorBoard.

    Above, the test series and what the model said of it, the true past at hand; below, where the
    data asks for it, one run on its own outputs and the error of all of them by step.

    Args:
        steps: of the test series that are shown.
    """

    first_process_only = True

    def __init__(self, *, steps: int = 300) -> None:
        if steps < 2:
            raise ValueError(f"steps must be >= 2, got {steps}")
        self.steps = steps

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, Regression) or not isinstance(pl_module.data, SeriesData):
            return
        if not pl_module.data.series("test"):
            return
        figure = forecast_picture(pl_module.model, pl_module.data, self.steps)
        figure.savefig(Path(trainer.default_root_dir) / "forecast.png", dpi=110)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoard):
                logger.experiment.add_figure("forecast", figure, trainer.global_step)


@torch.no_grad()
def forecast_picture(model: nn.Module, data: SeriesData, steps: int) -> Figure:
    from matplotlib.figure import Figure

    part = data.series("test")[0]
    like = next(p for p in model.parameters() if p.is_floating_point())
    shown = min(len(part.inputs), part.lead + steps)
    said, _ = model(torch.from_numpy(part.inputs[:shown]).to(like)[None])
    runs = free_runs(model, data)
    figure = Figure(figsize=(10, 3.4 if runs is None else 7), layout="constrained")
    rows = figure.subplots(1 if runs is None else 3, 1, squeeze=False)[:, 0]
    truth = part.targets[part.lead : shown]
    _lines(rows[0], truth, _numbers(said[0, part.lead :]), data)
    rows[0].set_title(f"{data.source.title}: the true past at hand", fontsize=10)
    if runs is not None:
        outputs, true = (_numbers(each) for each in runs)
        span = min(outputs.shape[1], max(steps, 50))
        _lines(rows[1], true[0, :span], outputs[0, :span], data)
        rows[1].set_title("on its own outputs, from the first start", fontsize=10)
        asked = np.concatenate([p.targets[p.lead :] for p in data.series("test")])
        deviation = np.sqrt(np.square(asked - asked.mean(0)).sum(1).mean())
        errors = np.sqrt(np.square(outputs - true).sum(2)) / deviation  # (N, S)
        count = np.arange(1, errors.shape[1] + 1)
        rows[2].semilogy(count, errors.T, color="tab:blue", lw=0.6, alpha=0.4)
        rows[2].semilogy(count, np.median(errors, 0), color="black", lw=1.5, label="median")
        rows[2].axhline(VALID_BELOW, color="tab:red", ls=":", label=f"{VALID_BELOW}: valid below")
        rows[2].set_title(
            f"error of {len(errors)} starts, in deviations of the series", fontsize=10
        )
        rows[2].set_xlabel("steps ahead")
        rows[2].legend(fontsize=8, loc="lower right")
        rows[2].grid(alpha=0.3)
    rows[0].legend(fontsize=8, loc="upper right")
    return figure


def _numbers(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()


def _lines(axis: object, truth: np.ndarray, said: np.ndarray, data: SeriesData) -> None:
    for column in range(min(3, truth.shape[1])):
        name = data.source.names[column] if column < len(data.source.names) else str(column)
        (line,) = axis.plot(truth[:, column], lw=2.2, alpha=0.45, label=f"{name}, true")  # type: ignore[attr-defined]
        axis.plot(said[:, column], lw=0.9, color=line.get_color(), ls="--", label=f"{name}, said")  # type: ignore[attr-defined]
    axis.set_xlim(0, len(truth) - 1)  # type: ignore[attr-defined]
    axis.grid(alpha=0.3)  # type: ignore[attr-defined]
