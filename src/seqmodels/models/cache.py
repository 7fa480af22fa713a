"""The words of the recent past, likelier to come again: a cache for evaluation."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqmodels.models.sequence import SequenceModel, State


class CacheState(NamedTuple):
    """Of the model, and of the last steps: outputs (B, W, H), what they read (B, W) int64."""

    model: State
    hidden: Tensor
    read: Tensor


class ContinuousCache(nn.Module):
    """A trained language model with a memory of what followed similar states lately.

        p(w | x_{≤t}) = (1 − λ) softmax(o_t)_w + λ Σ_{i: x_{i+1} = w} a_{ti}
        a_t = softmax_i (θ h_tᵀ h_i)                    over the last `size` steps i < t

    h_i is the output of the last layer, which is what x_{i+1} followed. Nothing is trained. Where
    nothing has been read yet, λ is 0.

    Args:
        model: whose backbone runs forwards.
        size: steps that are remembered, ≥ 1.
        theta: θ ≥ 0, how much more alike states count.
        weight: λ in [0, 1].

    Shapes: as `SequenceModel`; the outputs (B, T, V) are log-probabilities.

    Raises:
        ValueError: a setting is out of its range; lengths are given.

    Reference: Grave, Joulin & Usunier 2017, https://arxiv.org/abs/1612.04426.
    """

    def __init__(self, model: SequenceModel, *, size: int, theta: float, weight: float) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"the size of a cache must be >= 1, got {size}")
        if not theta >= 0.0:
            raise ValueError(f"theta must be >= 0, got {theta}")
        if not 0.0 <= weight <= 1.0:
            raise ValueError(f"the weight of a cache must lie in [0, 1], got {weight}")
        self.model = model
        self.size = size
        self.theta = theta
        self.weight = weight

    def forward(
        self, inputs: Tensor, state: CacheState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, CacheState]:
        if lengths is not None:
            raise ValueError("a cache is for one long text, in which no sequence ends early")
        net, before = self.model, None if state is None else state.model
        hidden, after = net.backbone(net.embedding(inputs), before, None)  # (B, T, H)
        logits = net.head(hidden).log_softmax(-1)  # (B, T, V)
        keys, read = hidden, inputs
        if state is not None:
            keys = torch.cat((state.hidden, hidden), 1)  # (B, W + T, H)
            read = torch.cat((state.read, inputs), 1)
        remembered = self._remembered(hidden, keys, read, logits)
        # What followed the last of these is told by the first word of the next call.
        kept = CacheState(after, keys[:, -self.size :], read[:, -self.size :])
        return remembered, kept

    def _remembered(self, hidden: Tensor, keys: Tensor, read: Tensor, logits: Tensor) -> Tensor:
        """The mixture's log-probabilities (B, T, V)."""
        steps, past = hidden.shape[1], keys.shape[1] - hidden.shape[1]
        followed = read[:, 1:]  # (B, W + T − 1): after step i of the past came this
        now = torch.arange(past, past + steps, device=read.device).unsqueeze(1)  # (T, 1)
        ago = now - torch.arange(followed.shape[1], device=read.device)  # (T, W + T − 1)
        seen = (ago >= 1) & (ago <= self.size)
        if not bool(seen.any()):
            return logits
        scores = self.theta * (hidden @ keys[:, :-1].transpose(1, 2))  # (B, T, W + T − 1)
        scores = scores.masked_fill(~seen, -torch.inf)
        some = seen.any(1)  # (T,)
        shares = scores[:, some].softmax(-1)
        words = followed.unsqueeze(1).expand_as(shares)
        cached = torch.zeros_like(logits[:, some]).scatter_add_(2, words, shares)
        mixed = logits.clone()
        mixed[:, some] = torch.log(
            (1.0 - self.weight) * logits[:, some].exp() + self.weight * cached
        )
        return mixed


def with_cache(model: Any, *, size: int, theta: float, weight: float) -> ContinuousCache:
    """The model with a cache.

    Raises:
        ValueError: it is no model over tokens with one backbone and a head; a setting.
    """
    if not isinstance(model, SequenceModel):
        raise ValueError(
            f"a cache is for language models (model=sequence), and this one is a "
            f"{type(model).__name__}"
        )
    return ContinuousCache(model, size=size, theta=theta, weight=weight)
