"""Images by their exact likelihood."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seqmodels.analysis.piece import Piece
from seqmodels.data.base import Loader, SequenceBatch
from seqmodels.models import PixelRNN
from seqmodels.training.clipping import Clip
from seqmodels.training.schedules import Schedule
from seqmodels.training.task import OptimizerFactory, SequenceTask, Stage, StepResult


class ImageData(Protocol):
    """What the task needs to know of its images; `seqmodels.data.pixels.PixelImages` is one."""

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def train_loader(self) -> Loader: ...

    def valid_loader(self) -> Loader | None: ...


class PixelLikelihood(SequenceTask):
    """−ln p(image), exact: the sum over pixels and channels of −ln p(x_i | what comes before it).

    The loss is its mean per value (a pixel's channel), so that rates and clipping do not depend on
    the size of the images. Reports the loss, `nats_per_image` = loss · C·R·W and `bits_per_dim` =
    loss / ln 2. Values have finitely many levels: there is no dequantisation.

    Args:
        model: a `PixelRNN`.
        optimizer, schedule, clip: see `SequenceTask`.
        data: images.

    Raises:
        ValueError: the model or the data is another; by the first step, the model's scores depend
            on the values that they predict or on later ones.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: ImageData,
    ) -> None:
        if not isinstance(model, PixelRNN):
            raise ValueError(
                f"task=pixels is for model=pixelrnn, and this model is a {type(model).__name__}"
            )
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            carry_state=False,
            batches_per_epoch=len(data.train_loader()),
        )
        self.data = data
        self.values = math.prod(data.shape)

    def on_train_start(self) -> None:
        super().on_train_start()
        batch = next(iter(self.data.train_loader()))
        assert isinstance(self.model, PixelRNN)
        refuse_leaks(self.model, batch.inputs[:1].to(self.device), batch.targets[:1])

    def step(self, batch: SequenceBatch, state: Any) -> StepResult:
        logits = self.model(batch.inputs, batch.targets)  # (B, C, R, W, L)
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), batch.inputs.flatten())
        count = torch.tensor(batch.inputs.numel(), device=loss.device)
        return StepResult(loss, count, None)

    def loss_at(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Of one pixel: outputs (B, C, L), targets (B, C)."""
        return nn.functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction="sum"
        )

    def piece(self, batch: SequenceBatch, *, sequences: int, steps: int) -> Piece:
        """Whole images and the loss of their last pixel, which may depend on all others."""
        images, labels = batch.inputs[:sequences], batch.targets[:sequences]
        pixels = images.shape[2] * images.shape[3]
        return Piece(images, images[:, :, -1, -1], pixels - 1, labels, apart=("",))

    def read(self, model: nn.Module, piece: Piece) -> Tensor:
        logits: Tensor = model(piece.inputs, piece.beside)  # (B, C, R, W, L)
        return logits.permute(0, 2, 3, 1, 4).flatten(1, 2)  # (B, R·W, C, L)

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        return {
            "loss": loss,
            "nats_per_image": loss * self.values,
            "bits_per_dim": loss / math.log(2.0),
        }


@torch.no_grad()
def refuse_leaks(model: PixelRNN, image: Tensor, label: Tensor, cuts: int = 6) -> None:
    """Change all values from some place on: the scores up to that place must stay the same.

    Args:
        image: (1, C, R, W). label: (1,).
        cuts: how many places are tried, spread over the image.

    Raises:
        ValueError: they do not.
    """
    channels, height, width = model.shape
    was_training = model.training
    model.eval()
    label = label.to(image.device)
    usual = _in_order(model(image, label))  # (N, L)
    room = 100 * torch.finfo(usual.dtype).eps * float(usual.abs().max())
    count = channels * height * width
    for place in sorted({(count - 1) * k // max(1, cuts - 1) for k in range(cuts)}):
        order = torch.arange(count, device=image.device).view(height, width, channels)
        later = order.permute(2, 0, 1) >= place  # (C, R, W)
        other = torch.where(later, (image + 1) % model.levels, image)
        moved = (_in_order(model(other, label)) - usual)[: place + 1].abs().max()
        if float(moved) > room:
            raise ValueError(
                f"the scores up to value {place} (in raster and channel order, from 0) change by "
                f"{float(moved):.2g} with the values from there on, which they predict: a layer "
                "lets them through"
            )
    model.train(was_training)


def _in_order(logits: Tensor) -> Tensor:
    return logits[0].permute(1, 2, 0, 3).flatten(0, 2)  # (C, R, W, L) -> (N, L)
