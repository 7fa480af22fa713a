"""The Legendre memory unit and the clockwork network in NumPy."""

from __future__ import annotations

import numpy as np

from seqmodels.cells import ClockworkCell, LMUCell
from twins_leaky import Array, arrays


def lmu_twin(cell: LMUCell, x: Array, h: Array, m: Array) -> tuple[Array, tuple[Array, ...]]:
    p = arrays(cell)
    a, b = cell.memory_a.numpy(), cell.memory_b.numpy()
    u = x @ p["encoder_x"] + h @ p["encoder_h"] + m @ p["encoder_m"]  # (B)
    m = m @ a.T + u[:, None] * b
    bias = p["bias_ih"] + p["bias_hh"]
    h = np.tanh(bias + x @ p["weight_ih"].T + h @ p["weight_hh"].T + m @ p["weight_mh"].T)
    return h, (h, m)


def clockwork_twin(
    cell: ClockworkCell, x: Array, h: Array, t: Array
) -> tuple[Array, tuple[Array, ...]]:
    """Module by module, each reading its own units and those of the slower ones."""
    p = arrays(cell)
    count, size = len(cell.periods), h.shape[1]
    sizes = [size // count + (n < size % count) for n in range(count)]
    new, low = h.copy(), 0
    for period, units in zip(cell.periods, sizes, strict=True):
        rows = slice(low, low + units)
        a = x @ p["weight_ih"][rows].T + p["bias_ih"][rows] + p["bias_hh"][rows]
        a = a + h[:, low:] @ p["weight_hh"][rows, low:].T
        moves = np.mod(np.round(t[:, 0]), period) == 0
        new[moves, rows] = np.tanh(a)[moves]
        low += units
    t = t + 1
    return new, (
        new,
        np.where(np.round(t) < np.lcm.reduce(cell.periods), t, t - np.lcm.reduce(cell.periods)),
    )
