"""What clipping did at the steps since the last logged one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seqmodels.training.clipping import Clipped


class GradientLog:
    """Norms before and after clipping and how often it engaged, kept on the device.

    Attributes:
        skipped_updates: refused since the run began; None where the policy refuses none.
    """

    def __init__(self) -> None:
        self._steps: list[dict[str, Tensor]] = []
        self.skipped_updates: int | None = None

    def add(self, clipped: Clipped) -> None:
        """What a policy did to one optimiser's gradient."""
        values = {"norm": clipped.norm, "norm_after": clipped.after, **clipped.details}
        values["clipped_share"] = clipped.engaged.to(clipped.norm)
        if clipped.skipped is not None:
            self.skipped_updates = (self.skipped_updates or 0) + clipped.skipped
            values["skipped_share"] = torch.full_like(clipped.norm, float(clipped.skipped))
        self._steps.append({name: value.detach() for name, value in values.items()})

    @property
    def empty(self) -> bool:
        return not self._steps

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def on_cpu(self) -> bool:
        return all(values["norm"].device.type == "cpu" for values in self._steps)

    def first_bad(self) -> tuple[int, float] | None:
        """The first NaN or infinite norm whose update was not refused: its place and value."""
        for place, values in enumerate(self._steps):
            norm = float(values["norm"])
            if not math.isfinite(norm) and not float(values.get("skipped_share", 0.0)):
                return place, norm
        return None

    def take(self) -> dict[str, float]:
        """The metrics of these steps, which are then forgotten: means, and what is in _max."""
        values: dict[str, float] = {}
        for name in self._steps[0]:
            each = torch.stack([step[name] for step in self._steps])
            largest = name.endswith("_max")
            values[f"gradient/{name}"] = float(each.max() if largest else each.mean())
            if name == "norm":
                values["gradient/norm_max"] = float(each.max())
        if self.skipped_updates is not None:
            values["gradient/skipped_updates"] = float(self.skipped_updates)
        self._steps = []
        return values

    def state(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        return {
            "steps": [dict(values) for values in self._steps],
            "skipped_updates": self.skipped_updates,
        }

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        self.skipped_updates = state["skipped_updates"]
        self._steps = [
            {name: value.to(device) for name, value in values.items()} for values in state["steps"]
        ]
