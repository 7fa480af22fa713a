"""Clipping within back-propagation through time, at each recurrent step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from seqmodels.cells.clipped_steps import ClippedSteps, How, StepTally
from seqmodels.layers import Recurrent
from seqmodels.training.clipping import Clip, Clipped, gradients_of, positive, total_norm


class StepClip(Clip):
    """Bounds the gradient on its way from each step to the one before, for every sequence alone.

        δ_t = ∂L/∂y_t-part + clip_b(δ_{t+1} · ∂s_{t+1}/∂s_t)

    See `seqmodels.cells.clipped_steps.ClippedSteps` for the three ways. The gradient of the
    parameters follows from these δ and is not clipped again. δ belongs to the loss that is trained,
    a mean over the batch: a sequence's own share is smaller by the number of predictions.

    Acts in training on every `Recurrent` layer of the model, which then runs on the eager engine:
    no other can reach between two steps. A layer that names another engine is refused.

    Args:
        max_norm: the bound, > 0: on a sequence's norm over the whole state (how="norm", "cut") or
            on each element (how="value").
        how: "norm" scales down to the bound, "value" cuts the elements, "cut" ends the way back at
            that step for that sequence.
    """

    def __init__(self, max_norm: float = 1.0, how: How = "norm") -> None:
        self.max_norm = positive("max_norm", max_norm)
        self.how: How = how
        self._tally = StepTally()
        ClippedSteps.check_how(how)

    def attach(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, Recurrent)]
        if not layers:
            raise ValueError(
                "clip=step acts between the steps of recurrent layers and the model has none: use "
                "another policy, such as clip=norm"
            )
        for layer in layers:
            layer.wrap_training(
                "clip", lambda cell: ClippedSteps(cell, self._bound, self.how, self._tally)
            )

    def _bound(self) -> float:
        return self.max_norm * self.loss_scale

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        norm = total_norm(gradients_of(parameters))
        told = self._tally.take(norm)
        details = {
            "clipped_steps_share": told.clipped / torch.clamp(told.seen, min=1),
            "step_norm_max": told.before / self.loss_scale,
            "step_norm_after_max": told.after / self.loss_scale,
        }
        return Clipped(norm, norm, told.clipped > 0, details=details)
