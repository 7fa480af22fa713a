"""Tells a search how a run goes after each validation, and stops it where the search says so."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl

from seqmodels.training.interruption import InterruptedRunError

PRUNED = "pruned"  # how the reason of such a run begins


class PrunedError(InterruptedRunError):
    """A search found the run not worth its time."""


class TrialReport(pl.Callback):
    """Reports a validation metric and ends the run where it falls behind.

    Args:
        metric: such as val/loss.
        tell: called with (optimiser steps so far, value); True: stop.

    Raises:
        ValueError: the metric is not among those of the validation.
    """

    def __init__(self, metric: str, tell: Callable[[int, float], bool]) -> None:
        self.metric = metric
        self.tell = tell

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.metric not in trainer.callback_metrics:
            names = sorted(n for n in trainer.callback_metrics if n.startswith("val/"))
            raise ValueError(
                f"the validation has no metric {self.metric!r}; it has {', '.join(names)}"
            )
        value = float(trainer.callback_metrics[self.metric])
        last = 0 < trainer.max_steps <= trainer.global_step
        if self.tell(trainer.global_step, value) and not last:
            raise PrunedError(f"{PRUNED} after step {trainer.global_step}: {value:.6g}")
