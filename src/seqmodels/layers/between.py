"""What stands between two layers: a norm and dropout before one, an activation after it."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["none", "layer", "rms"]
Activation = Literal["none", "gelu", "glu"]
ACTIVATIONS = ("none", "gelu", "glu")
NORMS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,
}


class SequenceDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence, "variational" dropout.

    Each sequence of a call and each unit draws once whether it is zeroed, at every step, or
    scaled by 1 / (1 - p). Where a long text comes in chunks, each chunk draws anew.

    Args:
        p: in [0, 1), the probability of zero.

    Shapes: (B, T, H) -> (B, T, H). In evaluation the identity.

    Reference: Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent
    neural networks", NeurIPS 2016. https://arxiv.org/abs/1512.05287
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {p!r}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        mask = functional.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), self.p)  # (B, 1, H)
        return x * mask

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Between(nn.Sequential):
    """norm, then dropout: (B, T, H) -> (B, T, H).

    Args:
        size: H.
        norm: over the units of each step: "none"; "layer", Ba et al. 2016,
            https://arxiv.org/abs/1607.06450; "rms", without centring, Zhang & Sennrich 2019,
            https://arxiv.org/abs/1910.07467.
        dropout: in [0, 1).
        same_mask: one mask for all steps (`SequenceDropout`), instead of one for each.
    """

    def __init__(self, size: int, *, norm: Norm, dropout: float, same_mask: bool) -> None:
        kind = NORMS[norm]
        super().__init__(kind(size), SequenceDropout(dropout) if same_mask else nn.Dropout(dropout))


class GatedLinear(nn.Module):
    """y = A g ⊙ σ(B g + b) with g = GELU(x): a gated linear unit after a GELU, at each step alone.

    What linear recurrences need between them, for a stack of these alone is one linear recurrence.
    A has no bias, so that zeros at padding stay zeros.

    Args:
        size: H.

    Shapes: (B, T, H) -> (B, T, H).

    References: Dauphin et al. 2017, https://arxiv.org/abs/1612.08083 (the unit); Orvieto et al.
    2023, https://arxiv.org/abs/2303.06349 (after linear recurrent units); Hendrycks & Gimpel 2016,
    https://arxiv.org/abs/1606.08415 (GELU).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.values = nn.Linear(size, size, bias=False)
        self.gates = nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        # Time-major, as outputs lie in memory: the products then copy nothing.
        g = functional.gelu(x.transpose(0, 1))  # (T, B, H)
        y: Tensor = self.values(g) * self.gates(g).sigmoid()
        return y.transpose(0, 1)  # (B, T, H)


def activation_of(kind: Activation, size: int) -> nn.Module:
    """What the outputs of a layer of H = `size` units pass through."""
    if kind == "glu":
        return GatedLinear(size)
    return nn.GELU() if kind == "gelu" else nn.Identity()
