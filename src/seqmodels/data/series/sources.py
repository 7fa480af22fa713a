"""Where series come from: equations that are integrated, and what a user has in files."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

Array = np.ndarray


class Series(NamedTuple):
    """One series, in float64.

    targets (T, O): what is to be known. inputs (T, I): what drives it, at the same steps; None: the
    series is forecast from its own past. name: of the series, for messages.
    """

    targets: Array
    inputs: Array | None
    name: str


class Source(ABC):
    """Gives series.

    Attributes:
        title: in words.
        step: time between two steps, in the units of the system.
        lyapunov: the largest Lyapunov exponent per unit of time; None: not known, or none.
        names: of the columns of the targets.
        input_names: of the columns of the drive, where they have names.
        capacity: whether corr² summed over the columns is a memory capacity.
    """

    title: str
    step: float = 1.0
    lyapunov: float | None = None
    names: tuple[str, ...] = ("y",)
    input_names: tuple[str, ...] = ()
    endless: ClassVar[bool] = True
    capacity: bool = False

    @abstractmethod
    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        """Series of `steps` steps each; those of files are as long as they are."""


def _positive(owner: str, **numbers: float) -> None:
    for name, value in numbers.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{owner}: expected {name} > 0, got {value!r}")


@dataclass
class MackeyGlass(Source):
    """dy/dt = 0.2 y(t − τ) / (1 + y(t − τ)^10) − 0.1 y(t), one number per unit of time.

    Args:
        tau: τ > 0; 17 is mildly chaotic, 30 more so. A multiple of the integration step.
        method: "euler" (Jaeger 2001: step 0.1, every tenth value) or "rk4" with the same step, the
            delayed value held within it.
        squash: tanh(y − 1) in the place of y, as Jaeger 2001 has it.
        discard: units of time before the first value.

    Reference: Mackey & Glass, "Oscillation and chaos in physiological control systems", 1977,
    https://doi.org/10.1126/science.267326.
    """

    tau: float = 17.0
    method: str = "euler"
    squash: bool = False
    discard: int = 1000

    def __post_init__(self) -> None:
        _positive("MackeyGlass", tau=self.tau)
        if self.method not in ("euler", "rk4"):
            raise ValueError(f"MackeyGlass: method must be euler or rk4, got {self.method!r}")
        if abs(self.tau * 10 - round(self.tau * 10)) > 1e-9:
            raise ValueError(f"MackeyGlass: expected tau a multiple of 0.1, got {self.tau!r}")
        self.title = f"Mackey–Glass, τ = {self.tau:g}"
        self.lyapunov = 0.006 if self.tau == 17 else None  # about, per unit of time

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        inner, delay = 10, round(self.tau * 10)
        total = (self.discard + steps) * inner
        y = np.empty(delay + total + 1)
        y[: delay + 1] = 1.2 + 0.1 * (random.random(delay + 1) - 0.5)
        h = 1.0 / inner
        for t in range(delay, delay + total):
            late = y[t - delay]
            push = 0.2 * late / (1.0 + late**10)
            if self.method == "euler":
                y[t + 1] = y[t] + h * (push - 0.1 * y[t])
            else:  # with the delayed value held the equation is linear: four stages in one factor
                k = -0.1 * h
                factor = 1 + k / 2 + k * k / 6 + k**3 / 24
                y[t + 1] = y[t] + h * factor * (push - 0.1 * y[t])
        values = y[delay + 1 + self.discard * inner :][::inner][:steps, None]
        return [Series(np.tanh(values - 1.0) if self.squash else values, None, self.title)]


class _Flow(Source):
    """A differential equation, integrated by the classical Runge–Kutta method of fourth order."""

    start: ClassVar[tuple[float, ...]]
    discard_time: ClassVar[float] = 100.0

    @abstractmethod
    def field(self, s: Array) -> Array:
        """ds/dt (N) at s (N)."""

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        inner = max(1, math.ceil(self.step / 0.01 - 1e-9))
        h = self.step / inner
        s = np.asarray(self.start) + 0.1 * random.standard_normal(len(self.start))
        values = np.empty((steps, len(s)))
        lead = round(self.discard_time / self.step)
        for t in range(-lead, steps):
            for _ in range(inner):
                k1 = self.field(s)
                k2 = self.field(s + h / 2 * k1)
                k3 = self.field(s + h / 2 * k2)
                k4 = self.field(s + h * k3)
                s = s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            if t >= 0:
                values[t] = s
        return [Series(values, None, self.title)]


@dataclass
class Lorenz(_Flow):
    """dx = σ(y − x), dy = x(ρ − z) − y, dz = xy − βz with σ, ρ, β = 10, 28, 8/3 (Lorenz, 1963).

    Args:
        step: between two values, in units of time.
    """

    step: float = 0.02
    start: ClassVar[tuple[float, ...]] = (1.0, 1.0, 20.0)

    def __post_init__(self) -> None:
        _positive("Lorenz", step=self.step)
        self.title, self.lyapunov, self.names = "Lorenz", 0.9056, ("x", "y", "z")

    def field(self, s: Array) -> Array:
        x, y, z = s
        return np.array((10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z))


@dataclass
class Roessler(_Flow):
    """dx = −y − z, dy = x + 0.2 y, dz = 0.2 + z(x − 5.7) (Rössler, 1976).

    Args:
        step: between two values, in units of time.
    """

    step: float = 0.1
    start: ClassVar[tuple[float, ...]] = (1.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        _positive("Roessler", step=self.step)
        self.title, self.lyapunov, self.names = "Rössler", 0.0714, ("x", "y", "z")

    def field(self, s: Array) -> Array:
        x, y, z = s
        return np.array((-y - z, x + 0.2 * y, 0.2 + z * (x - 5.7)))


class _Map(Source):
    discard: ClassVar[int] = 1000

    @abstractmethod
    def start(self, random: np.random.Generator) -> Array:
        """The first state (N)."""

    @abstractmethod
    def move(self, s: Array) -> Array:
        """The next state (N)."""

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        s = self.start(random)
        values = np.empty((steps, len(s)))
        for t in range(-self.discard, steps):
            s = self.move(s)
            if t >= 0:
                values[t] = s
        return [Series(values[:, :1], None, self.title)]


@dataclass
class Henon(_Map):
    """x' = 1 − a x² + y, y' = b x; x is the series (Hénon, 1976)."""

    a: float = 1.4
    b: float = 0.3

    def __post_init__(self) -> None:
        self.title, self.names = "Hénon", ("x",)
        self.lyapunov = 0.4192 if (self.a, self.b) == (1.4, 0.3) else None

    def start(self, random: np.random.Generator) -> Array:
        return 0.1 * random.random(2)

    def move(self, s: Array) -> Array:
        return np.array((1.0 - self.a * s[0] ** 2 + s[1], self.b * s[0]))


@dataclass
class Logistic(_Map):
    """x' = r x (1 − x) on (0, 1); r = 4 has the exponent ln 2, others are periodic or chaotic."""

    r: float = 3.9

    def __post_init__(self) -> None:
        if not 0 < self.r <= 4:
            raise ValueError(f"Logistic: expected 0 < r <= 4, got {self.r!r}")
        self.title, self.names = f"logistic map, r = {self.r:g}", ("x",)
        self.lyapunov = math.log(2.0) if self.r == 4 else None

    def start(self, random: np.random.Generator) -> Array:
        return 0.1 + 0.8 * random.random(1)

    def move(self, s: Array) -> Array:
        # At r = 4 rounding would end at 0 for ever: a nudge of its size keeps the orbit alive.
        return np.clip(self.r * s * (1.0 - s), 1e-15, 1.0 - 1e-15)


@dataclass
class Narma(Source):
    """The nonlinear moving average of order n, driven by u uniform on [0, 0.5].

        n <= 10: y_{t+1} = 0.3 y_t + 0.05 y_t Σ_{i<n} y_{t−i} + 1.5 u_{t−n+1} u_t + 0.1
        n > 10:  y_{t+1} = tanh(0.3 y_t + 0.05 y_t Σ_{i<n} y_{t−i} + 1.5 u_{t−n+1} u_t + 0.01) + 0.2

    (the second after Rodan & Tiňo 2011: without the tanh a long order diverges sooner or later).

    What is asked for at step t is y_{t+1}, with u up to t known.

    Args:
        order: n >= 2.

    Reference: Atiya & Parlos, "New results on recurrent network training", 2000,
    https://doi.org/10.1109/72.846741.
    """

    order: int = 10

    def __post_init__(self) -> None:
        if self.order < 2:
            raise ValueError(f"Narma: expected order >= 2, got {self.order!r}")
        self.title = f"NARMA-{self.order}"

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        n, lead = self.order, 200
        for _ in range(100):
            u = 0.5 * random.random(lead + steps)
            y = np.zeros(lead + steps + 1)
            for t in range(n - 1, lead + steps):
                past = y[t - n + 1 : t + 1].sum()
                a = 0.3 * y[t] + 0.05 * y[t] * past + 1.5 * u[t - n + 1] * u[t]
                y[t + 1] = a + 0.1 if n <= 10 else math.tanh(a + 0.01) + 0.2
            if np.isfinite(y).all() and y.max() < 2:  # some inputs drive order 10 to infinity
                return [Series(y[lead + 1 :, None], u[lead:, None], self.title)]
        raise ValueError(f"{self.title}: no input of {steps} steps was found that stays bounded")


@dataclass
class Sines(Source):
    """Σ_k sin(2π t / p_k + φ_k) with random phases.

    Args:
        periods: p_k > 0, in steps; incommensurable ones never repeat.
    """

    periods: tuple[float, ...] = (23.0, 37.3, 61.7)

    def __post_init__(self) -> None:
        self.periods = tuple(float(p) for p in self.periods)
        if not self.periods:
            raise ValueError("Sines: expected at least one period")
        _positive("Sines", **{f"periods[{k}]": p for k, p in enumerate(self.periods)})
        self.title = f"{len(self.periods)} sines"

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        t = np.arange(steps)[:, None]
        phases = 2 * np.pi * random.random(len(self.periods))
        waves = np.sin(2 * np.pi * t / np.asarray(self.periods) + phases)
        return [Series(waves.sum(1, keepdims=True), None, self.title)]


@dataclass
class Echo(Source):
    """Memory: the target is the input of `lags` steps ago, u uniform on [−0.5, 0.5].

    Args:
        lags: k_1 … k_O >= 0, one target each; a number N stands for 1 … N, of which the run reports
            the memory capacity, Σ_k corr²(u_{t−k}, ŷ_k) <= N (Jaeger 2001).
    """

    lags: int | tuple[int, ...] = (1, 5, 10)
    _lags: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.capacity = isinstance(self.lags, int)
        many = range(1, self.lags + 1) if isinstance(self.lags, int) else self.lags
        self._lags = tuple(int(k) for k in many)
        if not self._lags or min(self._lags) < 0:
            raise ValueError(
                "Echo: expected lags >= 0, or a number >= 1 that stands for 1 … N, "
                f"got {self.lags!r}"
            )
        self.names = tuple(f"u(t−{k})" for k in self._lags)
        listed = ", ".join(map(str, self._lags))
        self.title = f"the input of {f'1 … {self.lags}' if self.capacity else listed} steps ago"

    def draw(self, random: np.random.Generator, steps: int) -> list[Series]:
        most = max(self._lags)
        u = random.random(most + steps) - 0.5
        targets = np.stack([u[most - k : most - k + steps] for k in self._lags], 1)
        return [Series(targets, u[most:, None], self.title)]
