"""Recurrent layers over any cell, batch-major, and what composes them."""

from __future__ import annotations

from seqmodels.layers.base import CellFactory, Layer, LayerFactory
from seqmodels.layers.between import SequenceDropout
from seqmodels.layers.bidirectional import Bidirectional, BidirectionalState
from seqmodels.layers.dilated import Dilated
from seqmodels.layers.recurrent import Recurrent
from seqmodels.layers.residual import Residual
from seqmodels.layers.stacked import Stacked, StackState
from seqmodels.layers.torch_weights import from_torch, to_torch

__all__ = [
    "Bidirectional",
    "BidirectionalState",
    "CellFactory",
    "Dilated",
    "Layer",
    "LayerFactory",
    "Recurrent",
    "Residual",
    "SequenceDropout",
    "StackState",
    "Stacked",
    "from_torch",
    "to_torch",
]
