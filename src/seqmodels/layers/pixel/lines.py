"""Images as sequences of lines, and lines as images again."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function

from seqmodels.cells import PixelLSTMCell
from seqmodels.layers.recurrent import Recurrent


class Lines(NamedTuple):
    """How the pixels of an image (R, W) lie in lines: pixel (r, w) at place p of line t.

    rows: t = r, p = w + edge. diagonals: t = r + w, p = r + edge.

    Attributes:
        rows, columns: R, W.
        edge: places at the beginning of every line that are outside the image.
        diagonal: whether the lines are diagonals.
    """

    rows: int
    columns: int
    edge: int
    diagonal: bool

    @property
    def steps(self) -> int:
        """T, the number of lines."""
        return self.rows + self.columns - 1 if self.diagonal else self.rows

    @property
    def positions(self) -> int:
        """P, the places of a line."""
        return self.edge + (self.rows if self.diagonal else self.columns)

    def view(self, lines: Tensor) -> Tensor:
        """The pixels (B, R, W, F) within lines (T, B, P, F), in the same memory."""
        step, image, place, feature = lines.stride()
        row = step + place if self.diagonal else step
        column = step if self.diagonal else place
        size = (lines.shape[1], self.rows, self.columns, lines.shape[3])
        start = lines.storage_offset() + self.edge * place
        return lines.as_strided(size, (image, row, column, feature), start)


class _ToLines(Function):
    """x (B, R, W, F) -> (T, B, P, F + 1): zeros, and 1 in the last entry, outside the image."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lines: Lines) -> Tensor:
        ctx.lines = lines
        batch, features = x.shape[0], x.shape[3]
        out = x.new_zeros(lines.steps, batch, lines.positions, features + 1)
        out[..., features] = 1.0
        inside = lines.view(out)
        inside[..., :features] = x
        inside[..., features] = 0.0
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _FromLines.apply(grad[..., :-1], ctx.lines), None  # type: ignore[no-untyped-call]


class _FromLines(Function):
    """(T, B, P, F) -> its pixels (B, R, W, F)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, lines: Lines) -> Tensor:
        ctx.lines = lines
        return lines.view(y).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _Back.apply(grad, ctx.lines), None  # type: ignore[no-untyped-call]


class _Back(Function):
    """x (B, R, W, F) -> (T, B, P, F), zeros outside the image."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lines: Lines) -> Tensor:
        ctx.lines = lines
        out = x.new_zeros(lines.steps, x.shape[0], lines.positions, x.shape[3])
        lines.view(out).copy_(x)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _FromLines.apply(grad, ctx.lines), None  # type: ignore[no-untyped-call]


class LineLSTM(nn.Module):
    """A `PixelLSTMCell` over the lines of images.

    Args:
        input_size: I, features of a pixel.
        hidden_size: H.
        offsets: see `PixelLSTMCell`.
        diagonal: whether the lines are diagonals.
        engine: "auto", or the one that must run.
        mask: (4H, I) or None.

    Shapes: (B, R, W, I) -> (B, R, W, H).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        offsets: tuple[int, ...],
        diagonal: bool,
        engine: str,
        mask: Tensor | None,
    ) -> None:
        super().__init__()
        self.diagonal = diagonal
        self.edge = max(abs(o) for o in offsets)
        make = partial(
            PixelLSTMCell,
            input_size + 1,
            hidden_size,
            positions=self.edge + 1,  # of an image of one pixel; `forward` says how many there are
            offsets=offsets,
            mask=mask,
        )
        self.recurrent: Recurrent[Any] = Recurrent(make, engine=engine)

    @property
    def cell(self) -> PixelLSTMCell:
        """The equation and its parameters."""
        cell: Any = self.recurrent.cell
        assert isinstance(cell, PixelLSTMCell)
        return cell

    def forward(self, x: Tensor) -> Tensor:
        lines = Lines(x.shape[1], x.shape[2], self.edge, self.diagonal)
        self.cell.positions = lines.positions
        gathered: Tensor = _ToLines.apply(x, lines)  # type: ignore[no-untyped-call]
        places = gathered.flatten(1, 2).transpose(0, 1)  # (B·P, T, I + 1)
        y, _ = self.recurrent(places)  # (B·P, T, H)
        y = y.transpose(0, 1).unflatten(1, (x.shape[0], lines.positions))  # (T, B, P, H)
        found: Tensor = _FromLines.apply(y, lines)  # type: ignore[no-untyped-call]
        return found


class Step(NamedTuple):
    """The weights of a cell as one pixel needs them: U (4H, I), W (4H, K·H), b (4H)."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor

    @classmethod
    def of(cls, line: LineLSTM) -> Step:
        """Read once, when sampling starts."""
        cell = line.cell
        return cls(cell.input_weight(), cell.weight_hh, cell.bias)


def before(x: Tensor, count: int) -> Tensor:
    """x (B, R, W, F) with the pixels to the left: (B, R, W, (count + 1)·F), the farthest first."""
    if count == 0:
        return x
    shifted = [
        nn.functional.pad(x[:, :, : x.shape[2] - k], (0, 0, k, 0)) for k in range(1, count + 1)
    ]
    return torch.cat([*reversed(shifted), x], dim=-1)
