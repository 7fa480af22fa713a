"""Recurrent layers over any cell, batch-major."""

from __future__ import annotations

from seqmodels.layers.recurrent import Recurrent
from seqmodels.layers.stacked import CellFactory, Stacked, StackState
from seqmodels.layers.torch_weights import from_torch, to_torch

__all__ = ["CellFactory", "Recurrent", "StackState", "Stacked", "from_torch", "to_torch"]
