"""The model of an echo state network: reservoirs below, one linear readout above."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seqmodels.layers import CellFactory
from seqmodels.models.prediction import RealInputs
from seqmodels.models.sequence import State


class EchoStateModel(nn.Module):
    """o_t = c + V z_t with the features z_t = [h_t, x_t, h_t²] of a recurrent backbone.

    V and c are zero until they are fitted, in closed form (`task=ridge`) or by gradient; with a
    reservoir as the cell they are all that is trained.

    Args:
        num_inputs, num_outputs: supplied by the data.
        cell, layers: see `SequenceModel`.
        read_inputs: whether z_t holds x_t.
        squares: whether z_t holds h_t².

    Shapes: inputs (B, T, I) float, lengths (B,) int64 -> (B, T, O), state.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        cell: CellFactory | Sequence[CellFactory],
        layers: Callable[..., nn.Module],
        read_inputs: bool = True,
        squares: bool = False,
    ) -> None:
        super().__init__()
        self.inputs = RealInputs(num_inputs)
        self.backbone = layers(num_inputs, cell=cell)
        self.read_inputs = read_inputs
        self.squares = squares
        units = int(self.backbone.output_size)  # type: ignore[arg-type]
        self.num_features = units * (1 + squares) + num_inputs * read_inputs
        self.weight = nn.Parameter(torch.zeros(num_outputs, self.num_features))
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def features(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """z (B, T, F) and the state after the last step."""
        x = self.inputs(inputs)
        hidden, state = self.backbone(x, state, lengths)  # (B, T, H)
        parts = [hidden]
        if self.read_inputs:
            parts.append(x)
        if self.squares:
            parts.append(hidden.square())
        return (parts[0] if len(parts) == 1 else torch.cat(parts, -1)), state

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        z, state = self.features(inputs, state, lengths)
        return nn.functional.linear(z, self.weight, self.bias), state

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        """The state before the first step, with the dtype and device of `like`."""
        return self.backbone.initial_state(batch_size, like)  # type: ignore[operator]
