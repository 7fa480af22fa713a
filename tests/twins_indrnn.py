"""The equations of the independently recurrent network and of the sLSTM, written again in NumPy."""

from __future__ import annotations

import numpy as np

from seqmodels.cells import IndRNNCell
from twins_leaky import SIGMA, Array, arrays


def indrnn_twin(cell: IndRNNCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    bound = np.inf if cell.bound is None else cell.bound
    u = np.sign(p["weight_hh"]) * np.minimum(np.abs(p["weight_hh"]), bound)
    a = p.get("bias_ih", 0) + p.get("bias_hh", 0) + u * h + x @ p["weight_ih"].T
    h = SIGMA[cell.nonlinearity](a)
    return h, (h,)
