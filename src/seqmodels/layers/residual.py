"""A layer with a way round it."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from seqmodels.layers.base import Layer
from seqmodels.layers.recurrent import prefix_mask


class Residual(nn.Module):
    """A layer that adds to its input what it makes of it.

        y = a(F(b(x))) + P x

    Symbols:
        F: the layer. b: `before`, what stands before the layer and not on the way round it.
        a: `after`, what the layer's outputs pass through before the sum.
        P: the identity where input and output are equally wide, else a matrix (output, input)
        without bias, named `projection`.

    Args:
        layer: any `Layer`.
        input_size: I, the width of x.
        before: applied to what the layer reads (a norm, dropout); None is nothing.
        after: applied to what the layer gives, of the same width and zero where that is zero; None
            is nothing.

    Shapes: x (B, T, I), state that of the layer, lengths (B,) int64 -> y (B, T, output_size), zero
    at padding, and the layer's state. Padding may hold anything.

    Attributes:
        output_size, causal: the layer's.

    References: He et al., "Deep residual learning for image recognition", CVPR 2016,
    https://arxiv.org/abs/1512.03385; with everything but the sum on the branch, as here: He et al.,
    "Identity mappings in deep residual networks", ECCV 2016, https://arxiv.org/abs/1603.05027.
    """

    def __init__(
        self,
        layer: nn.Module,
        input_size: int,
        *,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if isinstance(input_size, bool) or not isinstance(input_size, int) or input_size < 1:
            raise ValueError(f"Residual: input_size must be a positive integer, got {input_size!r}")
        self.layer = layer
        self.before = nn.Identity() if before is None else before
        self.after = nn.Identity() if after is None else after
        self.output_size = cast(Layer, layer).output_size
        self.causal = cast(Layer, layer).causal
        self.projection: nn.Module = (
            nn.Identity()
            if input_size == self.output_size
            else nn.Linear(input_size, self.output_size, bias=False)
        )

    def initial_state(self, batch_size: int, like: Tensor) -> Any:
        """The layer's state before the first step, with the dtype and device of `like`."""
        return cast(Layer, self.layer).initial_state(batch_size, like)

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        x = without_padding(x, lengths)
        y, state = self.layer(self.before(x), state, lengths)  # (B, T, I) -> (B, T, H)
        return self.after(y) + self.projection(x), state


def without_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, T, I) with zeros at padding, where NaN would pass through sums and products."""
    if lengths is None:
        return x
    if x.dim() != 3:
        raise ValueError(f"expected x of shape (B, T, I), got {tuple(x.shape)}")
    keep = prefix_mask(lengths, x.transpose(0, 1))  # (T, B)
    return x if keep is None else x.masked_fill(~keep.t().unsqueeze(-1), 0.0)  # (B, T, 1)
