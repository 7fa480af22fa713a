"""The engine of export: the whole loop over time as one operation of a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmodels.cells import Cell, S


class Exported:
    """The steps of the reference loop as the body of one `scan` operation.

    A loop in Python would be traced for the one length that it saw, and kernels made for this
    machine cannot leave it; this runs for any T, in graphs that `torch.export` makes and, as ONNX's
    Scan, elsewhere. Values alone, no gradients; no mask.

    It is no engine to train with: `seqmodels.engines.replaced` puts it in the place of every other
    while a model is traced.
    """

    name = "exported"

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        return None if keep is None else "an exported model reads sequences of one length"

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        return True

    def __call__(
        self, cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
    ) -> tuple[Tensor, S]:
        from torch._higher_order_ops.scan import scan

        if state is None:
            state = cell.initial_state(x.shape[1], x)
        kind: Any = type(state)
        stages = cell.prepare()

        def step(carried: tuple[Tensor, ...], gates_x: Tensor) -> tuple[Any, Tensor]:
            now = kind(*carried)
            for stage in stages:
                fields = [getattr(now, name) for name in stage.reads]
                read = fields[0] if len(fields) == 1 else torch.cat(fields, dim=-1)
                now = stage.update(gates_x, stage.operator.apply(read), now, *stage.params)
            # Copies: what is handed on and what is put out may not be one tensor.
            return tuple(field.clone() for field in now), now[0].clone()

        last, y = scan(step, tuple(state), cell.project(x))
        return y, kind(*last)
