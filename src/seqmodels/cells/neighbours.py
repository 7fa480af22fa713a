"""The linear map of a recurrence over images: every place reads those beside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


class Neighbours:
    """h_n -> Σ_k W_k h_{n + o_k}, a convolution over the places of an image.

    The rows of h are the places of one image after the other, P each. What would lie outside an
    image is zero.

    Args:
        weight: (G, K·H), the matrices W_k side by side.
        offsets: o_1 … o_K, different ones, 0 among them.
        positions: P.

    An engine that runs all images as one column of rows takes this map's word that the first
    max |o_k| places of every image hold zeros, before every step: they keep the images apart.
    """

    def __init__(self, weight: Tensor, offsets: Sequence[int], positions: int) -> None:
        self.weight = weight
        self.offsets = tuple(offsets)
        self.positions = positions

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def apply(self, h: Tensor) -> Tensor:
        return functional.linear(self._gathered(h), self.weight)  # (B·P, H) -> (B·P, G)

    def transpose(self, grad: Tensor) -> Tensor:
        parts = (grad @ self.weight).chunk(len(self.offsets), dim=-1)  # K × (B·P, H)
        shifted = [self._shifted(p, -o) for p, o in zip(parts, self.offsets, strict=True)]
        return torch.stack(shifted).sum(0)

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return (grad.t() @ self._gathered(h),)  # (G, K·H)

    def _gathered(self, h: Tensor) -> Tensor:
        return torch.cat([self._shifted(h, o) for o in self.offsets], dim=-1)  # (N, K·H)

    def _shifted(self, rows: Tensor, offset: int) -> Tensor:
        """Row n + offset in the place of row n, within each image."""
        if offset == 0:
            return rows
        if len(rows) % self.positions:
            raise ValueError(
                f"expected the rows of whole images, {self.positions} each, got {len(rows)}"
            )
        images = rows.reshape(-1, self.positions, rows.shape[-1])  # (B, P, H)
        moved = images[:, offset:] if offset > 0 else images[:, :offset]
        beside = (0, offset) if offset > 0 else (-offset, 0)
        return functional.pad(moved, (0, 0, *beside)).reshape(rows.shape)
