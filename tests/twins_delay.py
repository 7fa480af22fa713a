"""The delayed plain network in NumPy, with the past outputs in a list."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def delay_twin(cell: Any, x: Array, *past: Array) -> tuple[Array, tuple[Array, ...]]:
    """past: h_{t-1}, h_{t-2}, …, as many as the longest lag."""
    p = {name: value.detach().numpy() for name, value in cell.named_parameters()}
    a = x @ p["cell.weight_ih"].T + p["cell.bias_ih"] + p["cell.bias_hh"]
    for lag in cell.lags:
        weight = p["cell.weight_hh"] if lag == cell.lags[0] else p[f"weight_hh_{lag}"]
        a = a + past[lag - 1] @ weight.T
    h = np.tanh(a)
    return h, (h, *past[:-1])
