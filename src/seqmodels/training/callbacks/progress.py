"""What a person sees while a run goes on."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqmodels.errors import short
from seqmodels.training.schedules import Horizon
from seqmodels.training.task import SequenceTask


class ProgressDisplay(pl.Callback):
    """A bar on a terminal; elsewhere (a file, a pipe) one line at each validation.

    Args:
        refresh_per_second: of the bar.
    """

    def __init__(self, *, refresh_per_second: float = 4.0) -> None:
        if not refresh_per_second > 0:
            raise ValueError(f"refresh_per_second must be positive, got {refresh_per_second}")
        self.console = Console(stderr=True)
        self.refresh_per_second = refresh_per_second
        self._progress: Progress | None = None
        self._task: Any = None
        self._shown = 0.0
        self._started = 0.0
        self._validated = ""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()
        if not self.console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            refresh_per_second=self.refresh_per_second,
        )
        self._progress.start()
        assert isinstance(pl_module, SequenceTask)
        known = Horizon.of(trainer, pl_module.batches_per_epoch).total_steps
        self._task = self._progress.add_task(
            "training", total=known, completed=trainer.global_step, numbers=""
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        now = time.monotonic()
        if self._progress is None or now - self._shown < 1.0 / self.refresh_per_second:
            return
        self._shown = now
        assert isinstance(pl_module, SequenceTask)
        self._progress.update(
            self._task,
            completed=trainer.global_step,
            description=f"epoch {trainer.current_epoch + 1}",
            numbers=f"train {short(pl_module.epoch_loss)} {self._validated}",
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._progress is not None and trainer.state.fn == "fit":
            self._progress.update(self._task, description="validating")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            return
        loss = trainer.callback_metrics.get("val/loss")
        self._validated = "" if loss is None else f"val {short(float(loss))}"
        if self._progress is None:
            assert isinstance(pl_module, SequenceTask)
            elapsed = time.monotonic() - self._started
            print(
                f"step {trainer.global_step}  epoch {trainer.current_epoch + 1}  "
                f"train {short(pl_module.epoch_loss)}  {self._validated}  {elapsed:.0f} s",
                file=self.console.file,
                flush=True,
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=trainer.global_step)
            self._progress.stop()
            self._progress = None
