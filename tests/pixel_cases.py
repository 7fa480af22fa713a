"""Small pixel models of every kind of layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from seqmodels.layers.pixel import (
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelStack,
    RowLSTM,
)
from seqmodels.models import PixelRNN

KINDS: dict[str, Any] = {
    "row_lstm": RowLSTM,
    "diagonal_bilstm": DiagonalBiLSTM,
    "pixelcnn": PixelCNN,
    "gated_pixelcnn": GatedPixelCNN,
    "mixed": [RowLSTM, GatedPixelCNN, DiagonalBiLSTM],
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def pixel_model(
    kind: str, shape: tuple[int, int, int], levels: int = 2, hidden_size: int = 6, **settings: Any
) -> PixelRNN:
    """A model of three layers whose random weights are large: what leaks would be seen."""
    torch.manual_seed(0)
    of_stack = {k: settings.pop(k) for k in ("residual", "skip") if k in settings}
    layers = partial(
        PixelStack, layer=KINDS[kind], hidden_size=hidden_size, num_layers=3, **of_stack
    )
    model = PixelRNN(*shape, levels, layers=layers, **settings).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model
