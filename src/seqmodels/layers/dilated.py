"""A layer whose recurrence goes from every d-th step to the next."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from seqmodels.layers.base import Layer


class Dilated(nn.Module):
    """s_t = f(x_t, s_{t-d}): d interleaved recurrences with one set of weights.

    Paths back in time are d times shorter, and d times as many rows go through each step of the
    loop. Nothing of the past is kept or moved: steps t, t + d, t + 2d, … are a sequence of their
    own, and the d of them become rows of the batch, (T, B) -> (T/d, d·B), which in time-major
    memory is another view of the same numbers. Exact, with lengths and carried state too, for any
    layer, direction and engine.

    Args:
        layer: what runs over each of them.
        dilation: d >= 1.

    Shapes: as for the layer, T >= 1 any; but the state has fields (B, d, ·): of the next d steps in
    their order. A layer that draws masks for a sequence draws them for each of the d.

    Attributes:
        output_size, causal: the layer's.

    Reference: Chang et al., "Dilated recurrent neural networks", NeurIPS 2017, equation 1.
    https://arxiv.org/abs/1710.02224
    """

    def __init__(self, layer: nn.Module, dilation: int) -> None:
        super().__init__()
        if isinstance(dilation, bool) or not isinstance(dilation, int) or dilation < 1:
            raise ValueError(f"dilation must be a whole number of steps >= 1, got {dilation!r}")
        self.layer = layer
        self.dilation = dilation
        self.output_size = self._layer.output_size
        self.causal = self._layer.causal

    @property
    def _layer(self) -> Layer:
        return cast(Layer, self.layer)

    def initial_state(self, batch_size: int, like: Tensor) -> Any:
        """The state before the first step, with the dtype and device of `like`."""
        zeros = torch.zeros(batch_size, dtype=torch.int64, device=like.device)
        return self._out(self._layer.initial_state(batch_size * self.dilation, like), zeros)

    def forward(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        if x.dim() != 3:
            raise ValueError(f"expected x of shape (B, T, I), got {tuple(x.shape)}")
        batch, steps, d = x.shape[0], x.shape[1], self.dilation
        whole = torch.full((batch,), steps, dtype=torch.int64, device=x.device)
        if lengths is None:
            own = whole
        else:
            if lengths.shape != (batch,) or lengths.dtype != torch.int64:
                raise ValueError(
                    f"expected lengths of shape (B,) = ({batch},) and torch.int64, "
                    f"got {tuple(lengths.shape)} {lengths.dtype}"
                )
            own = lengths.to(x.device)
            if int(own.min()) < 1 or int(own.max()) > steps:
                raise ValueError(
                    f"expected 1 <= length <= T = {steps}, got lengths from {int(own.min())} to "
                    f"{int(own.max())}"
                )
        # (B, T, I) -> (T', d, B, I) -> (d·B, T', I): row p·B + b has the steps p, p + d, … of b.
        turns = -(-steps // d)
        rows = x.transpose(0, 1)
        if turns * d > steps:
            rows = torch.cat((rows, rows.new_zeros(turns * d - steps, *rows.shape[1:])))
        rows = rows.reshape(turns, d * batch, -1).transpose(0, 1)
        phases = torch.arange(d, device=x.device).unsqueeze(1)  # (d, 1)
        each = ((own - phases + d - 1) // d).flatten()  # (d·B): steps of a row, 0 where it has none
        first = None if state is None else self._in(state)
        empty = each == 0
        if not bool(empty.any()):
            plain = bool((each == turns).all())
            y, last = self._layer(rows, first, None if plain else each)
        else:
            if first is None:
                first = self._layer.initial_state(d * batch, x)
            # A row without a step takes one over nothing, which is undone.
            rows = rows.masked_fill(empty.reshape(-1, 1, 1), 0.0)
            y, last = self._layer(rows, first, each.clamp(min=1))
            y = y.masked_fill(empty.reshape(-1, 1, 1), 0.0)
            last = _choose(empty, first, last)
        y = y.transpose(0, 1).reshape(turns * d, batch, -1)[:steps].transpose(0, 1)  # (B, T, H)
        return y, self._out(last, own)

    def _in(self, state: Any) -> Any:
        """Fields (B, d, ·) -> (d·B, ·)."""

        def rows(field: Tensor) -> Tensor:
            if field.dim() < 2 or field.shape[1] != self.dilation:
                raise ValueError(
                    f"expected a state with fields (B, {self.dilation}, ·), one row for each of "
                    f"the next {self.dilation} steps, got {tuple(field.shape)}"
                )
            return field.transpose(0, 1).flatten(0, 1)

        return _map(rows, state)

    def _out(self, state: Any, steps: Tensor) -> Any:
        """Fields (d·B, ·) -> (B, d, ·), beginning with what the step after `steps` (B) reads."""
        d = self.dilation
        order = (torch.arange(d, device=steps.device) + steps.unsqueeze(1)) % d  # (B, d)

        def turned(field: Tensor) -> Tensor:
            whole = field.reshape(d, -1, *field.shape[1:]).transpose(0, 1)  # (B, d, ·)
            index = order.reshape(*order.shape, *[1] * (whole.dim() - 2)).expand_as(whole)
            return whole.gather(1, index)

        return _map(turned, state)

    def extra_repr(self) -> str:
        return f"dilation={self.dilation}"


def _map(change: Any, state: Any) -> Any:
    """The same state, or states, with every field changed."""
    if isinstance(state, Tensor):
        return change(state)
    parts = [_map(change, part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)


def _choose(where: Tensor, there: Any, elsewhere: Any) -> Any:
    """Row by row: of the first state where `where` (rows), else of the second."""
    if isinstance(there, Tensor):
        rows = where.reshape(-1, *[1] * (there.dim() - 1))
        return torch.where(rows, there, elsewhere)
    parts = [_choose(where, a, b) for a, b in zip(there, elsewhere, strict=True)]
    return type(there)(*parts) if hasattr(there, "_fields") else type(there)(parts)
