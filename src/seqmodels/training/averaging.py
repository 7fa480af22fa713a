"""Averages of the weights over the steps, from a trigger on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Averaging:
    """Averaged SGD with a non-monotonic trigger (NT-ASGD).

        θ̄ = 1/(k − K) Σ_{i = K+1 … k} θ_i                      after step k, triggered at step K

    It is triggered by the first validation whose loss is worse than the best of all but the last
    `patience` before it. From then on every validation, and the model that is left, has θ̄ for its
    weights; training goes on with θ.

    Args:
        parameters: that are trained.
        patience: n ≥ 1, the non-monotone interval.

    Reference: Merity, Keskar & Socher, "Regularizing and optimizing LSTM language models", 2017,
    https://arxiv.org/abs/1708.02182, algorithm 1 (with its logging interval the validations here).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], patience: int) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f"average_after must be a positive integer or null, got {patience!r}")
        self.parameters = list(parameters)
        self.patience = patience
        self.losses: list[float] = []
        self.steps = 0  # in the average
        self.active = False
        self._means: list[Tensor] = []
        self._own: list[Tensor] | None = None  # θ, while θ̄ is in its place

    def after_step(self) -> None:
        """Takes the weights of a step into the average."""
        if not self.active:
            return
        self.steps += 1
        for mean, parameter in zip(self._means, self.parameters, strict=True):
            mean.lerp_(parameter.detach(), 1.0 / self.steps)

    def after_validation(self, loss: float) -> None:
        """Looks whether it is time."""
        earlier = self.losses[: max(0, len(self.losses) - self.patience)]
        if not self.active and earlier and loss > min(earlier):
            self.active = True
            self._means = [p.detach().clone() for p in self.parameters]
        self.losses.append(loss)

    @torch.no_grad()
    def put_in(self) -> None:
        """θ̄ for θ, where there is one."""
        if self.steps and self._own is None:
            self._own = [p.detach().clone() for p in self.parameters]
            for parameter, mean in zip(self.parameters, self._means, strict=True):
                parameter.copy_(mean)

    @torch.no_grad()
    def take_out(self) -> None:
        """θ again."""
        if self._own is not None:
            for parameter, own in zip(self.parameters, self._own, strict=True):
                parameter.copy_(own)
            self._own = None

    def state_dict(self) -> dict[str, Any]:
        own = self._own if self._own is not None else [p.detach() for p in self.parameters]
        return {
            "losses": list(self.losses),
            "steps": self.steps,
            "active": self.active,
            "means": [mean.clone() for mean in self._means],
            "own": [each.clone() for each in own] if self.active else [],
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.losses = list(state["losses"])
        self.steps, self.active = state["steps"], state["active"]
        pairs = zip(state["means"], self.parameters, strict=self.active)
        self._means = [mean.to(parameter) for mean, parameter in pairs] if self.active else []
        for parameter, own in zip(self.parameters, state["own"], strict=self.active):
            parameter.copy_(own)
