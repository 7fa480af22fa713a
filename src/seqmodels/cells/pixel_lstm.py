"""The long short-term memory over the places of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.lstm import LSTMState, lstm_update
from seqmodels.cells.neighbours import Neighbours

# What closes a gate: its sigmoid is zero.
CLOSED = -1.0e4


class PixelLSTMCell(Cell[LSTMState]):
    """A long short-term memory at every place of a line of pixels, each reading those beside it.

        a_{t,n} = b + U x_{t,n} + Σ_k W_k h_{t-1, n + o_k}
        i, f, g, o = the quarters of a_{t,n}
        c_{t,n} = σ(f) · c_{t-1,n} + σ(i) · tanh(g)
        h_{t,n} = σ(o) · tanh(c_{t,n})

    Time goes from line to line: rows of the image in Row LSTM, with offsets −1, 0, 1 a convolution
    along the row; diagonals in Diagonal BiLSTM, where n is the row of the pixel and the offsets −1
    and 0 are the pixels above and to the left.

    Symbols:
        x_{t,n} (I): what the layer gathers of the place. Its last entry is 1 at a place outside the
        image and 0 within it: there i and o are shut, so that h = c = 0.
        h_{t,n}, c_{t,n} (H): output and memory. U (4H, I − 1) = `weight_ih`, times `mask` where
        there is one; W (4H, K·H) = `weight_hh`; b (4H) = `bias`.
        The batch holds the P places of one image after the other. The first max |o_k| of them must
        be outside the image.

    Args:
        input_size: I >= 2.
        hidden_size: H >= 1, at each place.
        positions: P, the places of a line with those outside.
        offsets: o_k, 0 among them.
        mask: (4H, I − 1) of zeros and ones; None: all ones.

    References: van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel recurrent neural networks", ICML
    2016, https://arxiv.org/abs/1601.06759, equation 3.

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> cell = PixelLSTMCell(3, 4, positions=6, offsets=(-1, 0, 1))
    >>> y, state = scan(cell, torch.zeros(5, 2 * 6, 3))  # (T, B·P, I)
    >>> tuple(y.shape), tuple(state.c.shape)
    ((5, 12, 4), (12, 4))
    """

    gates = ("i", "f", "g", "o")
    memory_gate = "f"
    write_gate = "i"
    mask: Tensor | None
    closed: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        positions: int,
        offsets: Sequence[int],
        mask: Tensor | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        reach = max(abs(o) for o in offsets)
        if 0 not in offsets or len(set(offsets)) < len(offsets) or positions <= reach:
            raise ValueError(
                "PixelLSTMCell: expected different offsets with 0 among them and more positions "
                f"than they reach, got {list(offsets)} and {positions}"
            )
        self.positions = positions
        self.offsets = tuple(offsets)
        rows = 4 * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size - 1))
        self.weight_hh = nn.Parameter(torch.empty(rows, len(self.offsets) * hidden_size))
        self.bias = nn.Parameter(torch.empty(rows))
        self.register_buffer("mask", mask, persistent=False)
        shut = torch.tensor([CLOSED, 0.0, 0.0, CLOSED]).repeat_interleave(hidden_size)
        self.register_buffer("closed", shut.unsqueeze(1), persistent=False)  # (4H, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√N, N the inputs of a gate; the forget gate's bias 1, the others 0."""
        inputs = self.weight_ih.shape[1]
        for weight in (self.weight_ih, self.weight_hh):
            bound = 1.0 / math.sqrt(inputs + self.weight_hh.shape[1])
            nn.init.uniform_(weight, -bound, bound)
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.bias[self.hidden_size : 2 * self.hidden_size] = 1.0

    @property
    def places(self) -> int:
        """P: what is at one place reads what was beside it."""
        return self.positions

    def input_weight(self) -> Tensor:
        """U (4H, I − 1) as it is used, with its mask."""
        return self.weight_ih if self.mask is None else self.weight_ih * self.mask

    def project(self, x: Tensor) -> Tensor:
        weight = torch.cat((self.input_weight(), self.closed), dim=1)  # (4H, I)
        return functional.linear(x, weight, self.bias)  # (T, B·P, I) -> (T, B·P, 4H)

    def prepare(self) -> tuple[Stage[LSTMState], ...]:
        return (Stage(Neighbours(self.weight_hh, self.offsets, self.positions), lstm_update),)

    def initial_state(self, batch_size: int, like: Tensor) -> LSTMState:
        shape = (batch_size, self.hidden_size)
        return LSTMState(like.new_zeros(shape), like.new_zeros(shape))
