"""Diagonal BiLSTM: two recurrences along the diagonals, which together see all earlier pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.cells.lstm import LSTMState, lstm_update
from seqmodels.layers.pixel.base import Maps, PixelLayer, Stepper
from seqmodels.layers.pixel.lines import LineLSTM, Step
from seqmodels.layers.pixel.masked import PointMap, group_mask

ABOVE_AND_BESIDE = (-1, 0)  # on the diagonal before: the pixel above, the pixel to the side


class DiagonalBiLSTM(PixelLayer):
    """The layer of Diagonal BiLSTM.

        a_{r,w} = b + W_is x_{r,w} + W_up h_{r-1,w} + W_side h_{r,w-1}
        u_{r,w} = W_u (h_{r,w} + h'_{r-1,w})

    h comes from the left by the equations of the LSTM; h' is its mirror image with weights of its
    own, which comes from the right. Since h' knows the pixels to the right of its own, it is
    shifted down by a row. W_is has mask B. Time is the diagonal, r + w.

    No features of a row know its last pixel, which is why the maps have one column more than the
    image: what stands there knows it, and h' begins there. So a pixel sees all earlier ones. In the
    paper the last pixel of the row above is seen only from within the reach of the first
    convolution.

    Args:
        hidden_size, groups: see `PixelLayer`.
        engine: that runs the recurrence; "auto" is the fastest that may.

    References: van den Oord et al., "Pixel recurrent neural networks", ICML 2016,
    https://arxiv.org/abs/1601.06759, section 3.2.
    """

    beyond = 1

    def __init__(self, hidden_size: int, groups: int, *, engine: str = "auto") -> None:
        super().__init__(hidden_size, groups)
        mask = group_mask(self.wide, self.narrow.repeat(4))

        def direction() -> LineLSTM:
            return LineLSTM(
                len(self.wide),
                hidden_size,
                offsets=ABOVE_AND_BESIDE,
                diagonal=True,
                engine=engine,
                mask=mask,
            )

        self.left = direction()
        self.right = direction()
        self.expand = PointMap(self.narrow, self.wide)

    def forward(self, maps: Maps) -> Maps:
        left = self.left(maps.x)  # (B, R, W, H)
        right = self.right(maps.x.flip(2)).flip(2)
        below = functional.pad(right[:, :-1], (0, 0, 0, 0, 1, 0))
        return Maps(self.expand(left + below), maps.v)

    def start(self, batch_size: int, width: int, like: Tensor) -> Stepper:
        return _Steps(self, batch_size, width, like)


class _Direction:
    """One of the two recurrences, with the row that it is in and the row above."""

    def __init__(self, line: LineLSTM, batch_size: int, width: int, like: Tensor) -> None:
        self.weights = Step.of(line)
        up, side = self.weights.weight_hh.chunk(2, 1)  # (4H, H) each
        self.up, self.side = up, side
        self.joined = torch.cat((self.weights.weight_ih, side), 1)  # (4H, I + H)
        hidden = line.cell.hidden_size
        # A pixel before the first: zeros.
        self.h = like.new_zeros(batch_size, width + 1, hidden)
        self.c = torch.zeros_like(self.h)
        self.from_above = like.new_zeros(batch_size, width, 4 * hidden)
        self.row()

    def row(self) -> None:
        self.from_above = functional.linear(self.h[:, 1:], self.up, self.weights.bias)
        self.h, self.c = torch.zeros_like(self.h), torch.zeros_like(self.c)

    def pixel(self, column: int, x: Tensor) -> Tensor:
        """x (B, I) -> h (B, H); columns as this direction counts them."""
        gates = functional.linear(torch.cat((x, self.h[:, column]), -1), self.joined)
        old = LSTMState(self.h[:, column], self.c[:, column])
        new = lstm_update(gates, self.from_above[:, column], old)
        self.h[:, column + 1], self.c[:, column + 1] = new
        return new.h


class _Steps(Stepper):
    def __init__(self, layer: DiagonalBiLSTM, batch_size: int, width: int, like: Tensor) -> None:
        self.expand = layer.expand.masked(), layer.expand.bias
        self.left = _Direction(layer.left, batch_size, width, like)
        self.right = _Direction(layer.right, batch_size, width, like)
        self.x = like.new_zeros(width, batch_size, len(layer.wide))
        self.shifted = like.new_zeros(batch_size, width, layer.hidden_size)
        self.began = False

    def row(self, v: Tensor | None) -> Tensor | None:
        if not self.began:
            self.began = True
            return v
        self.left.row()
        # The row above is known to its end only now.
        found = [self.right.pixel(w, x) for w, x in enumerate(self.x.flip(0).unbind(0))]
        self.shifted = torch.stack(found[::-1], 1)  # (B, W, H)
        self.right.row()
        return v

    def pixel(self, column: int, x: Tensor) -> Tensor:
        self.x[column] = x
        h = self.left.pixel(column, x) + self.shifted[:, column]
        return functional.linear(h, *self.expand)
