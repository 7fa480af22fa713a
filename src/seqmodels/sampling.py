"""Drawing sequences from a model, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def choose_next(
    logits: Tensor,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """One token per row, from softmax(logits / temperature) cut to its likeliest part.

    Args:
        logits: (B, V).
        generator: on the device of the logits.
        temperature: ≥ 0; 0 takes the likeliest token.
        top_k: only the k likeliest tokens, k ≥ 1.
        top_p: only the smallest set of likeliest tokens whose probability reaches p, 0 < p ≤ 1
            (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).

    Returns:
        (B,) int64.
    """
    if temperature < torch.finfo(logits.dtype).tiny:  # it would divide by zero
        return logits.argmax(-1)
    # The likeliest at 0, so that no temperature makes it infinite.
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kept = logits.topk(top_k, dim=-1).indices  # (B, k), of equally likely ones no more
        others = torch.ones_like(logits, dtype=torch.bool).scatter(-1, kept, False)
        logits = logits.masked_fill(others, -torch.inf)
    if top_p is not None and top_p < 1.0:
        ordered, order = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        # The token that crosses p stays, so the first one always does.
        beyond = probabilities.cumsum(-1) - probabilities >= top_p
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)


def check_sampling(length: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError where a setting is out of its range."""
    if length < 1:
        raise ValueError(f"length must be >= 1, got {length}")
    if not temperature >= 0.0:
        raise ValueError(f"temperature must be >= 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be >= 1 or null, got {top_k}")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p must lie in (0, 1] or be null, got {top_p}")


@torch.inference_mode()
def stream(
    model: nn.Module,
    prompt: Tensor,
    length: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    exclude: tuple[int, ...] = (),
) -> Iterator[Tensor]:
    """Reads the prompt, then yields `length` times the next token of every row.

    The model is asked for one step at a time and its state carried, so the cost per token does not
    grow. The global random generator is not touched.

    Args:
        model: (ids (B, T), state) -> (logits (B, T, V), state).
        prompt: (B, T) int64, T ≥ 1, on the model's device.
        exclude: tokens that are never drawn (the unknown word).

    Yields:
        (B,) int64.
    """
    check_sampling(length, temperature, top_k, top_p)
    generator = torch.Generator(prompt.device).manual_seed(seed)
    was_training = model.training
    model.eval()
    try:
        tokens, state = prompt, None  # type: tuple[Tensor, Any]
        for _ in range(length):
            logits, state = model(tokens, state)
            last = logits[:, -1].float()  # (B, V)
            if exclude:
                last[:, list(exclude)] = -torch.inf
            chosen = choose_next(last, generator, temperature=temperature, top_k=top_k, top_p=top_p)
            yield chosen
            tokens = chosen.unsqueeze(1)  # (B, 1)
    finally:
        model.train(was_training)


def sample(model: nn.Module, prompt: Tensor, length: int, **settings: Any) -> Tensor:
    """The tokens of `stream` together: (B, length) int64."""
    return torch.stack(list(stream(model, prompt, length, **settings)), dim=1)
