"""Gated PixelCNN: two stacks without a blind spot."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.layers.pixel.base import ConvSteps, Maps, PixelLayer, Stepper
from seqmodels.layers.pixel.masked import MaskedConv, PointMap, odd_kernel


class GatedPixelCNN(PixelLayer):
    """A layer of Gated PixelCNN.

        a_v = W_v * v                       all of the rows from ⌊k/2⌋ above to its own
        v'  = tanh(a_v[: H]) · σ(a_v[H :])
        a_h = W_h * x + W_↓ shift(a_v)      1×k with mask B; the vertical part of the row above
        u   = W_u (tanh(a_h[: H]) · σ(a_h[H :]))

    The vertical stack knows whole rows, so its result goes to the pixels of the row below: together
    the two see every pixel within their reach, without the blind spot of PixelCNN.

    Args:
        hidden_size, groups: see `PixelLayer`.
        kernel_size: k, odd.

    References: van den Oord et al., "Conditional image generation with PixelCNN decoders", NIPS
    2016, https://arxiv.org/abs/1606.05328, figure 2. There the vertical maps have no residual
    connection either.
    """

    vertical = True

    def __init__(self, hidden_size: int, groups: int, *, kernel_size: int = 3) -> None:
        super().__init__(hidden_size, groups)
        odd_kernel("GatedPixelCNN: kernel_size", kernel_size, least=3)
        twice = self.narrow.repeat(2)
        rows = kernel_size // 2 + 1
        self.down = MaskedConv(self.narrow, twice, kernel=(rows, kernel_size), mask="rows")
        self.across = MaskedConv(self.wide, twice, kernel=(1, kernel_size), mask="B")
        self.link = PointMap(torch.zeros_like(twice), twice)  # of earlier rows: every group
        self.expand = PointMap(self.narrow, self.wide)

    def forward(self, maps: Maps) -> Maps:
        assert maps.v is not None
        vertical = self.down(maps.v)  # (B, R, W, 2H)
        above = functional.pad(vertical[:, :-1], (0, 0, 0, 0, 1, 0))
        linked = functional.linear(above, self.link.masked())
        # The first row has none above it: the link's bias is there all the same.
        horizontal = self.across(maps.x) + linked + self.link.bias
        return Maps(self.expand(_gated(horizontal)), _gated(vertical))

    def start(self, batch_size: int, width: int, like: Tensor) -> Stepper:
        return _Steps(self, batch_size, width, like)


def _gated(values: Tensor) -> Tensor:
    content, gate = values.chunk(2, dim=-1)
    return torch.tanh(content) * torch.sigmoid(gate)


class _Steps(Stepper):
    def __init__(self, layer: GatedPixelCNN, batch_size: int, width: int, like: Tensor) -> None:
        self.layer = layer
        self.across = ConvSteps(layer.across, batch_size, width, like)
        self.link = layer.link.masked(), layer.link.bias
        self.expand = layer.expand.masked(), layer.expand.bias
        kernel = layer.down.masked()
        self.kernel = kernel  # (2H, H, rows, columns)
        self.rows = like.new_zeros(batch_size, kernel.shape[2], width, kernel.shape[1])
        self.linked = layer.link.bias.expand(batch_size, width, -1)

    def row(self, v: Tensor | None) -> Tensor | None:
        self.across.row()
        if v is None:
            return None
        self.rows = torch.cat((self.rows[:, 1:], v.unsqueeze(1)), 1)  # (B, rows, W, H)
        reach = self.layer.down.reach
        maps = functional.pad(self.rows.permute(0, 3, 1, 2), (reach, reach))
        vertical = functional.conv2d(maps, self.kernel, self.layer.down.bias)  # (B, 2H, 1, W)
        vertical = vertical.squeeze(2).transpose(1, 2)  # (B, W, 2H)
        self.linked = functional.linear(vertical, *self.link)
        return _gated(vertical)

    def pixel(self, column: int, x: Tensor) -> Tensor:
        horizontal = self.across.pixel(column, x) + self.linked[:, column]
        return functional.linear(_gated(horizontal), *self.expand)
