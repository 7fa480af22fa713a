"""The equations of coRNN, LEM and the linear recurrences, written again in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqmodels.cells import CoRNNCell, LEMCell, LRUCell, MinGRUCell, MinLSTMCell
from twins_leaky import Array, arrays, sigmoid


def cornn_twin(cell: CoRNNCell, x: Array, y: Array, z: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    w_y, w_z = np.split(p["weight_hh"], 2, axis=1)
    a = y @ w_y.T + z @ w_z.T + x @ p["weight_ih"].T + p.get("bias_ih", 0)
    z = z + cell.dt * (np.tanh(a) - cell.gamma * y - cell.epsilon * z)
    y = y + cell.dt * z
    return y, (y, z)


def lem_twin(cell: LEMCell, x: Array, y: Array, z: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a = x @ p["weight_ih"].T + p.get("bias_ih", 0) + p.get("bias_hh", 0)
    a_u, a_z, a_v, a_y = np.split(a, 4, axis=-1)
    w_u, w_z, w_v, w_y = np.split(p["weight_hh"], 4)
    u = cell.dt * sigmoid(a_u + y @ w_u.T)
    v = cell.dt * sigmoid(a_v + y @ w_v.T)
    z = (1 - u) * z + u * np.tanh(a_z + y @ w_z.T)
    y = (1 - v) * y + v * np.tanh(a_y + z @ w_y.T)
    return y, (y, z)


def _candidate(cell: Any, a: Array) -> Array:
    return a if cell.candidate == "linear" else np.where(a >= 0, a + 0.5, sigmoid(a))


def min_gru_twin(cell: MinGRUCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a_z, a_c = np.split(x @ p["weight_ih"].T + p.get("bias_ih", 0), 2, axis=-1)
    z = sigmoid(-a_z)  # the equation's z: what is replaced
    h = (1 - z) * h + z * _candidate(cell, a_c)
    return h, (h,)


def min_lstm_twin(cell: MinLSTMCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a_f, a_i, a_c = np.split(x @ p["weight_ih"].T + p.get("bias_ih", 0), 3, axis=-1)
    f, i = sigmoid(a_f), sigmoid(a_i)
    h = f / (f + i) * h + i / (f + i) * _candidate(cell, a_c)
    return h, (h,)


def lru_twin(
    cell: LRUCell, x: Array, y: Array, re: Array, im: Array
) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    b_re, b_im = np.split(p["weight_ih"], 2)
    c_re, minus_c_im = np.split(p["weight_out"], 2, axis=1)
    eigenvalues = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    s = eigenvalues * (re + 1j * im) + np.exp(p["gamma_log"]) * (x @ (b_re + 1j * b_im).T)
    y = (s @ (c_re - 1j * minus_c_im).T).real + x @ p["weight_skip"].T
    return y, (y, s.real, s.imag)
