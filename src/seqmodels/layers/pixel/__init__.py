"""Layers over images that see only the pixels before each pixel."""

from __future__ import annotations

from seqmodels.layers.pixel.base import Maps, PixelLayer
from seqmodels.layers.pixel.cnn import PixelCNN
from seqmodels.layers.pixel.diagonal import DiagonalBiLSTM
from seqmodels.layers.pixel.gated import GatedPixelCNN
from seqmodels.layers.pixel.masked import MaskedConv, PointMap, channel_groups
from seqmodels.layers.pixel.row import RowLSTM
from seqmodels.layers.pixel.stack import PixelStack

__all__ = [
    "DiagonalBiLSTM",
    "GatedPixelCNN",
    "Maps",
    "MaskedConv",
    "PixelCNN",
    "PixelLayer",
    "PixelStack",
    "PointMap",
    "RowLSTM",
    "channel_groups",
]
