"""Models that read symbols or numbers and answer at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from seqmodels.layers import CellFactory
from seqmodels.models.pooling import Pool, Pooling
from seqmodels.models.sequence import State


class OneHot(nn.Module):
    """Symbols as unit vectors, with nothing to learn: x_t -> e_{x_t}.

    Args:
        num_inputs: N, the number of symbols (supplied by the data).

    Shapes: ids (B, T) int64 -> (B, T, N).
    """

    unit: Tensor

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.output_size = num_inputs
        self.register_buffer("unit", torch.eye(num_inputs), persistent=False)  # (N, N)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.is_floating_point() or ids.dim() != 2:
            raise ValueError(
                f"expected symbols of shape (B, T) and an integer type, got {tuple(ids.shape)} "
                f"{ids.dtype}: sequences of numbers go with model=prediction_real"
            )
        # Looked up time-major, as the backbone reads it.
        return nn.functional.embedding(ids.t(), self.unit).transpose(0, 1)  # (B, T, N)


class RealInputs(nn.Module):
    """Numbers as they are.

    Args:
        num_inputs: N, the numbers of a step (supplied by the data).

    Shapes: (B, T, N) -> (B, T, N).
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.output_size = num_inputs

    def forward(self, values: Tensor) -> Tensor:
        if not values.is_floating_point() or values.shape[2:] != (self.output_size,):
            raise ValueError(
                f"expected numbers of shape (B, T, {self.output_size}), got {tuple(values.shape)} "
                f"{values.dtype}: sequences of symbols go with model=prediction"
            )
        return values


class LinearHead(nn.Module):
    """o_t = c + V h_t, after dropout on h_t.

    Args:
        input_size: H, the width of the backbone's output (supplied by the model).
        num_outputs: O, classes or numbers (supplied by the data).
        dropout: probability with which each element of h_t is zeroed in training.

    Shapes: (B, T, H) -> (B, T, O).
    """

    def __init__(self, input_size: int, num_outputs: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(Tensor(num_outputs, input_size))
        self.bias = nn.Parameter(Tensor(num_outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """V uniform in ±1/√H, c zero."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        # Time-major, as the backbone's outputs lie in memory: the product then copies nothing.
        time_major = self.dropout(hidden).transpose(0, 1)  # (T, B, H)
        return nn.functional.linear(time_major, self.weight, self.bias).transpose(0, 1)  # (B, T, O)


class PredictionModel(nn.Module):
    """Inputs, recurrent layers, head: x_{1..T} -> o_t, scores of classes or numbers, at each step.

    Args:
        num_inputs, num_outputs: supplied by the data.
        inputs: called with (num_inputs) and gives the module that makes vectors of the inputs:
            OneHot, RealInputs or TokenEmbedding.
        cell, layers: see `SequenceModel`.
        head: called with (output_size, num_outputs) and gives the head.
        pooling: "none": the head reads the outputs of every step; else one vector for the whole
            sequence (`Pool`), and its answer stands at every step.

    Shapes: inputs (B, T) int64 or (B, T, N) float, lengths (B,) int64 -> (B, T, O), state.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        *,
        inputs: Callable[[int], nn.Module],
        cell: CellFactory | Sequence[CellFactory],
        layers: Callable[..., nn.Module],
        head: Callable[[int, int], nn.Module],
        pooling: Pooling = "none",
    ) -> None:
        super().__init__()
        self.inputs = inputs(num_inputs)
        self.backbone = layers(self.inputs.output_size, cell=cell)
        self.head = head(int(self.backbone.output_size), num_outputs)  # type: ignore[arg-type]
        self.pool = None if pooling == "none" else Pool(pooling, self.backbone)

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        hidden, state = self.backbone(self.inputs(inputs), state, lengths)  # (B, T, H)
        if self.pool is None:
            return self.head(hidden), state
        whole = self.pool(hidden, lengths).unsqueeze(1)  # (B, 1, H)
        return self.head(whole).expand(-1, hidden.shape[1], -1), state

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        """The state before the first step, with the dtype and device of `like`."""
        return self.backbone.initial_state(batch_size, like)  # type: ignore[operator]
