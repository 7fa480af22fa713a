"""Values that live between steps: carried recurrent state, running means, random generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def map_state(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The same nested (named) tuples with `function` applied to every tensor."""
    if isinstance(state, Tensor):
        return function(state)
    items = [map_state(function, item) for item in state]
    return type(state)(*items) if hasattr(state, "_fields") else tuple(items)


def detach(state: Any) -> Any:
    """The state as a constant: gradients of the next chunk stop here (truncated BPTT)."""
    return map_state(Tensor.detach, state)


def plain_state(state: Any) -> Any:
    """Named tuples as plain ones, which a checkpoint may hold."""
    if isinstance(state, Tensor):
        return state
    return tuple(plain_state(item) for item in state)


def restore_state(template: Any, plain: Any) -> Any:
    """`plain` in the types, dtypes and on the device of `template`."""
    if isinstance(template, Tensor):
        return plain.to(template)
    items = [restore_state(t, p) for t, p in zip(template, plain, strict=True)]
    return type(template)(*items) if hasattr(template, "_fields") else tuple(items)


class Mean:
    """A running mean weighted by counts, kept on the device in float64 so that nothing waits."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self.count: Tensor | None = None

    def add(self, mean: Tensor, count: Tensor) -> None:
        precise = torch.float32 if mean.device.type == "mps" else torch.float64
        total = mean.detach().to(precise) * count
        self.total = total if self.total is None else self.total + total
        self.count = count if self.count is None else self.count + count

    def value(self) -> float:
        if self.total is None or self.count is None:
            raise RuntimeError("the mean of nothing was asked for")
        return float(self.total / self.count)

    @property
    def empty(self) -> bool:
        return self.total is None

    def state(self) -> dict[str, Tensor | None]:
        return {"total": self.total, "count": self.count}

    def load(self, state: dict[str, Tensor | None], device: torch.device) -> None:
        total, count = state["total"], state["count"]
        self.total = None if total is None else total.to(device)
        self.count = None if count is None else count.to(device)


def seed_everything(seed: int) -> None:
    """Seeds every generator that a run draws from: Python's, NumPy's and torch's on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - third parties draw from the global generator
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every generator, as plain values that `weights_only` loading accepts."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (str(name), [int(k) for k in keys], int(position), int(has_gauss), float(cached)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def load_random_state(state: dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
