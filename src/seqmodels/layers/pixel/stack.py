"""Layers of a pixel model, one above the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seqmodels.layers.pixel.base import Maps, PixelLayer
from seqmodels.layers.pixel.masked import PointMap, channel_groups
from seqmodels.layers.stacked import MOST_LAYERS

PixelLayerFactory = Callable[[int, int], PixelLayer]  # (hidden_size, groups) -> layer


class PixelStack(nn.Module):
    """Layers over images, with ways round them.

        u_l = F_l(x_l)
        x_{l+1} = x_l + u_l       with residual connections, else u_l
        y = Σ_l S_l u_l           with skip connections, else the last x

    S_l is a 1×1 convolution with mask B.

    Args:
        groups: how many colour channels depend on each other (supplied by the model).
        layer: called as layer(hidden_size, groups), gives a `PixelLayer`; or a list of such, one
            for each layer from the lowest.
        hidden_size: H; between layers there are 2H features.
        num_layers: 1 to 32; as many as `layer` has entries where it is a list.
        residual, skip: which ways round there are.

    Shapes: `Maps` -> (B, R, W, 2H).

    Attributes:
        vertical: whether a layer has a vertical stack.
        beyond: how many columns to the right of the image the maps should have.
        features: 2H.
    """

    def __init__(
        self,
        groups: int,
        *,
        layer: PixelLayerFactory | Sequence[PixelLayerFactory],
        hidden_size: int = 16,
        num_layers: int = 7,
        residual: bool = True,
        skip: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if num_layers > MOST_LAYERS:
            raise ValueError(f"num_layers must lie in 1 … {MOST_LAYERS}, got {num_layers}")
        each = list(layer) if isinstance(layer, Sequence) else [layer] * num_layers
        if len(each) != num_layers:
            raise ValueError(
                f"layer gives {len(each)} layers and num_layers is {num_layers}: make them equal"
            )
        made: list[PixelLayer] = [make(hidden_size, groups) for make in each]
        self.layers = nn.ModuleList(made)
        self.hidden_size, self.features = hidden_size, 2 * hidden_size
        self.residual, self.skip = residual, skip
        self.vertical = any(each.vertical for each in made)
        self.beyond = max(each.beyond for each in made)
        wide = channel_groups(self.features, groups)
        self.skips = nn.ModuleList(PointMap(wide, wide) for _ in made) if skip else nn.ModuleList()

    def forward(self, maps: Maps) -> Tensor:
        x, v = maps
        total: Tensor | None = None
        for number, layer in enumerate(self.layers):
            u, v = layer(Maps(x, v))
            if self.skip:
                shown = self.skips[number](u)
                total = shown if total is None else total + shown
            x = x + u if self.residual else u
        return x if total is None else total

    def start(self, batch_size: int, width: int, like: Tensor) -> StackSteps:
        """The same layers pixel by pixel."""
        return StackSteps(self, batch_size, width, like)

    def extra_repr(self) -> str:
        return f"residual={self.residual}, skip={self.skip}"


class StackSteps:
    """All layers of a stack, run pixel by pixel; see `Stepper`."""

    def __init__(self, stack: PixelStack, batch_size: int, width: int, like: Tensor) -> None:
        self.residual = stack.residual
        layers: list[PixelLayer] = list(stack.layers)  # type: ignore[arg-type]
        self.steps = [layer.start(batch_size, width, like) for layer in layers]
        self.skip: tuple[Tensor, Tensor] | None = None
        if stack.skip:
            maps: list[PointMap] = list(stack.skips)  # type: ignore[arg-type]
            # All of them together are one product.
            weight = torch.cat([m.masked() for m in maps], 1)
            self.skip = weight, torch.stack([m.bias for m in maps]).sum(0)

    def row(self, v: Tensor | None) -> None:
        """Begin the next row; v: the vertical maps of the row above, None for the first."""
        for step in self.steps:
            v = step.row(v)

    def pixel(self, column: int, x: Tensor) -> Tensor:
        """(B, 2H) -> (B, 2H)."""
        branches = []
        for step in self.steps:
            u = step.pixel(column, x)
            branches.append(u)
            x = x + u if self.residual else u
        if self.skip is None:
            return x
        return nn.functional.linear(torch.cat(branches, -1), *self.skip)
