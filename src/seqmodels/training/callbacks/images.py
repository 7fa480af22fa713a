"""Images that a model draws and completes while it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from seqmodels.analysis.image_grid import grid, write_png
from seqmodels.models import PixelRNN, sample_images
from seqmodels.models.pixel_masks import keep_mask
from seqmodels.training.pixels import PixelLikelihood
from seqmodels.training.recording import TensorBoard


class SampleImages(pl.Callback):
    """After each validation, images on TensorBoard: drawn ones, and validation images completed.

    When training ends they are `samples.png` and `completions.png` in the run directory, too. A
    completion shows the image, what of it was given, and what the model made of that.

    Args:
        num_images: drawn, and half as many completed.
        temperature: see `seqmodels.models.sample_images`.
        keep: the part that is given; see `seqmodels.models.pixel_masks.keep_mask`.
        seed: the same at every validation, so that the images can be compared.
    """

    first_process_only = True

    def __init__(
        self,
        *,
        num_images: int = 16,
        temperature: float = 1.0,
        keep: str = "top_half",
        seed: int = 0,
    ) -> None:
        if isinstance(num_images, bool) or not isinstance(num_images, int) or num_images < 2:
            raise ValueError(f"callbacks.images.num_images must be >= 2, got {num_images!r}")
        if not 0.0 <= temperature < float("inf"):
            raise ValueError(f"callbacks.images.temperature must be >= 0, got {temperature}")
        keep_mask(keep, 4, 4)  # says what is wrong with the name
        self.num_images, self.temperature = num_images, temperature
        self.keep, self.seed = keep, seed
        self._shown: dict[str, np.ndarray] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        if trainer.state.fn != "fit" or not isinstance(pl_module, PixelLikelihood):
            return
        if not boards:
            return
        self._draw(pl_module)
        for board in boards:
            for name, picture in self._shown.items():
                step = trainer.global_step
                board.experiment.add_image(name, picture, step, dataformats="HWC")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, PixelLikelihood):
            return
        self._draw(pl_module)
        for name, picture in self._shown.items():
            write_png(picture, Path(trainer.default_root_dir) / f"{name}.png")

    def _draw(self, task: PixelLikelihood) -> None:
        model, data = task.model, task.data
        assert isinstance(model, PixelRNN)
        settings: dict[str, Any] = {"seed": self.seed, "temperature": self.temperature}
        labels = None
        if model.num_classes:
            labels = torch.arange(self.num_images) % model.num_classes
        drawn = sample_images(model, self.num_images, labels=labels, **settings)
        loader = data.valid_loader() or data.train_loader()
        batch = next(iter(loader))
        count = min(self.num_images // 2, len(batch.inputs))
        given, classes = batch.inputs[:count], batch.targets[:count]
        keep = keep_mask(self.keep, *model.shape[1:], seed=self.seed)
        completed = sample_images(
            model, count, given=given, keep=keep,
            labels=classes if model.num_classes else None, **settings,
        )  # fmt: skip
        columns = min(8, self.num_images)
        self._shown = {
            "samples": grid(drawn, model.levels, columns),
            "completions": completion_grid(given, [completed], keep, model.levels),
        }


def completion_grid(
    given: Tensor, completed: list[Tensor], keep: Tensor, levels: int
) -> np.ndarray:
    """A column for each image: as it was, what of it was given, and how it was completed."""
    count = len(given)
    rows = torch.cat([given.cpu(), given.cpu(), *(each.cpu() for each in completed)])
    missing = torch.zeros(len(rows), *keep.shape, dtype=torch.bool)
    missing[count : 2 * count] = ~keep
    return grid(rows, levels, count, missing)
