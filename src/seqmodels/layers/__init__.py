"""Recurrent layers over any cell, batch-major."""

from __future__ import annotations

from seqmodels.layers.recurrent import Recurrent
from seqmodels.layers.stacked import CellFactory, Layer, LayerFactory, Stacked, StackState
from seqmodels.layers.torch_weights import from_torch, to_torch

__all__ = [
    "CellFactory",
    "Layer",
    "LayerFactory",
    "Recurrent",
    "StackState",
    "Stacked",
    "from_torch",
    "to_torch",
]
