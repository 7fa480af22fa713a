"""Lightning's Trainer, set up for a run or for an evaluation."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.utils.deterministic
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loops.fit_loop import _FitLoop
from omegaconf import DictConfig

from seqmodels.commands.processes import ALONE, Place
from seqmodels.config import instantiate, step_limit
from seqmodels.runs import Record
from seqmodels.training.callbacks.checkpoint import Checkpoint
from seqmodels.training.callbacks.final_validation import FinalValidation
from seqmodels.training.callbacks.progress import ProgressDisplay
from seqmodels.training.callbacks.step_log import StepLog
from seqmodels.training.checkpoint_io import AtomicCheckpointIO
from seqmodels.training.interruption import StopRequest
from seqmodels.training.recording import RecordLogger

# Advice of Lightning's that does not apply: batches are slices of a tensor, steps are logged by us.
NOT_FOR_US = (
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"The '\w+' does not have many workers",
    r"Checkpoint directory .* exists and is not empty",
    r"You defined a `validation_step` but have no `val_dataloader`",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Using `DDPStrategy` .* during `trainer.test\(\)`",  # every process reads all of it
    r"It is recommended to use `self.log\(.*, sync_dist=True\)`",  # and finds the same
    r"You called `self.log\(.*\)` in your `on_(validation|test)_epoch_end` but have no logger",
)


def quiet_lightning() -> None:
    """Keeps Lightning's announcements and inapplicable advice away; its real warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOT_FOR_US:
        warnings.filterwarnings("ignore", message)


class FinishingFitLoop(_FitLoop):
    """Lightning's loop, which also ends a run that was killed after its last step.

    Lightning's own goes home at once where no step is left: what belongs to the end of a training
    (the last row, curves) would never be written.
    """

    @property
    def skip(self) -> bool:
        return self.trainer.limit_train_batches == 0

    def on_run_start(self) -> None:
        super().on_run_start()
        epochs: Any = self.epoch_progress
        unfinished = epochs.current.processed < epochs.current.ready
        if self.done and self.epoch_loop.batch_progress.is_last_batch and unfinished:
            # The last step was also an epoch's, whose end came after the checkpoint.
            epochs.increment_processed()
            epochs.increment_completed()


def build_trainer(
    cfg: DictConfig,
    plain: dict[str, Any],
    run_dir: Path,
    record: Record | None,
    *,
    stop: StopRequest,
    resume_step: int | None,
    place: Place = ALONE,
    strategy: Any = "auto",
) -> pl.Trainer:
    """The Trainer of a training run, with its loggers and callbacks.

    Of several processes all but the first do without what only shows or writes something.
    """
    leads = place.rank == 0
    quiet_lightning()
    t = cfg.trainer
    callbacks: list[pl.Callback] = [FinalValidation(), StepLog(t.log_every_n_steps)]
    if t.enable_progress_bar and leads:
        callbacks.append(ProgressDisplay())
    chosen = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    callbacks += [c for c in chosen if leads or not getattr(c, "first_process_only", False)]
    checkpoints = [c for c in callbacks if isinstance(c, Checkpoint)]
    for checkpoint in checkpoints:
        checkpoint.stop, checkpoint.config = stop, plain
    loggers: list[Logger] = [] if record is None else [RecordLogger(run_dir, record)]
    for node in cfg.logger.values() if leads else ():
        logger = instantiate(node)
        # A factory wants to know where the run is.
        loggers.append(
            logger(run_dir=run_dir, resume_step=resume_step)
            if node.get("_partial_", False)
            else logger
        )
    # An interval in batches counts on from epoch to epoch; a share belongs to its epoch.
    in_batches = isinstance(t.val_check_interval, int)
    # Deterministic operations need no cleared memory; clearing it costs some per cent of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    trainer = pl.Trainer(
        max_steps=step_limit(t),
        max_epochs=-1 if t.max_epochs is None else t.max_epochs,
        max_time=t.max_time,
        accelerator=t.accelerator,
        devices=t.devices,
        num_nodes=t.num_nodes,
        strategy=strategy,
        precision=t.precision,
        accumulate_grad_batches=t.accumulate_grad_batches,
        val_check_interval=t.val_check_interval,
        check_val_every_n_epoch=None if in_batches else 1,
        limit_train_batches=t.limit_train_batches,
        limit_val_batches=t.limit_val_batches,
        limit_test_batches=t.limit_test_batches,
        log_every_n_steps=t.log_every_n_steps,
        deterministic=t.deterministic,
        detect_anomaly=t.detect_anomaly,
        enable_progress_bar=False,  # ours is a callback
        enable_model_summary=False,
        enable_checkpointing=bool(checkpoints),
        num_sanity_val_steps=0,
        default_root_dir=run_dir,
        callbacks=callbacks,
        logger=loggers,
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
    )
    # Lightning answers SIGTERM, and Slurm's signal, by leaving where it stands, without a
    # checkpoint or with one of its own elsewhere. `stop` has them.
    trainer.fit_loop.__class__ = FinishingFitLoop
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
    return trainer


def _nothing() -> None:
    """In the place of what Lightning would do."""
