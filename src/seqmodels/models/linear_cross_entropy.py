"""Cross-entropy of a linear layer's outputs, without keeping these outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PIECE = 12 << 20  # most scores at a time


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    ignore_index: int = -100,
) -> Tensor:
    """Mean of −log softmax(h_n Wᵀ + b)[y_n] over the n whose target is not `ignore_index`.

    The scores (N, V) of a large vocabulary are most of a language model's memory and of its work
    outside of products. Here they are made a piece at a time: with p_n = softmax(h_n Wᵀ + b),

        ∂/∂z_n = (p_n − e_{y_n}) / N      ∂/∂h_n = ∂/∂z_n W      ∂/∂W = Σ_n ∂/∂z_nᵀ h_n

    is added up on the way forward, while the piece is at hand. The gradient of the gradient does
    not exist.

    Args:
        hidden: (N, H). Under autocast the products run in its type, the softmax in float32.
        weight: (V, H).
        bias: (V,) or None.
        targets: (N,) int64 in [0, V), or `ignore_index`.
        ignore_index: a negative number.

    Returns:
        The mean in nats, a scalar; NaN where every target is left out, as torch's own.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        kind = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(kind), weight.to(kind)
        bias = None if bias is None else bias.to(kind)
    known = targets != ignore_index
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, known)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        known: Tensor,
    ) -> Tensor:
        wanted = tuple(ctx.needs_input_grad[:3])
        wide = torch.promote_types(hidden.dtype, torch.float32)  # half precision is for products
        count, vocabulary = len(hidden), len(weight)
        # Asking whether there are others would halt a GPU.
        every = hidden.device.type == "cpu" and bool(known.all())
        d_hidden = torch.empty_like(hidden) if wanted[0] else None
        d_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
        d_bias = weight.new_zeros(vocabulary, dtype=wide) if wanted[2] else None
        total = hidden.new_zeros((), dtype=wide)
        pieces = -(-count * vocabulary // PIECE)
        rows = -(-count // max(pieces, 1)) or 1
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            read, valid = hidden[part], known[part].unsqueeze(1)  # (n, H), (n, 1)
            answer = targets[part].unsqueeze(1).clamp(min=0)  # (n, 1)
            scores = torch.nn.functional.linear(read, weight, bias).to(wide)  # (n, V)
            top, right = scores.amax(1, keepdim=True), scores.gather(1, answer)
            shares = torch.softmax(scores, 1)
            # The largest share is 1 / Σ exp(z − top), and never so small that it would round off.
            nats = top - shares.amax(1, keepdim=True).log() - right
            total += (nats if every else nats.masked_fill(~valid, 0.0)).sum()
            if not any(wanted):
                continue
            shares.scatter_add_(1, answer, torch.full_like(nats, -1.0))
            if not every:
                shares.masked_fill_(~valid, 0.0)
            if d_bias is not None:
                d_bias += shares.sum(0)
            narrow = shares.to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[part] = narrow @ weight
            if d_weight is None:
                continue
            if wide == hidden.dtype:
                d_weight.addmm_(narrow.t(), read)
            else:
                d_weight += narrow.t() @ read
        number = known.sum()
        ctx.save_for_backward(d_hidden, d_weight, d_bias, number)
        ctx.types = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total / number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *saved, number = ctx.saved_tensors
        share = gradient / number
        own = [
            None if d is None else (d * share.to(d.dtype)).to(kind)
            for d, kind in zip(saved, ctx.types, strict=True)
        ]
        return (*own, None, None)
