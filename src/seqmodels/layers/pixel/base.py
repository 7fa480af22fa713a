"""What a layer of a pixel model is: from maps to maps, and pixel by pixel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.layers.pixel.masked import MaskedConv, channel_groups


class Maps(NamedTuple):
    """What goes from layer to layer.

    x: (B, R, W, 2H). A feature of group c knows the pixels before its own and, of its own, the
    channels before c.
    v: (B, R, W, H), which knows its own row and those above, where a layer has a vertical stack.
    """

    x: Tensor
    v: Tensor | None


class PixelLayer(nn.Module, ABC):
    """A branch of a pixel model: what is added to the maps that it reads.

    Args:
        hidden_size: H; maps have 2H features.
        groups: how many colour channels depend on each other.

    Attributes:
        vertical: whether it reads and moves the vertical maps.
        beyond: how many columns to the right of the image its maps should have.
    """

    vertical: bool = False
    beyond: int = 0

    def __init__(self, hidden_size: int, groups: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.wide = channel_groups(2 * hidden_size, groups)  # of the maps
        self.narrow = channel_groups(hidden_size, groups)  # of what is within the layer

    @abstractmethod
    def forward(self, maps: Maps) -> Maps:
        """The branch u (B, R, W, 2H) in the place of x, and the next layer's vertical maps."""

    @abstractmethod
    def start(self, batch_size: int, width: int, like: Tensor) -> Stepper:
        """The same branch for images that are known up to a pixel only."""


class Stepper(ABC):
    """A layer that is run pixel by pixel, and holds what later pixels need of the earlier ones.

    Rows go downwards and pixels from left to right. `pixel` may be called again for the same place,
    with the features of later channels now known: the last call counts.
    """

    @abstractmethod
    def row(self, v: Tensor | None) -> Tensor | None:
        """Begin the next row; v (B, W, H): the vertical maps of the row above, None for the first.

        Returns:
            The vertical maps of the row above for the next layer; None where there are none.
        """

    @abstractmethod
    def pixel(self, column: int, x: Tensor) -> Tensor:
        """The branch at a pixel: (B, 2H) -> (B, 2H)."""


class ConvSteps:
    """A `MaskedConv` row by row and pixel by pixel.

    Args:
        conv: the convolution; its weights are read once, now.
        batch_size, width, like: of the maps.
    """

    def __init__(self, conv: MaskedConv, batch_size: int, width: int, like: Tensor) -> None:
        weight = conv.masked()
        outputs, inputs = weight.shape[:2]
        self.reach, self.bias = conv.reach, conv.bias
        self.upper = weight[:, :, :-1]  # (O, I, above, columns)
        own = weight[:, :, -1, : self.reach + 1]  # what lies further on is masked
        self.own = own.transpose(1, 2).reshape(outputs, -1)  # (O, (reach + 1)·I)
        columns = width + 2 * self.reach
        self.rows = like.new_zeros(batch_size, conv.above + 1, columns, inputs)
        self.from_above = self.bias.expand(batch_size, width, outputs)
        self.began = False

    def row(self) -> None:
        """Go on to the next row, and add up what the rows above give to it."""
        if self.began:
            self.rows = torch.cat((self.rows[:, 1:], torch.zeros_like(self.rows[:, :1])), 1)
        self.began = True
        if self.rows.shape[1] > 1:
            maps = self.rows[:, :-1].permute(0, 3, 1, 2)  # (B, I, above, columns)
            found = functional.conv2d(maps, self.upper, self.bias)  # (B, O, 1, W)
            self.from_above = found.squeeze(2).transpose(1, 2)  # (B, W, O)

    def pixel(self, column: int, x: Tensor) -> Tensor:
        """The result at a pixel of this row: (B, I) -> (B, O)."""
        own = self.rows[:, -1]
        own[:, column + self.reach] = x
        seen = own[:, column : column + self.reach + 1].flatten(1)
        return self.from_above[:, column] + functional.linear(seen, self.own)
