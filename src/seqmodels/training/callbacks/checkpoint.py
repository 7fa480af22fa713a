"""When checkpoints are written, and which are kept."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint as LightningCheckpoint

from seqmodels.training.checkpoints import BEST, LAST, PREVIOUS
from seqmodels.training.interruption import InterruptedRunError, StopRequest
from seqmodels.training.recording import RecordLogger


class Checkpoint(LightningCheckpoint):
    """Keeps `last.ckpt`, the one before it as `previous.ckpt`, and `best.ckpt` by `monitor`.

    Written after every validation, every `every_n_steps` updates, at the end, and when the run is
    asked to stop; always at the boundary of two steps, where it holds everything that the next step
    depends on. On a step with a validation it is written after that.

    Args:
        monitor: the metric that decides which is best.
        mode: whether lower ("min") or higher ("max") is better.
        every_n_steps: also between validations; null: only there.
    """

    def __init__(
        self,
        *,
        monitor: str = "val/loss",
        mode: str = "min",
        every_n_steps: int | None = 500,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be >= 1 or null, got {every_n_steps}")
        self.monitor = monitor
        self.mode = mode
        self.every_n_steps = every_n_steps
        self.stop: StopRequest | None = None  # set by the run
        self.config: dict[str, Any] = {}  # set by the run; travels in every checkpoint
        self.best_value: float | None = None
        self.best_step: int | None = None
        self._saved_step = -1

    # --- when -----------------------------------------------------------------------------------

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate():
            return
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        if trainer.enable_validation and loop._should_check_val_fx(fetcher):
            return  # after the validation
        stopping = self.stop is not None and self.stop.due is not None
        due = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if due or stopping:
            self._save(trainer)
        self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            raise ValueError(
                f"callbacks.checkpoint.monitor={self.monitor!r} is not among the metrics: "
                + ", ".join(sorted(trainer.callback_metrics))
            )
        improved = self._improves(float(value))
        if improved:
            self.best_value, self.best_step = float(value), trainer.global_step
        self._save(trainer, best=improved)
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._saved_step != trainer.global_step:
            self._save(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if self.stop is not None and self.stop.due is not None:
            raise InterruptedRunError(f"{self.stop.due} after step {trainer.global_step}")

    def _improves(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best_value is None:
            return True
        return value < self.best_value if self.mode == "min" else value > self.best_value

    # --- what -----------------------------------------------------------------------------------

    def directory(self, trainer: pl.Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints"

    def _save(self, trainer: pl.Trainer, *, best: bool = False) -> None:
        directory = self.directory(trainer)
        fresh = directory / ".new.ckpt"
        trainer.save_checkpoint(fresh)  # by all processes together; the first one writes
        self._saved_step = trainer.global_step
        if not trainer.is_global_zero:
            return
        # In this order: wherever a kill falls, there is a last checkpoint, and it never tells of a
        # best one that is not there yet. A best one that is ahead is written again in time.
        if best:  # a copy of its own: what damages the one leaves the other whole
            copy = directory / ".best.tmp"
            shutil.copyfile(fresh, copy)
            copy.replace(directory / BEST)
        last = directory / LAST
        if last.exists():
            _second_name(last, directory / PREVIOUS)
        fresh.replace(last)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["config"] = self.config
        rows = [each.rows for each in trainer.loggers if isinstance(each, RecordLogger)]
        checkpoint["metrics_rows"] = rows[0] if rows else None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # A run that had done its last step writes that step's checkpoint no second time.
        if trainer.ckpt_path is not None and Path(trainer.ckpt_path).name == LAST:
            self._saved_step = int(checkpoint["global_step"])

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_step = state_dict["best_step"]


def _second_name(file: Path, name: Path) -> None:
    """Puts `file` at `name` too, at once."""
    beside = name.with_name(".previous.tmp")
    beside.unlink(missing_ok=True)
    try:
        beside.hardlink_to(file)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, beside)
    beside.replace(name)
    beside.unlink(missing_ok=True)  # still there where both were names of one file already
