"""The Jacobian of the whole state, over one step and over many: its spectrum.

    J_t = ∂s_t/∂s_{t-1}           P_k = J_k … J_2 J_1 = ∂s_k/∂s_0

s is the full state, h and c and lags side by side. Eigenvalues of J_t say what the step does near
s_{t-1}; singular values of P_k bound what is left of a gradient after k steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.steps import Step, jacobian
from seqmodels.cells.base import Cell, S


@torch.no_grad()
def step_jacobians(cell: Cell[Any], gates_x: Tensor, states: Tensor) -> Tensor:
    """J at R points: gates_x (R, G), s_{t-1} (R, N) -> (R, N, N), in float64."""
    own = Step(cell)
    found: Tensor = jacobian(lambda s, gates: own(gates, s), states, gates_x)
    return found.double()


def eigenvalues(jacobians: Tensor) -> Tensor:
    """(R, N, N) -> (R, N) complex, the largest modulus first."""
    values: Tensor = torch.linalg.eigvals(jacobians)
    return values.gather(-1, values.abs().argsort(dim=-1, descending=True))


def log_singular_values(
    factors: Sequence[Tensor], *, count: int | None = None, sweeps: int = 12
) -> Tensor:
    """Logarithms of the singular values of a product, however many orders of magnitude they span.

    Multiplied out in double precision, all below 1e-16 of the largest drown; those above 1e-10 are
    taken from there. For the others orthonormal directions go through the factors one by one and
    are made orthonormal again after each, then back through the transposed factors, and so on: a
    subspace iteration on PᵀP whose triangular factors' diagonals tend to the singular values. What
    is off in a sweep falls as σ_{i+1}/σ_i; values closer to each other than that share their
    product exactly, and are off by no more than their own distance.

    Args:
        factors: J_1, J_2, …, each (B, N, N); the product is … J_2 J_1.
        count: K, the largest alone; None: all N.
        sweeps: at most; it stops when nothing moves any more.

    Returns:
        (B, K), descending; −∞ for what is exactly singular.

    Reference: Dieci & Van Vleck, "Lyapunov spectral intervals: theory and computation", SIAM
    Journal on Numerical Analysis 40, 2002. https://doi.org/10.1137/S0036142901392304
    """
    if not factors:
        raise ValueError("expected at least one factor")
    batch, size = factors[0].shape[:2]
    count = size if count is None else min(count, size)
    parts = [factor.double() for factor in factors]
    if len(parts) == 1:
        single: Tensor = torch.linalg.svdvals(parts[0])[:, :count]
        return single.log()
    direct = _direct(parts)[:, :count]
    exact = direct > direct[:, :1] - math.log(1e10)
    if bool(exact.all()):
        return direct
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(size, count, dtype=torch.float64, generator=generator).to(parts[0])
    q: Tensor = torch.linalg.qr(start)[0].expand(batch, -1, -1)
    found = parts[0].new_full((batch, count), torch.nan)
    for _ in range(max(2, sweeps)):
        logs = torch.zeros_like(found)
        for part in parts:
            q, r = torch.linalg.qr(part @ q)
            logs = logs + r.diagonal(dim1=1, dim2=2).abs().log()
        parts = [part.mT for part in reversed(parts)]
        still = bool(torch.isclose(logs, found, rtol=1e-9, atol=1e-9).all())
        found = logs
        if still:
            break
    return torch.where(exact, direct, found.sort(dim=1, descending=True).values)


def _direct(parts: Sequence[Tensor]) -> Tensor:
    """Of the product multiplied out, with its scale kept apart: (B, N), descending."""
    product, scale = parts[0], torch.zeros_like(parts[0][:, 0, 0])
    for part in parts[1:]:
        size = product.abs().amax((1, 2)).clamp(min=1e-300)
        product, scale = part @ (product / size[:, None, None]), scale + size.log()
    values: Tensor = torch.linalg.svdvals(product)
    return values.log() + scale.unsqueeze(1)


@dataclass(frozen=True)
class Products:
    """Spectra of Jacobian products along one stretch of time.

    Attributes:
        lags (K): the numbers of steps k.
        log_singular_values (K, B, C): of P_k, natural logarithms, descending.
    """

    lags: list[int]
    log_singular_values: Tensor

    def growth(self) -> Tensor:
        """(K, C): per step, log σ / k, mean over the batch."""
        lags = torch.tensor(self.lags, dtype=torch.float64)
        return self.log_singular_values.mean(1) / lags.unsqueeze(1)


@torch.no_grad()
def product_spectra(
    cell: Cell[S],
    x: Tensor,
    state: S | None = None,
    *,
    lags: Sequence[int] = (1, 2, 5, 10, 20, 50),
    count: int | None = None,
    sweeps: int = 12,
) -> Products:
    """Singular values of ∂s_k/∂s_0 along a signal, for several k.

    Args:
        cell: any cell.
        x: (T, B, I), T >= max(lags).
        state: s_0; None is the initial state.
        lags: the k, >= 1.
        count, sweeps: see `log_singular_values`.

    Raises:
        ValueError: a lag is out of range, or shapes do not fit.
    """
    cell.check(x, state, None)
    if not lags or min(lags) < 1 or max(lags) > len(x):
        raise ValueError(f"expected lags within 1 … T = {len(x)}, got {list(lags)}")
    own = Step(cell)
    s = own.initial(x.shape[1] // cell.places).to(x) if state is None else own.flat(state)
    gates = own.gates(x)
    factors = []
    for gates_x in gates[: max(lags)].unbind(0):
        factors.append(jacobian(lambda v, g: own(g, v), s, gates_x).double())
        s = own(gates_x, s)
    found = [log_singular_values(factors[:k], count=count, sweeps=sweeps) for k in lags]
    return Products(list(lags), torch.stack(found))
