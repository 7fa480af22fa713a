"""What the composition of layers builds on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from seqmodels.cells import Cell

CellFactory = Callable[[int, int], Cell[Any]]  # (input_size, hidden_size) -> cell
LayerFactory = Callable[[Callable[[], Cell[Any]]], nn.Module]  # layer(make) -> a `Layer`


class Layer(Protocol):
    """What a layer offers to those that compose it; `Recurrent` is one.

    causal: whether no output depends on later inputs. The state is a (named) tuple of tensors, or
    of such tuples.
    """

    output_size: int
    causal: bool

    def initial_state(self, batch_size: int, like: Tensor) -> Any: ...

    def __call__(
        self, x: Tensor, state: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]: ...
