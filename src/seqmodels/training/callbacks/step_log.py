"""Logs what the training steps did, every so many steps, with the speed."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl

from seqmodels.data.base import SequenceBatch
from seqmodels.training.task import SequenceTask


class StepLog(pl.Callback):
    """Means over the steps since the last log: loss, gradient norm, clipped share, tokens/s.

    The speed is that of whole steps, with everything between them, checkpoints too; validation is
    left out.

    Args:
        every_n_steps: distance of two logged steps.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be >= 1, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._tokens = 0
        self._seconds = 0.0
        self._running_since: float | None = None
        self._logged_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SequenceTask)
        self._logged_step = trainer.global_step
        pl_module.record_metrics = lambda values: self._write(trainer, values)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._running_since is None:
            self._running_since = time.perf_counter()

    def _pause(self) -> None:
        if self._running_since is not None:
            self._seconds += time.perf_counter() - self._running_since
            self._running_since = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._pause()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: SequenceBatch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, SequenceTask)
        self._tokens += batch.inputs.shape[0] * batch.inputs.shape[1] * pl_module.team.size
        step = trainer.global_step
        if step != self._logged_step and step % self.every_n_steps == 0:
            self._log(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SequenceTask)
        if not pl_module.window_empty:
            self._log(trainer, pl_module)

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SequenceTask)
        values = pl_module.take_window()
        went_on = self._running_since is not None
        self._pause()
        if went_on:
            self._running_since = time.perf_counter()
        if self._seconds > 0:
            values["time/tokens_per_second"] = self._tokens / self._seconds
        self._tokens, self._seconds = 0, 0.0
        self._logged_step = trainer.global_step
        self._write(trainer, values)

    def _write(self, trainer: pl.Trainer, values: Any) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, trainer.global_step)
