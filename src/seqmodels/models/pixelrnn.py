"""PixelRNN: images pixel by pixel, with their exact likelihood."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.layers.pixel import MaskedConv, PixelStack, PointMap, channel_groups
from seqmodels.layers.pixel.base import Maps
from seqmodels.layers.pixel.masked import odd_kernel

Likelihood = Literal["categorical", "bernoulli"]
MOST_LEVELS = 256
NOT_OVER_IMAGES = (
    "model=pixelrnn takes layers over images: model/layers=row_lstm, diagonal_bilstm, pixelcnn, "
    "gated_pixelcnn or mixed_pixel_layers"
)


class PixelRNN(nn.Module):
    """p(x) = Π_i p(x_i | x_1 … x_{i-1}): pixels in raster order, and in each its colour channels.

        x_0 = K * v                        7×7 with mask A, v the pixels' values in [−1, 1]
        y = layers(x_0)                    see `PixelStack`
        o = W₂ relu(W₁ relu(y))            1×1 with mask B
        p(x_i = l) = softmax(o_i)_l

    Since pixels have finitely many levels, this is the probability of the image itself: nothing is
    dequantised, and no bound is involved.

    Args:
        channels: C, 1 or 3 as a rule (supplied by the data).
        height, width: R, W (supplied by the data).
        levels: L, 2 to 256, values of a channel (supplied by the data).
        num_classes: of the images, 0 without (supplied by the data).
        layers: called with (groups) and gives the `PixelStack`.
        kernel_size: of the first convolution, odd.
        likelihood: "categorical": L scores a channel; "bernoulli": one, for images of two levels.
        independent_channels: the channels of a pixel do not see each other, p = Π_c p(x_{i,c} |
            pixels before i).
        conditional: the class is given, p(x | class): a vector for each class is added to x_0 and
            to the first vertical maps.

    Shapes: images (B, C, R, W) int64 in 0 … L − 1, labels (B,) int64 -> logits (B, C, R, W, L).

    References: van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel recurrent neural networks", ICML
    2016, https://arxiv.org/abs/1601.06759; classes after van den Oord et al., "Conditional image
    generation with PixelCNN decoders", NIPS 2016, https://arxiv.org/abs/1606.05328, where every
    layer adds a vector of its own.

    >>> import torch
    >>> from functools import partial
    >>> from seqmodels.layers.pixel import PixelCNN
    >>> layers = partial(PixelStack, layer=PixelCNN, hidden_size=4, num_layers=2)
    >>> model = PixelRNN(1, 6, 5, 2, layers=layers)
    >>> images = torch.zeros(3, 1, 6, 5, dtype=torch.int64)
    >>> tuple(model(images).shape), tuple(model.log_likelihood(images).shape)
    ((3, 1, 6, 5, 2), (3,))
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        levels: int,
        num_classes: int = 0,
        *,
        layers: Callable[[int], PixelStack],
        kernel_size: int = 7,
        likelihood: Likelihood = "categorical",
        independent_channels: bool = False,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        if not 2 <= levels <= MOST_LEVELS:
            raise ValueError(f"levels must lie in 2 … {MOST_LEVELS}, got {levels}")
        if likelihood == "bernoulli" and levels != 2:
            raise ValueError(f"likelihood=bernoulli takes images of 2 levels, not of {levels}")
        if conditional and num_classes < 1:
            raise ValueError("conditional=true needs images with classes, and these have none")
        odd_kernel("PixelRNN: kernel_size", kernel_size, least=3)
        self.shape = (channels, height, width)
        self.levels, self.likelihood = levels, likelihood
        self.num_classes = num_classes if conditional else 0
        groups = 1 if independent_channels else channels
        try:
            inspect.signature(layers).bind(groups)
        except TypeError:
            raise ValueError(NOT_OVER_IMAGES) from None
        self.stack = layers(groups)
        if not isinstance(self.stack, PixelStack):
            raise ValueError(f"{NOT_OVER_IMAGES}, not {type(self.stack).__name__}")
        features = self.stack.features
        values = channel_groups(channels, groups)  # the channels themselves
        wide = channel_groups(features, groups)
        rows = kernel_size // 2 + 1
        self.first = MaskedConv(values, wide, kernel=(rows, kernel_size), mask="A")
        self.first_rows: MaskedConv | None = None
        if self.stack.vertical:
            narrow = channel_groups(self.stack.hidden_size, groups)
            self.first_rows = MaskedConv(values, narrow, kernel=(rows, kernel_size), mask="rows")
        self.classes: nn.Embedding | None = None
        self.classes_rows: nn.Embedding | None = None
        if conditional:
            self.classes = nn.Embedding(num_classes, features)
            if self.stack.vertical:
                self.classes_rows = nn.Embedding(num_classes, self.stack.hidden_size)
        self.hidden = PointMap(wide, wide)
        scores = 1 if likelihood == "bernoulli" else levels
        self.scores = PointMap(wide, values.repeat_interleave(scores))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        self.check(images, labels)
        return self.logits(self.values(images), labels)

    def values(self, images: Tensor) -> Tensor:
        """Levels as numbers: (B, C, R, W) -> (B, R, W, C) in [−1, 1], of the weights' dtype."""
        numbers = images.permute(0, 2, 3, 1).to(self.hidden.weight.dtype)
        return numbers * (2.0 / (self.levels - 1)) - 1.0

    def logits(self, values: Tensor, labels: Tensor | None = None) -> Tensor:
        """From the pixels' values (B, R, W, C) to log-probabilities up to a constant."""
        width = values.shape[2]
        values = functional.pad(values, (0, 0, 0, self.stack.beyond))
        x = self.first(values)  # (B, R, W, 2H), with the columns beyond the image
        v = None if self.first_rows is None else self.first_rows(values)  # (B, R, W, H)
        if self.classes is not None:
            x = x + self.classes(labels)[:, None, None]
            if self.classes_rows is not None:
                v = v + self.classes_rows(labels)[:, None, None]
        y = self.stack(Maps(x, v))[:, :, :width]
        return self.read_out(y).permute(0, 3, 1, 2, 4)

    def read_out(self, y: Tensor) -> Tensor:
        """(…, 2H) -> (…, C, L)."""
        hidden = functional.relu(self.hidden(functional.relu(y)))
        scores: Tensor = self.scores(hidden).unflatten(-1, (self.shape[0], -1))
        # Level 0 has the score 0: the sigmoid of the other's.
        return functional.pad(scores, (1, 0)) if self.likelihood == "bernoulli" else scores

    def log_likelihood(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B,): ln p of every image, in nats."""
        logits = self.forward(images, labels)
        chosen = functional.log_softmax(logits, -1).gather(-1, images.unsqueeze(-1))
        return chosen.squeeze(-1).flatten(1).sum(1)

    def check(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Refuse images and labels that are not of this model.

        Raises:
            ValueError: the size, number of channels, type, levels or classes are others.
        """
        channels, height, width = self.shape
        if (
            images.dim() != 4
            or tuple(images.shape[1:]) != self.shape
            or images.dtype != torch.int64
        ):
            raise ValueError(
                f"expected images of {width} × {height} pixels and {channels} channel(s), "
                f"(B, {channels}, {height}, {width}) int64, got {tuple(images.shape)} "
                f"{images.dtype}"
            )
        least, most = (int(v) for v in torch.aminmax(images))
        if least < 0 or most >= self.levels:
            raise ValueError(
                f"expected levels 0 … {self.levels - 1}, got levels from {least} to {most}"
            )
        self.check_labels(labels, len(images))

    def check_labels(self, labels: Tensor | None, count: int) -> None:
        """Refuse what are no classes for so many images."""
        if not self.num_classes:
            return
        if labels is None:
            raise ValueError(
                f"the model is given the class of an image, 0 … {self.num_classes - 1}: pass labels"
            )
        if labels.shape != (count,) or labels.dtype != torch.int64:
            raise ValueError(
                f"expected labels ({count},) int64, got {tuple(labels.shape)} {labels.dtype}"
            )
        least, most = (int(v) for v in torch.aminmax(labels))
        if least < 0 or most >= self.num_classes:
            raise ValueError(f"expected classes 0 … {self.num_classes - 1}, got {least} to {most}")
