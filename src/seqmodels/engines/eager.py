"""The reference engine: the loop of `scan`, for every cell."""

from __future__ import annotations

from torch import Tensor

from seqmodels.cells import Cell, S
from seqmodels.scan import scan


class Eager:
    """`scan` itself. Runs every cell and supports double backward."""

    name = "eager"

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        return None

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        return True

    def __call__(
        self, cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
    ) -> tuple[Tensor, S]:
        return scan(cell, x, state, keep=keep)
