"""Penalties on what the recurrent layers put out: its size, and its change from step to step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ActivationPenalty:
    """α · mean (m·h_t)² + β · mean (h_t - h_{t-1})², over units, sequences and steps.

    h is the output of the model's backbone, m·h what is left of it after the head's dropout. The
    first is activation regularisation (AR), against large activations; the second temporal
    activation regularisation (TAR), against restless ones. Steps within a sequence count, and
    pairs of two such; the pair across two chunks does not.

    Args:
        model: with a `backbone` that is called as backbone(x, state, lengths), and a `head` with
            the module `dropout`.
        ar: α >= 0, finite.
        tar: β >= 0, finite.

    Raises:
        ValueError: a weight is out of range, or the model has no such parts.

    Reference: Merity, McCann & Socher, "Revisiting activation regularization for language RNNs",
    2017, https://arxiv.org/abs/1708.01009; used with α = 2, β = 1 in Merity, Keskar & Socher,
    "Regularizing and optimizing LSTM language models", 2017, https://arxiv.org/abs/1708.02182.
    """

    def __init__(self, model: nn.Module, ar: float, tar: float) -> None:
        for name, weight in (("ar", ar), ("tar", tar)):
            if not 0.0 <= weight < math.inf:
                raise ValueError(f"{name} must be a finite weight >= 0, got {weight}")
        self._weights = {name: weight for name, weight in (("ar", ar), ("tar", tar)) if weight}
        self._hidden: Tensor | None = None  # (B, T, H)
        self._dropped: Tensor | None = None  # the same in any order of its axes
        self._lengths: Tensor | None = None
        if not self._weights:
            return
        backbone = getattr(model, "backbone", None)
        dropout = getattr(getattr(model, "head", None), "dropout", None)
        if not isinstance(backbone, nn.Module) or not isinstance(dropout, nn.Module):
            raise ValueError(
                f"ar and tar are for models with a backbone and a head with dropout, and "
                f"{type(model).__name__} has none: set them to 0"
            )
        backbone.register_forward_hook(self._see_backbone, with_kwargs=True)
        dropout.register_forward_hook(self._see_dropout)

    def _see_backbone(self, module: nn.Module, given: Any, named: Any, found: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self._hidden = found[0]
            self._lengths = named.get("lengths", given[2] if len(given) > 2 else None)

    def _see_dropout(self, module: nn.Module, given: Any, found: Tensor) -> None:
        if module.training and torch.is_grad_enabled():
            self._dropped = found

    def terms(self) -> Mapping[str, Tensor]:
        """α and β times their means of the last call in training, by the names ar and tar.

        Forgets the call; empty where both weights are 0.
        """
        hidden, dropped, lengths = self._hidden, self._dropped, self._lengths
        self._hidden = self._dropped = self._lengths = None
        if not self._weights:
            return {}
        assert hidden is not None and dropped is not None
        batch, steps, width = hidden.shape
        if lengths is None:
            lengths = hidden.new_full((batch,), steps, dtype=torch.int64)
        lengths = lengths.to(hidden.device)
        found = {}
        if "ar" in self._weights:  # padding is zero; a pooled sequence is one vector
            vectors = lengths.sum() if dropped.numel() == hidden.numel() else batch
            found["ar"] = dropped.square().sum() / (vectors * width)
        if "tar" in self._weights:
            after = torch.arange(1, steps, device=hidden.device) < lengths.unsqueeze(1)  # (B, T-1)
            moved = (hidden[:, 1:] - hidden[:, :-1]) * after.unsqueeze(-1)
            found["tar"] = moved.square().sum() / (after.sum().clamp(min=1) * width)
        return {name: self._weights[name] * value for name, value in found.items()}
