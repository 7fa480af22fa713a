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

    is added up on the way forward, while the piece is at hand. On the way back the gradients are
    handed over and not kept, which spares the largest of them a copy: a graph is gone back through
    once, `retain_graph` or not. The gradient of the gradient does not exist.

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
        on_cpu = hidden.device.type == "cpu"
        # Asking whether there are others would halt a GPU.
        every = on_cpu and bool(known.all())
        share = 1.0 / known.sum().to(wide)  # of one of the N in the mean
        d_hidden = torch.empty_like(hidden, dtype=wide) if wanted[0] else None
        d_weight = torch.zeros_like(weight, dtype=wide) if wanted[1] else None
        d_bias = weight.new_zeros(vocabulary, dtype=wide) if wanted[2] else None
        total = hidden.new_zeros((), dtype=wide)
        pieces = -(-count * vocabulary // PIECE)
        rows = -(-count // max(pieces, 1)) or 1
        room = hidden.new_empty(min(rows, count), vocabulary)  # fresh memory costs time
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            read, valid = hidden[part], known[part].unsqueeze(1)  # (n, H), (n, 1)
            answer = targets[part].unsqueeze(1).clamp(min=0)  # (n, 1)
            scores = _scores(read, weight, bias, room[: len(read)]).to(wide)  # (n, V)
            top, right = scores.amax(1, keepdim=True), scores.gather(1, answer)
            # On a CPU it works row by row and may write where it has read.
            shares = torch.softmax(scores, 1, out=scores) if on_cpu else scores.softmax(1)
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
                d_weight.addmm_(narrow.t(), read * share)
            else:
                d_weight += (narrow.t() @ read) * share
        ctx.gradients = (
            None if d_hidden is None else d_hidden.mul_(share),
            d_weight,
            None if d_bias is None else d_bias.mul_(share),
        )
        ctx.kind = hidden.dtype
        return total * share

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "the gradient of this linear_cross_entropy was handed out before and is not kept: "
                "compute the loss again"
            )
        scaled = gradient.device.type != "cpu" or float(gradient) != 1.0
        # The scale first: half precision may depend on it.
        own = [
            None if each is None else (each.mul_(gradient) if scaled else each).to(ctx.kind)
            for each in gradients
        ]
        return (*own, None, None)


def _scores(read: Tensor, weight: Tensor, bias: Tensor | None, room: Tensor) -> Tensor:
    """read · weightᵀ + bias, written into `room`: (n, V)."""
    if bias is None:
        return torch.mm(read, weight.t(), out=room)
    return torch.addmm(bias, read, weight.t(), out=room)
