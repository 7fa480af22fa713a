"""What an engine is: a way to run a cell over a sequence that agrees with `scan`."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from seqmodels.cells import Cell, S


class EngineError(ValueError):
    """A named engine cannot run this call; the message says why and what to use."""


class Engine(Protocol):
    """Runs cells; agrees with `seqmodels.scan.scan` in values, final state and all gradients."""

    @property
    def name(self) -> str: ...

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        """None where this engine may run the call, else the reason in words."""
        ...

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        """Whether `auto` should take it for x (T, B, I): a function of the cell and shapes alone,
        so that a run repeats itself."""
        ...

    def __call__(
        self, cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
    ) -> tuple[Tensor, S]:
        """Run a call that `choose` has let through. Arguments and results as for `scan`."""
        ...
