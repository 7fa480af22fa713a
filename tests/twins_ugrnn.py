"""The equations of the update gate and the antisymmetric network, written again in NumPy."""

from __future__ import annotations

import numpy as np

from seqmodels.cells import AntisymmetricCell, UGRNNCell
from twins_leaky import Array, arrays, sigmoid


def ugrnn_twin(cell: UGRNNCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a = p.get("bias_ih", 0) + p.get("bias_hh", 0) + h @ p["weight_hh"].T + x @ p["weight_ih"].T
    g, c = np.split(a, 2, axis=-1)
    h = sigmoid(g) * h + (1 - sigmoid(g)) * np.tanh(c)
    return h, (h,)


def antisymmetric_twin(
    cell: AntisymmetricCell, x: Array, h: Array
) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    m = p["weight_hh"] - p["weight_hh"].T - cell.gamma * np.eye(cell.hidden_size)
    a = p.get("bias_ih", 0) + p.get("bias_hh", 0) + h @ m.T + x @ p["weight_ih"].T
    z = sigmoid(p.get("bias_gate", 0) + h @ m.T + x @ p["weight_gate"].T) if cell.gated else 1
    h = h + cell.epsilon * z * np.tanh(a)
    return h, (h,)
