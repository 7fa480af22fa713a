"""The last step of a run is validated, whatever the interval of validations is."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl


class FinalValidation(pl.Callback):
    """Asks Lightning to stop after the last step, which makes it validate first."""

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
        last_step = 0 < loop.max_steps <= trainer.global_step
        epochs = trainer.max_epochs
        last_epoch = epochs is not None and 0 < epochs <= trainer.current_epoch + 1
        if last_step or (last_epoch and loop.batch_progress.is_last_batch):
            trainer.should_stop = True
