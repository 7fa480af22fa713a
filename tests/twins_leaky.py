"""The equations of the leaky network and of the LSTM's variants, written again in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqmodels.cells import LeakyCell, LSTMVariantCell, ReservoirCell

Array = np.ndarray[Any, np.dtype[np.float64]]
SIGMA = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
}
sigmoid = SIGMA["sigmoid"]


def arrays(cell: Any) -> dict[str, Array]:
    """Parameters and buffers by their names."""
    return {name: tensor.detach().numpy() for name, tensor in cell.state_dict().items()}


def leaky_twin(cell: LeakyCell, x: Array, s: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a = p.get("bias_ih", 0) + p.get("bias_hh", 0) + s @ p["weight_hh"].T + x @ p["weight_ih"].T
    if cell.time == "fixed":
        tau: Any = cell.tau
    elif cell.time == "per_unit":
        tau = np.exp(np.linspace(np.log(cell.tau), np.log(10 * cell.tau), cell.hidden_size))
        np.testing.assert_allclose(p["time_constants"], tau, rtol=1e-6)
        tau = p["time_constants"]
    else:
        shift = x @ p["weight_time"].T if cell.time == "input" else 0
        tau = 1 + np.log(1 + np.exp(p["theta"] + shift))
    s = s + (SIGMA[cell.nonlinearity](a) - s) / tau
    return s, (s,)


def reservoir_twin(cell: ReservoirCell, x: Array, s: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a = p["bias"] + s @ p["weight_hh"].T + x @ p["weight_ih"].T
    drive = np.tanh(a) if cell.nonlinearity == "tanh" else a
    s = s + cell.leak * (drive - s)
    return s, (s,)


def norm(a: Array) -> Array:
    mean = a.mean(-1, keepdims=True)
    return (a - mean) / np.sqrt(((a - mean) ** 2).mean(-1, keepdims=True) + 1e-5)


def lstm_variant_twin(
    cell: LSTMVariantCell, x: Array, h: Array, c: Array
) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    rows = {g: slice(k * len(h[0]), (k + 1) * len(h[0])) for k, g in enumerate(cell.gates)}
    from_x, from_h = x @ p["weight_ih"].T, h @ p["weight_hh"].T
    if cell.layer_norm:
        from_x, from_h = norm(from_x) * p["gain_ih"], norm(from_h) * p["gain_hh"]
    total = from_x + from_h + p.get("bias_ih", 0) + p.get("bias_hh", 0)
    view = {k: p[f"peephole_{k}"] if cell.peephole else 0 for k in rows if k != "g"}
    f = sigmoid(total[:, rows["f"]] + view["f"] * c)
    i = 1 - f if cell.coupled else sigmoid(total[:, rows["i"]] + view["i"] * c)
    c = f * c + i * np.tanh(total[:, rows["g"]])
    o = sigmoid(total[:, rows["o"]] + view["o"] * c)
    shown = norm(c) * p["gain_c"] + p.get("shift_c", 0) if cell.layer_norm else c
    h = o * np.tanh(shown)
    return h, (h, c)
