"""Weights to and from torch.nn.RNN, LSTM and GRU. Names, order and signs are the same: copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from seqmodels.cells import Cell, GRUCell, LSTMCell, RNNCell

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def from_torch(module: nn.RNNBase) -> list[Cell[Any]]:
    """Cells with copies of a torch.nn.RNN, LSTM or GRU's weights.

    Returns:
        One cell for each layer and direction, in torch's order: the layers from the lowest, the
        reverse direction after the forward one. dtype and device are kept.

    Raises:
        TypeError: not one of the three modules.
        ValueError: an LSTM with a projection, which no cell here has.
    """
    if not isinstance(module, nn.RNN | nn.LSTM | nn.GRU):
        raise TypeError(f"expected a torch.nn.RNN, LSTM or GRU, got {type(module).__name__}")
    if module.proj_size:
        raise ValueError(f"expected an LSTM without projection, got proj_size={module.proj_size}")
    directions = ("", "_reverse") if module.bidirectional else ("",)
    cells = []
    for layer in range(module.num_layers):
        for direction in directions:
            suffix = f"_l{layer}{direction}"
            weight: torch.Tensor = getattr(module, "weight_ih" + suffix)
            cell = _like(module, weight.shape[1]).to(weight)
            cell.load_state_dict(
                {n: getattr(module, n + suffix) for n, _ in cell.named_parameters()}
            )
            cells.append(cell)
    return cells


def _like(module: nn.RNNBase, input_size: int) -> Cell[Any]:
    size, bias = module.hidden_size, module.bias
    if isinstance(module, nn.LSTM):
        return LSTMCell(input_size, size, bias=bias)
    if isinstance(module, nn.GRU):
        return GRUCell(input_size, size, bias=bias)
    nonlinearity: Literal["tanh", "relu"] = "tanh" if module.mode == "RNN_TANH" else "relu"
    return RNNCell(input_size, size, nonlinearity=nonlinearity, bias=bias)


def to_torch(
    cells: Sequence[Cell[Any]],
    *,
    bidirectional: bool = False,
    batch_first: bool = True,
    dropout: float = 0.0,
) -> nn.RNNBase:
    """A torch.nn.RNN, LSTM or GRU with copies of the cells' weights; the inverse of `from_torch`.

    Args:
        cells: one for each layer and direction, in torch's order, all of one kind and hidden size.
        bidirectional: the cells come in pairs, forward and reverse.
        batch_first, dropout: passed to the module; not in the cells.

    Raises:
        ValueError: torch has no such module: another kind of cell, kinds or widths that differ
            from layer to layer, a layer that does not fit on the one below.
    """
    directions = 2 if bidirectional else 1
    if not cells or len(cells) % directions:
        raise ValueError(f"expected {directions} cells a layer, got {len(cells)} cells")
    first = cells[0]
    described = [_describe(cell) for cell in cells]
    if len(set(described)) > 1:
        raise ValueError(f"torch's layers are all alike, got {', '.join(map(str, described))}")
    for index, cell in enumerate(cells):
        below = first.input_size if index < directions else first.hidden_size * directions
        if cell.input_size != below:
            raise ValueError(f"cell {index} must read {below} inputs, got {cell.input_size}")
    kind, size, bias = described[0]
    options: dict[str, Any] = {
        "num_layers": len(cells) // directions,
        "bias": bias,
        "batch_first": batch_first,
        "dropout": dropout,
        "bidirectional": bidirectional,
    }
    module: nn.RNNBase
    if kind == "LSTM":
        module = nn.LSTM(first.input_size, size, **options)
    elif kind == "GRU":
        module = nn.GRU(first.input_size, size, **options)
    else:
        module = nn.RNN(first.input_size, size, nonlinearity=kind, **options)
    module.to(next(first.parameters()))
    state = {}
    for index, cell in enumerate(cells):
        layer, direction = divmod(index, directions)
        suffix = f"_l{layer}{'_reverse' if direction else ''}"
        state.update({name + suffix: value for name, value in cell.state_dict().items()})
    module.load_state_dict(state)
    return module


def _describe(cell: Cell[Any]) -> tuple[str, int, bool]:
    """torch's kind of module (an RNN's is its nonlinearity), the hidden size, and bias."""
    kind = {LSTMCell: "LSTM", GRUCell: "GRU", RNNCell: "RNN"}.get(type(cell))
    if isinstance(cell, RNNCell) and kind == "RNN":
        kind = None if cell.nonlinearity == "sigmoid" else cell.nonlinearity
    if kind is None:
        raise ValueError(f"torch has no module with the equation of {cell}")
    return kind, cell.hidden_size, cell.bias_ih is not None
