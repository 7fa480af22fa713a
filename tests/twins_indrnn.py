"""The equations of the independently recurrent network and of the sLSTM, written again in NumPy."""

from __future__ import annotations

import numpy as np

from seqmodels.cells import IndRNNCell, SLSTMCell
from twins_leaky import SIGMA, Array, arrays, sigmoid


def indrnn_twin(cell: IndRNNCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    bound = np.inf if cell.bound is None else cell.bound
    u = np.sign(p["weight_hh"]) * np.minimum(np.abs(p["weight_hh"]), bound)
    a = p.get("bias_ih", 0) + p.get("bias_hh", 0) + u * h + x @ p["weight_ih"].T
    h = SIGMA[cell.nonlinearity](a)
    return h, (h,)


def slstm_twin(
    cell: SLSTMCell, x: Array, h: Array, c: Array, n: Array, m: Array
) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    units, size = cell.hidden_size, cell.hidden_size // cell.num_heads
    w = np.zeros((4 * units, units))
    for row in range(4 * units):
        first = row % units // size * size
        w[row, first : first + size] = p["weight_hh"][row]
    a = p.get("bias_ih", 0) + p.get("bias_hh", 0) + h @ w.T + x @ p["weight_ih"].T
    i, f, z, o = np.split(a, 4, axis=-1)
    if cell.forget == "sigmoid":
        f = np.log(sigmoid(f))
    new_m = np.where(n == 0, i, np.maximum(f + m, i))
    retain = np.where(n == 0, 0, np.exp(f + m - new_m))
    write = np.exp(i - new_m)
    c, n = retain * c + write * np.tanh(z), retain * n + write
    h = sigmoid(o) * c / np.maximum(n, 1)
    return h, (h, c, n, new_m)
