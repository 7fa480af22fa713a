"""How well series are forecast: with the true past at hand, and on a model's own outputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.data.series import SeriesData

VALID_BELOW = 0.4  # normalised error up to which a forecast counts as valid (Pathak et al. 2018)


class Scores:
    """NMSE, NRMSE and R² over all answers, and the memory capacity where that is asked for.

        NMSE = Σ ‖y − ŷ‖² / Σ ‖y − ȳ‖²,  NRMSE = √NMSE,  R² = 1 − NMSE
        MC = Σ_o cov²(y_o, ŷ_o) / (var y_o · var ŷ_o)

    with ȳ the mean of what was asked for, the first sums over steps and columns, the last over
    the columns.

    Args:
        capacity: whether to report MC.
    """

    def __init__(self, *, capacity: bool = False) -> None:
        self.count = 0
        self.capacity = capacity
        self._errors = 0.0
        self._sums: Tensor | None = None  # (5, O): of y, ŷ, y², ŷ², y ŷ

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """(N, O) each."""
        y, said = targets.double(), outputs.double()
        self.count += len(y)
        self._errors += float((said - y).square().sum())
        sums = torch.stack([v.sum(0) for v in (y, said, y.square(), said.square(), y * said)])
        self._sums = sums if self._sums is None else self._sums + sums

    def values(self) -> dict[str, float]:
        if self._sums is None:
            return {}
        y, said, y2, said2, product = self._sums / self.count
        variances, spread = y2 - y.square(), said2 - said.square()
        total = float(variances.sum()) * self.count
        nmse = self._errors / total if total > 0 else math.nan
        values = {"nrmse": math.sqrt(nmse), "nmse": nmse, "r2": 1 - nmse}
        if self.capacity:
            # Rounding alone moves an answer that is constant: it remembers nothing.
            told = spread > 1e-14 * said2
            by_lag = (product - y * said).square() / (variances * spread)
            values["memory_capacity"] = float(by_lag[told].sum())
        return values


@torch.no_grad()
def free_run(
    model: nn.Module,
    state: Any,
    first: Tensor,
    steps: int,
    feedback: int,
    drive: Tensor | None = None,
) -> Tensor:
    """Lets a model read its own outputs.

    Args:
        model: (B, 1, I), state -> (B, 1, O), state, with O = feedback.
        state: before the first step; None: the initial one.
        first: (B, I), the inputs of the first step.
        steps: S >= 1.
        feedback: how many of the last inputs are outputs of the step before.
        drive: (B, S, I − feedback), the other inputs of all steps; None where there are none.

    Returns:
        The outputs (B, S, O).
    """
    x = first
    made = []
    for step in range(steps):
        output, state = model(x.unsqueeze(1), state)
        made.append(output[:, 0])
        if step + 1 < steps:
            own = output[:, 0]
            x = own if drive is None else torch.cat((drive[:, step + 1], own), 1)
    return torch.stack(made, 1)


def _map(function: Any, *states: Any) -> Any:
    """The same nested tuple, of what the function makes of the tensors at each place."""
    if isinstance(states[0], Tensor):
        return function(states)
    parts = [_map(function, *each) for each in zip(*states, strict=True)]
    kind = type(states[0])
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


@torch.no_grad()
def start_left(model: nn.Module, data: SeriesData, seed: int = 0) -> float:
    """How much of where it started a model's state still holds after the washout.

        ‖s_w − s'_w‖ / ‖s_0 − s'_0‖

    with s_0 the initial state, s'_0 uniform on [−1, 1], and both under the inputs with which the
    first test series begins (w = `washout`, 100 where that is shorter). A network with the echo
    state property (Jaeger 2001) goes to 0: its state is a function of what it has read.
    """
    like = next(p for p in model.parameters() if p.is_floating_point())
    inputs = torch.from_numpy(data.series("test")[0].inputs).to(like)[: max(100, data.washout)]
    generator = torch.Generator().manual_seed(seed)

    def drawn(tensors: tuple[Tensor, ...]) -> Tensor:
        (like,) = tensors
        if not like.is_floating_point():
            return like
        uniform = torch.rand(like.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return uniform.to(like)

    zero = model.initial_state(1, like)  # type: ignore[operator]
    other = _map(drawn, zero)
    (_, one), (_, two) = model(inputs[None], zero), model(inputs[None], other)
    return _distance(one, two) / _distance(zero, other)


def _distance(one: Any, two: Any) -> float:
    squares = [0.0]

    def add(pair: tuple[Tensor, ...]) -> Tensor:
        squares[0] += float((pair[0].double() - pair[1].double()).square().sum())
        return pair[0]

    _map(add, one, two)
    return math.sqrt(squares[0])


@torch.no_grad()
def free_runs(model: nn.Module, data: SeriesData) -> tuple[Tensor, Tensor] | None:
    """Free runs from `free_starts` places of the test series: outputs and truth (N, S, O)."""
    like = next(p for p in model.parameters() if p.is_floating_point())
    parts = data.series("test")
    if not data.free_steps or not parts:
        return None
    share = -(-data.free_starts // len(parts))
    outputs, truths = [], []
    for part in parts:
        inputs = torch.from_numpy(part.inputs).to(like)  # (T, I)
        targets = torch.from_numpy(part.targets).to(like)
        room = len(inputs) - data.free_steps - part.lead
        if room < 0:
            raise ValueError(
                f"data.free_steps: {data.free_steps} steps do not fit into a test part of "
                f"{len(inputs) - part.lead}"
            )
        count = min(share, room + 1)
        even = torch.linspace(part.lead, part.lead + room, count).long().tolist()
        places = sorted(set(even))
        states, at, state = [], 0, None
        for place in places:
            if place > at:
                _, state = model(inputs[None, at:place], state)
            at = place
            states.append(model.initial_state(1, like) if state is None else state)  # type: ignore[operator]
        together = _map(torch.cat, *states)
        spans = torch.tensor(places).unsqueeze(1) + torch.arange(data.free_steps)
        driven = inputs[spans][:, :, : -data.feedback] if inputs.shape[1] > data.feedback else None
        first = inputs[torch.tensor(places)]
        made = free_run(model, together, first, data.free_steps, data.feedback, driven)
        outputs.append(made)
        truths.append(targets[spans])
    return torch.cat(outputs), torch.cat(truths)


def free_scores(outputs: Tensor, truth: Tensor, data: SeriesData) -> dict[str, float]:
    """What free runs (N, S, O) came to.

    "nrmse_S": the error after S steps, over all starts, by the series' deviation: NRMSE84 of Jaeger
    2001 for S = 84. "valid_time": the median number of Lyapunov times (steps where the exponent is
    not known) until the error exceeds 0.4 of the deviation.
    """
    asked = torch.cat([torch.from_numpy(p.targets[p.lead :]) for p in data.series("test")])
    variance = float((asked - asked.mean(0)).square().sum(1).mean())
    errors = (outputs.double() - truth.double()).square().sum(2).cpu()  # (N, S)
    steps = errors.shape[1]
    values = {f"nrmse_{steps}": math.sqrt(float(errors[:, -1].mean()) / variance)}
    beyond = ~((errors / variance).sqrt() <= VALID_BELOW)
    first = torch.where(beyond.any(1), beyond.double().argmax(1), torch.tensor(steps))
    unit = 1.0 if data.source.lyapunov is None else data.source.step * data.source.lyapunov
    values["valid_time"] = float(first.double().median()) * unit
    return values
