"""Drawing images from a pixel model, and completing them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.layers.pixel.base import ConvSteps
from seqmodels.models.pixelrnn import PixelRNN


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Levels from softmax(logits / temperature) by the inverse of its distribution function.

    Args:
        logits: (B, L).
        uniform: (B,) in [0, 1).
        temperature: >= 0; 0 takes the likeliest level.

    Returns:
        (B,) int64.
    """
    if temperature == 0.0:
        return logits.argmax(-1)
    reached = (logits / temperature).softmax(-1).cumsum(-1)  # (B, L)
    # Rounding may leave the last sum below 1.
    return (reached <= uniform.unsqueeze(-1)).sum(-1).clamp(max=logits.shape[-1] - 1)


@torch.no_grad()
def sample_images(
    model: PixelRNN,
    count: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    given: Tensor | None = None,
    keep: Tensor | None = None,
    incremental: bool = True,
) -> Tensor:
    """Draws images, or completes them, pixel by pixel in raster order.

    Every layer holds what later pixels need of the earlier ones (rows of states, of features), so
    that each pixel is computed once, and once for each further channel. The global random generator
    is not touched.

    Args:
        model: any.
        count: B >= 1 images.
        seed: of the random numbers, one for each image, pixel and channel, in that order of pixels.
        temperature: >= 0; below 1 the likelier levels become likelier still.
        labels: (B,) int64, where the model is given classes.
        given: (B, C, R, W) int64, images to be completed.
        keep: (R, W) or (B, R, W) bool: pixels that are taken from `given`.
        incremental: False computes the whole image anew for every channel of every pixel, as one
            who has only `model(images)` must.

    Returns:
        (B, C, R, W) int64.

    Raises:
        ValueError: a setting out of its range, or of another shape.
    """
    _check(model, count, temperature, labels, given, keep)
    like = model.hidden.weight
    channels, height, width = model.shape
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(height, width, channels, count, generator=generator, dtype=torch.float64)
    uniform = uniform.to(like.device)
    images = torch.zeros(count, *model.shape, dtype=torch.int64, device=like.device)
    fixed = None
    if given is not None and keep is not None:
        fixed = keep.to(like.device).expand(count, height, width)
        images = torch.where(fixed.unsqueeze(1), given.to(like.device), images)
    was_training = model.training
    model.eval()
    try:
        steps = _Pixels(model, count, labels) if incremental else None
        for row in range(height):
            if steps is not None:
                steps.row(model.values(images[:, :, row - 1 : row]) if row else None)
            for column in range(width):
                if fixed is not None and steps is None and bool(fixed[:, row, column].all()):
                    continue
                for channel in range(channels):
                    if steps is not None:
                        logits = steps.pixel(column, images[:, :, row, column])[:, channel]
                    else:
                        logits = model(images, labels)[:, channel, row, column]
                    level = draw(logits.double(), uniform[row, column, channel], temperature)
                    if fixed is not None:
                        old = images[:, channel, row, column]
                        level = torch.where(fixed[:, row, column], old, level)
                    images[:, channel, row, column] = level
                if steps is not None:
                    steps.done(column, images[:, :, row, column])
        return images
    finally:
        model.train(was_training)


class _Pixels:
    """The whole model, pixel by pixel."""

    def __init__(self, model: PixelRNN, count: int, labels: Tensor | None) -> None:
        self.model = model
        like = model.hidden.weight
        self.beyond = model.stack.beyond
        width = model.shape[2] + self.beyond
        self.scale = 2.0 / (model.levels - 1)
        self.first = ConvSteps(model.first, count, width, like)
        self.stack = model.stack.start(count, width, like)
        self.classes = self.classes_rows = None
        if model.classes is not None:
            assert labels is not None
            labels = labels.to(like.device)
            self.classes = model.classes(labels)
            if model.classes_rows is not None:
                self.classes_rows = model.classes_rows(labels)
        if model.first_rows is not None:
            kernel = model.first_rows.masked()
            self.kernel = kernel
            self.rows = like.new_zeros(count, kernel.shape[2], width, kernel.shape[1])
        own, weights = model.hidden, model.scores
        self.hidden = own.masked(), own.bias
        self.scores = weights.masked(), weights.bias

    def row(self, above: Tensor | None) -> None:
        """Begin the next row; above (B, 1, W, C): the values of the row above."""
        if above is not None:
            self._pass_beyond(above)
            above = functional.pad(above, (0, 0, 0, self.beyond))
        self.first.row()
        v = None
        if above is not None and self.model.first_rows is not None:
            conv = self.model.first_rows
            self.rows = torch.cat((self.rows[:, 1:], above), 1)
            maps = functional.pad(self.rows.permute(0, 3, 1, 2), (conv.reach, conv.reach))
            found = functional.conv2d(maps, self.kernel, conv.bias)  # (B, H, 1, W)
            v = found.squeeze(2).transpose(1, 2)  # (B, W, H)
            if self.classes_rows is not None:
                v = v + self.classes_rows.unsqueeze(1)
        self.stack.row(v)

    def _pass_beyond(self, above: Tensor) -> None:
        """The columns that the maps of the row above have to the right of the image."""
        for column in range(above.shape[2], above.shape[2] + self.beyond):
            self._features(column, torch.zeros_like(above[:, 0, 0]))

    def _features(self, column: int, values: Tensor) -> Tensor:
        """values (B, C) -> (B, 2H)."""
        x = self.first.pixel(column, values)
        return self.stack.pixel(column, x if self.classes is None else x + self.classes)

    def pixel(self, column: int, levels: Tensor) -> Tensor:
        """levels (B, C), as far as they are known -> logits (B, C, L)."""
        y = self._features(column, self.values(levels))
        hidden = functional.relu(functional.linear(functional.relu(y), *self.hidden))
        scores = functional.linear(hidden, *self.scores)
        scores = scores.view(*levels.shape, -1)  # (B, C, L), or 1 in the place of L
        return functional.pad(scores, (1, 0)) if self.model.likelihood == "bernoulli" else scores

    def done(self, column: int, levels: Tensor) -> None:
        """All channels of the pixel are known: later pixels read them."""
        self.first.rows[:, -1, column + self.first.reach] = self.values(levels)

    def values(self, levels: Tensor) -> Tensor:
        return levels.to(self.first.bias.dtype) * self.scale - 1.0


def _check(
    model: PixelRNN,
    count: int,
    temperature: float,
    labels: Tensor | None,
    given: Tensor | None,
    keep: Tensor | None,
) -> None:
    if count < 1:
        raise ValueError(f"expected at least one image, got {count}")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature: expected a number >= 0, got {temperature}")
    if (given is None) != (keep is None):
        raise ValueError("images are completed from `given` and `keep` together")
    if given is not None and keep is not None:
        model.check(given, labels)
        size = model.shape[1:]
        if len(given) != count:
            raise ValueError(f"expected {count} images to complete, got {len(given)}")
        if keep.dtype != torch.bool or tuple(keep.shape) not in (size, (count, *size)):
            raise ValueError(
                f"expected a mask of shape {size} or {(count, *size)} and torch.bool, got "
                f"{tuple(keep.shape)} {keep.dtype}"
            )
    else:
        model.check_labels(labels, count)
