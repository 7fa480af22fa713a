"""Row LSTM: a recurrence from row to row."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.lstm import LSTMState, lstm_update
from seqmodels.layers.pixel.base import Maps, PixelLayer, Stepper
from seqmodels.layers.pixel.lines import LineLSTM, Step, before
from seqmodels.layers.pixel.masked import PointMap, group_mask, odd_kernel


class RowLSTM(PixelLayer):
    """The layer of Row LSTM.

        a_r = b + K_is * x_r + K_ss * h_{r-1}       convolutions along the row, k×1
        u_r = W_u h_r                               h_r by the equations of the LSTM at every pixel

    K_is has mask B and K_ss none, since it reads the row above. A pixel sees a triangle above it,
    which a layer makes wider by ⌊k/2⌋ pixels to each side with every row.

    Args:
        hidden_size, groups: see `PixelLayer`.
        kernel_size: k, odd, of both convolutions.
        engine: that runs the recurrence; "auto" is the fastest that may.

    References: van den Oord et al., "Pixel recurrent neural networks", ICML 2016,
    https://arxiv.org/abs/1601.06759, section 3.1.
    """

    def __init__(
        self, hidden_size: int, groups: int, *, kernel_size: int = 3, engine: str = "auto"
    ) -> None:
        super().__init__(hidden_size, groups)
        self.reach = odd_kernel("RowLSTM: kernel_size", kernel_size) // 2
        gates = self.narrow.repeat(4)
        to_left = torch.ones(len(gates), self.reach * len(self.wide))
        mask = torch.cat((to_left, group_mask(self.wide, gates)), 1)
        offsets = tuple(range(-self.reach, self.reach + 1))
        self.lstm = LineLSTM(
            (self.reach + 1) * len(self.wide),
            hidden_size,
            offsets=offsets,
            diagonal=False,
            engine=engine,
            mask=mask,
        )
        self.expand = PointMap(self.narrow, self.wide)

    def forward(self, maps: Maps) -> Maps:
        return Maps(self.expand(self.lstm(before(maps.x, self.reach))), maps.v)

    def start(self, batch_size: int, width: int, like: Tensor) -> Stepper:
        return _Steps(self, batch_size, width, like)


class _Steps(Stepper):
    def __init__(self, layer: RowLSTM, batch_size: int, width: int, like: Tensor) -> None:
        self.reach = layer.reach
        self.weights = Step.of(layer.lstm)
        self.expand = layer.expand.masked(), layer.expand.bias
        hidden = layer.hidden_size
        self.h = like.new_zeros(batch_size, width, hidden)  # of this row, as far as it is known
        self.c = torch.zeros_like(self.h)
        self.h_above, self.c_above = self.h, self.c
        self.x = like.new_zeros(batch_size, width + self.reach, len(layer.wide))
        self.from_above = like.new_zeros(batch_size, width, 4 * hidden)

    def row(self, v: Tensor | None) -> Tensor | None:
        self.h_above, self.c_above = self.h, self.c
        self.h, self.c = torch.zeros_like(self.h), torch.zeros_like(self.c)
        self.x = torch.zeros_like(self.x)
        width = self.h.shape[1]
        padded = functional.pad(self.h_above, (0, 0, self.reach, self.reach))
        beside = [padded[:, k : k + width] for k in range(2 * self.reach + 1)]
        self.from_above = functional.linear(
            torch.cat(beside, -1), self.weights.weight_hh, self.weights.bias
        )  # (B, W, 4H)
        return v

    def pixel(self, column: int, x: Tensor) -> Tensor:
        self.x[:, column + self.reach] = x
        seen = self.x[:, column : column + self.reach + 1].flatten(1)
        gates = functional.linear(seen, self.weights.weight_ih)
        old = LSTMState(self.h_above[:, column], self.c_above[:, column])
        new = lstm_update(gates, self.from_above[:, column], old)
        self.h[:, column], self.c[:, column] = new
        return functional.linear(new.h, *self.expand)
