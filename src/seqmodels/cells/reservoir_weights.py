"""Fixed random weights: sparse matrices of an exact spectral radius."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Topology = Literal["random", "orthogonal", "ring", "delay_line"]
Distribution = Literal["uniform", "normal", "sign"]
_LARGE = 400  # units from which the sparse eigensolver is the faster one


def draw(shape: tuple[int, ...], distribution: Distribution, density: float) -> Tensor:
    """Independent numbers in float64, each zero with probability 1 - density.

    "uniform" on [-1, 1], "normal" of deviation 1, "sign": -1 or 1. From torch's own generator.
    """
    kind = torch.float64
    if distribution == "uniform":
        values = torch.rand(shape, dtype=kind) * 2 - 1
    elif distribution == "normal":
        values = torch.randn(shape, dtype=kind)
    else:
        values = (torch.rand(shape) < 0.5).to(kind) * 2 - 1
    return values if density == 1 else values * (torch.rand(shape) < density)


def recurrent_weights(
    units: int, topology: Topology, density: float, distribution: Distribution, radius: float
) -> Tensor:
    """W (H, H), float64; see `ReservoirCell`.

    Raises:
        ValueError: the radius cannot be reached.
    """
    if topology in ("ring", "delay_line"):
        line = torch.diag(torch.full((units - 1,), radius, dtype=torch.float64), -1)
        if topology == "ring":
            line[0, -1] += radius
        return line
    if topology == "orthogonal":
        q, r = torch.linalg.qr(torch.randn(units, units, dtype=torch.float64))
        signs: Tensor = r.diagonal().sign()
        rotation: Tensor = q * (radius * signs)  # Haar measure: the signs made positive
        return rotation
    drawn = draw((units, units), distribution, density)
    if radius == 0:
        return torch.zeros_like(drawn)
    # Where there is no eigenvalue but 0, rounding would make 1e-16^(1/H) of it.
    if not _has_cycle(drawn) or (distribution == "sign" and _cancels(drawn)):
        raise ValueError(
            f"the spectral radius {radius} cannot be reached: of the {units} × {units} recurrent "
            f"weights {int((drawn != 0).sum())} are not zero, and they form no cycle"
            + (" that does not cancel" if _has_cycle(drawn) else "")
            + f"; raise the density (now {density}) or the number of units"
        )
    return drawn * (radius / spectral_radius(drawn))


def _has_cycle(matrix: Tensor) -> bool:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if bool(matrix.diagonal().any()):
        return True
    count, _ = connected_components(csr_matrix(matrix.numpy()), connection="strong")
    return bool(count < len(matrix))


def _cancels(signs: Tensor) -> bool:
    """Whether W^H = 0 for signs, as of [[1, −1], [1, −1]]: exact while no product passes 2^53.

    Larger ones are not asked: that all their cycles cancel has no chance to speak of.
    """
    units = len(signs)
    return units <= 12 and not bool(torch.linalg.matrix_power(signs, units).any())


def spectral_radius(matrix: Tensor) -> float:
    """The greatest modulus of an eigenvalue, by SciPy's Arnoldi solver for large sparse ones."""
    units = len(matrix)
    values = matrix.detach().double().cpu()
    if units > _LARGE and int((values != 0).sum()) < 0.3 * units * units:
        import numpy as np
        from scipy.sparse import csr_matrix
        from scipy.sparse.linalg import ArpackError, eigs

        start = np.random.default_rng(0).standard_normal(units)  # the same result at each call
        try:
            found = eigs(csr_matrix(values.numpy()), k=6, v0=start, return_eigenvectors=False)
            return float(np.abs(found).max())
        except ArpackError:
            pass  # it did not converge: the whole spectrum is slower and sure
    return float(torch.linalg.eigvals(values).abs().max())
