"""One vector for a whole sequence."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from seqmodels.layers import Bidirectional, Dilated, Recurrent, Residual, Stacked
from seqmodels.layers.recurrent import prefix_mask

Pooling = Literal["none", "last", "mean", "max"]
POOLINGS = ("none", "last", "mean", "max")


class Pool(nn.Module):
    """What the outputs h_1 … h_T of a sequence of T steps are made into.

        last    what each direction says at the end of its own reading: h_T; of a layer that runs
                backwards h_1; of one that runs both ways and puts them side by side, both
        mean    1/T Σ_t h_t
        max     max_t h_t, unit by unit

    Args:
        kind: "last", "mean" or "max".
        backbone: the layers below; for "last".

    Shapes: hidden (B, T, H), lengths (B,) int64 or None -> (B, H). Padding may hold anything.

    Raises:
        ValueError: "last" of layers whose directions cannot be told apart any more.
    """

    def __init__(self, kind: Pooling, backbone: nn.Module) -> None:
        super().__init__()
        if kind not in POOLINGS[1:]:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {kind!r}")
        self.kind: Pooling = kind
        self.forward_units = _forward_units(backbone) if kind == "last" else 0

    def forward(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        batch, steps, size = hidden.shape
        if self.kind == "last":
            ends = hidden.new_full((batch,), steps, dtype=torch.int64)
            ends = (ends if lengths is None else lengths.to(hidden.device)) - 1
            last = hidden[torch.arange(batch, device=hidden.device), ends]  # (B, H)
            if self.forward_units >= size:
                return last
            return torch.cat((last[:, : self.forward_units], hidden[:, 0, self.forward_units :]), 1)
        keep = None if lengths is None else prefix_mask(lengths, hidden.transpose(0, 1))  # (T, B)
        if keep is not None:
            empty = 0.0 if self.kind == "mean" else -torch.inf
            hidden = hidden.masked_fill(~keep.t().unsqueeze(-1), empty)
        if self.kind == "max":
            return hidden.amax(1)
        counts = steps if lengths is None else lengths.to(hidden.device).unsqueeze(1)
        return hidden.sum(1) / counts

    def extra_repr(self) -> str:
        return self.kind


def _forward_units(backbone: nn.Module) -> int:
    """How many of the outputs, from the first, end at the last step; the others at the first."""
    size = int(backbone.output_size)  # type: ignore[arg-type]
    layers = list(backbone.layers) if isinstance(backbone, Stacked) else [backbone]
    skip = backbone.skip if isinstance(backbone, Stacked) else "none"
    kinds = [_kind(layer) for layer in layers]
    if all(kind == "forwards" for kind in kinds):
        return size
    if skip != "dense" and kinds[-1] == "backwards":
        return 0
    if skip != "dense" and kinds[-1] == "both":
        return size // 2
    raise ValueError(
        "pooling=last takes each direction at its own end, and in the outputs of these layers the "
        "directions are not side by side: choose mean or max, or merge=concat without dense "
        "connections"
    )


def _kind(layer: nn.Module) -> str:
    while isinstance(layer, Residual | Dilated):
        layer = layer.layer
    if isinstance(layer, Bidirectional):
        return "both" if layer.merge == "concat" else "merged"
    if isinstance(layer, Recurrent) and layer.reverse:
        return "backwards"
    return "forwards" if getattr(layer, "causal", True) else "unknown"
