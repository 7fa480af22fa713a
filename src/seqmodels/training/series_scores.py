"""How well series are forecast: with the true past at hand, and on a model's own outputs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.data.series import SeriesData

VALID_BELOW = 0.4  # normalised error up to which a forecast counts as valid (Pathak et al. 2018)


class Scores:
    """NMSE, NRMSE and R² over all answers.

        NMSE = Σ ‖y − ŷ‖² / Σ ‖y − ȳ‖²,  NRMSE = √NMSE,  R² = 1 − NMSE

    with ȳ the mean of what was asked for, and the sums over steps and columns.
    """

    def __init__(self) -> None:
        self.count = 0
        self._errors = self._squares = 0.0
        self._sums: Tensor | None = None

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """(N, O) each."""
        y = targets.double()
        self.count += len(y)
        self._errors += float((outputs.double() - y).square().sum())
        self._squares += float(y.square().sum())
        self._sums = y.sum(0) if self._sums is None else self._sums + y.sum(0)

    def values(self) -> dict[str, float]:
        if self._sums is None:
            return {}
        spread = self._squares - float(self._sums.square().sum()) / self.count
        nmse = self._errors / spread if spread > 0 else math.nan
        return {"nrmse": math.sqrt(nmse), "nmse": nmse, "r2": 1 - nmse}


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
