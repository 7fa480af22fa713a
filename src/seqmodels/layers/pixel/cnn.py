"""PixelCNN: a convolution with a small field of view."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from seqmodels.layers.pixel.base import ConvSteps, Maps, PixelLayer, Stepper
from seqmodels.layers.pixel.masked import MaskedConv, PointMap, odd_kernel


class PixelCNN(PixelLayer):
    """The residual block of PixelCNN.

        u = W₃ relu(W₂ * relu(W₁ relu(x)))

    W₁: 2H -> H and W₃: H -> 2H at every pixel, W₂: a k×k convolution, all with mask B.

    Args:
        hidden_size, groups: see `PixelLayer`.
        kernel_size: k, odd.

    References: van den Oord et al., "Pixel recurrent neural networks", ICML 2016,
    https://arxiv.org/abs/1601.06759, figure 5.
    """

    def __init__(self, hidden_size: int, groups: int, *, kernel_size: int = 3) -> None:
        super().__init__(hidden_size, groups)
        odd_kernel("PixelCNN: kernel_size", kernel_size, least=3)
        self.reduce = PointMap(self.wide, self.narrow)
        rows = kernel_size // 2 + 1
        self.conv = MaskedConv(self.narrow, self.narrow, kernel=(rows, kernel_size), mask="B")
        self.expand = PointMap(self.narrow, self.wide)

    def forward(self, maps: Maps) -> Maps:
        hidden = functional.relu(self.reduce(functional.relu(maps.x)))  # (B, R, W, H)
        return Maps(self.expand(functional.relu(self.conv(hidden))), maps.v)

    def start(self, batch_size: int, width: int, like: Tensor) -> Stepper:
        return _Steps(self, batch_size, width, like)


class _Steps(Stepper):
    def __init__(self, layer: PixelCNN, batch_size: int, width: int, like: Tensor) -> None:
        self.reduce = layer.reduce.masked(), layer.reduce.bias
        self.expand = layer.expand.masked(), layer.expand.bias
        self.conv = ConvSteps(layer.conv, batch_size, width, like)

    def row(self, v: Tensor | None) -> Tensor | None:
        self.conv.row()
        return v

    def pixel(self, column: int, x: Tensor) -> Tensor:
        hidden = functional.relu(functional.linear(functional.relu(x), *self.reduce))
        hidden = functional.relu(self.conv.pixel(column, hidden))  # (B, H)
        return functional.linear(hidden, *self.expand)
