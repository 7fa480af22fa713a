"""Linear maps between features of pixels that keep to the order of pixels and colour channels.

Features come in as many groups as the image has channels that depend on each other. Those of group
c may know channels before c of their own pixel (and all of the pixels before); so a map within a
pixel leads from group c to the groups from c on.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


def channel_groups(features: int, groups: int) -> Tensor:
    """(F,) int64: the group of every feature; they are as even as F allows.

    Raises:
        ValueError: fewer features than groups.
    """
    if features < groups:
        raise ValueError(
            f"{features} features cannot be divided among {groups} colour channels: "
            "raise model.layers.hidden_size"
        )
    return torch.arange(features) * groups // features


def group_mask(inside: Tensor, outside: Tensor, *, own: bool = True) -> Tensor:
    """(O, I) of 0 and 1: feature o reads feature i of its pixel; own: of its own group, too.

    Args:
        inside: (I,) groups of what is read. outside: (O,) groups of what reads.
    """
    a, b = outside.unsqueeze(1), inside.unsqueeze(0)
    return (a >= b if own else a > b).to(torch.get_default_dtype())


class PointMap(nn.Module):
    """A 1×1 convolution with mask B: y = b + (M · W) x at every pixel.

    Args:
        inside: (I,) groups of the features that are read. outside: (O,) those of the results.

    Shapes: (…, I) -> (…, O).
    """

    mask: Tensor

    def __init__(self, inside: Tensor, outside: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(len(outside), len(inside)))
        self.bias = nn.Parameter(torch.empty(len(outside)))
        self.register_buffer("mask", group_mask(inside, outside), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As torch's convolutions: uniform in ±1/√I, I counted without what is masked."""
        reset(self.weight, self.bias, self.mask)

    def masked(self) -> Tensor:
        """M · W (O, I)."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.masked(), self.bias)


def reset(weight: Tensor, bias: Tensor, mask: Tensor) -> None:
    """Weights and bias uniform in ±1/√N, N the greatest number of inputs that an output reads."""
    inputs = float(mask.flatten(1).sum(1).max())
    bound = 1.0 / math.sqrt(max(inputs, 1.0))
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)


class MaskedConv(nn.Module):
    """A convolution that sees the rows above and, of a pixel's own row, what lies before it.

    Only the upper half of the kernel exists: ⌊k/2⌋ rows above and the pixel's own.

    Args:
        inside, outside: groups of the features that are read and of the results.
        kernel: (rows, columns): rows above and with its own; columns, odd.
        mask: "A": of its own pixel a feature reads the groups before its own; "B": its own too;
            "rows": all of its own row, as the vertical stack of Gated PixelCNN does.

    Shapes: (B, R, W, I) -> (B, R, W, O).
    """

    mask: Tensor

    def __init__(
        self,
        inside: Tensor,
        outside: Tensor,
        *,
        kernel: tuple[int, int],
        mask: Literal["A", "B", "rows"],
    ) -> None:
        super().__init__()
        self.above, columns = kernel[0] - 1, kernel[1]
        self.reach = columns // 2
        self.weight = nn.Parameter(torch.empty(len(outside), len(inside), kernel[0], columns))
        self.bias = nn.Parameter(torch.empty(len(outside)))
        whole = torch.ones(self.weight.shape)
        if mask != "rows":
            whole[:, :, -1, self.reach + 1 :] = 0.0
            whole[:, :, -1, self.reach] = group_mask(inside, outside, own=mask == "B")
        self.register_buffer("mask", whole, persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√N, N the inputs that the mask leaves."""
        reset(self.weight, self.bias, self.mask)

    def masked(self) -> Tensor:
        """The kernel (O, I, rows, columns) with its mask."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        maps = x.permute(0, 3, 1, 2)  # (B, I, R, W), channels last in memory
        maps = functional.pad(maps, (self.reach, self.reach, self.above, 0))
        return functional.conv2d(maps, self.masked(), self.bias).permute(0, 2, 3, 1)


def odd_kernel(name: str, size: int, least: int = 1) -> int:
    """The size of a kernel, or a ValueError where it is not odd."""
    if isinstance(size, bool) or not isinstance(size, int) or size < least or size % 2 == 0:
        raise ValueError(f"{name} must be an odd number >= {least}, got {size!r}")
    return size
