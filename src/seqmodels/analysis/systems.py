"""Cells as dynamical systems, autonomous and driven; other maps and flows beside them.

Whatever is s_{t+1} = f(s_t) is a `Map`: a function (B, N) -> (B, N) that treats its rows alike. A
cell with constant input is one (`Autonomous`), so is a step of a differential equation (`rk4`), and
so is any function that you write. All analysis of dynamics takes any of them.
"""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from seqmodels.analysis.steps import Map, Step
from seqmodels.cells.base import Cell, S
from seqmodels.cells.exposed import Exposed
from seqmodels.scan import scan


class Autonomous(Generic[S]):
    """A cell with constant input: s_t = f(s_{t-1}), a `Map` of the whole state.

    Args:
        cell: any cell whose state has floating fields alone. Its weights are read once, here.
        x: the input of every step (I); None is zero.

    Attributes:
        size: N, the width of all fields of the state side by side.
        step: the cell's step, which knows the fields (`step.state(s)`).

    >>> from seqmodels.cells import LSTMCell
    >>> f = Autonomous(LSTMCell(3, 4))
    >>> tuple(trajectory(f, f.initial(5), steps=10).shape)  # (T + 1, B, N)
    (11, 5, 8)
    """

    def __init__(self, cell: Cell[S], x: Tensor | None = None) -> None:
        self.step = Step(cell)
        self.size = self.step.size
        if x is None:
            x = self.step.initial().new_zeros(cell.input_size)
        if x.shape != (cell.input_size,):
            raise ValueError(
                f"{type(cell).__name__}: a constant input is one vector ({cell.input_size},), got "
                f"{tuple(x.shape)}; a sequence of inputs is for `driven`"
            )
        self._gates_x = self.step.gates(x.expand(1, cell.places, -1))[0]  # (1, G)

    def __call__(self, s: Tensor) -> Tensor:
        return self.step(self._gates_x.expand(len(s), -1), s)

    def initial(self, batch_size: int = 1) -> Tensor:
        """The cell's initial state (B, N)."""
        return self.step.initial(batch_size)

    def around(self, batch_size: int, spread: float = 1.0, seed: int = 0) -> Tensor:
        """Starts (B, N) scattered round the initial state, N(0, spread²) a field."""
        first = self.initial(batch_size)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(first.shape, generator=generator, dtype=first.dtype)
        return first + spread * noise.to(first.device)


def check_start(start: Tensor) -> None:
    """Refuse what is no batch of states."""
    if start.dim() != 2 or 0 in start.shape or not start.is_floating_point():
        raise ValueError(
            f"expected starts (B, N), floating, got {tuple(start.shape)} of {start.dtype}"
        )


@torch.no_grad()
def trajectory(f: Map, start: Tensor, steps: int, *, burn_in: int = 0, every: int = 1) -> Tensor:
    """States along f from each start.

    Args:
        f: any map.
        start: (B, N).
        steps: T >= 1.
        burn_in: steps before the first state that is kept.
        every: keep one state in so many steps.

    Returns:
        (T // every + 1, B, N); the first is the start itself, or where burn_in led.
    """
    check_start(start)
    if steps < 1 or burn_in < 0 or every < 1:
        raise ValueError(
            "expected steps >= 1, burn_in >= 0 and every >= 1, "
            f"got {steps!r}, {burn_in!r} and {every!r}"
        )
    s = start
    for _ in range(burn_in):
        s = f(s)
    kept = [s]
    for t in range(1, steps + 1):
        s = f(s)
        if t % every == 0:
            kept.append(s)
    return torch.stack(kept)


@torch.no_grad()
def driven(cell: Cell[S], x: Tensor, state: S | None = None) -> Tensor:
    """The whole states of a cell driven by a signal: x (T, B, I) -> s_1 … s_T (T, B, N)."""
    wrapped = Exposed(cell)
    states, _ = scan(wrapped, x, None if state is None else wrapped.adopt(state))
    return states


def rk4(field: Map, dt: float) -> Map:
    """A step of ds/dt = field(s) over the time dt, fourth order, as a map."""

    def step(s: Tensor) -> Tensor:
        k1 = field(s)
        k2 = field(s + dt / 2 * k1)
        k3 = field(s + dt / 2 * k2)
        k4 = field(s + dt * k3)
        return s + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def lorenz(sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> Map:
    """dx = σ(y - x), dy = x(ρ - z) - y, dz = xy - βz (Lorenz, 1963): chaotic with these values.

    Reference: https://doi.org/10.1175/1520-0469(1963)020<0130:DNF>2.0.CO;2
    """

    def field(s: Tensor) -> Tensor:
        x, y, z = s.unbind(-1)
        return torch.stack((sigma * (y - x), x * (rho - z) - y, x * y - beta * z), -1)

    return field


def roessler(a: float = 0.2, b: float = 0.2, c: float = 5.7) -> Map:
    """dx = -y - z, dy = x + ay, dz = b + z(x - c) (Rössler, 1976): chaotic with these values.

    Reference: https://doi.org/10.1016/0375-9601(76)90101-8
    """

    def field(s: Tensor) -> Tensor:
        x, y, z = s.unbind(-1)
        return torch.stack((-y - z, x + a * y, b + z * (x - c)), -1)

    return field
