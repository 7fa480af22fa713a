"""Tokens as vectors, and dropout at the ends of a model."""

from __future__ import annotations

from torch import Tensor, nn

from seqmodels.layers import SequenceDropout


class TokenEmbedding(nn.Module):
    """One vector per token: e_t = E[x_t], with dropout on it.

    Args:
        num_tokens: V, the number of different tokens (supplied by the data).
        size: E, the length of the vectors.
        dropout: probability with which each element of e_t is zeroed in training.
        same_mask: one mask for all steps of a sequence (`SequenceDropout`).
        token_dropout: probability with which a token's whole vector is zeroed in training, wherever
            it stands in the batch (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287).

    Shapes: ids (B, T) int64 -> (B, T, E).
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        size: int = 128,
        dropout: float = 0.0,
        same_mask: bool = False,
        token_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= token_dropout < 1.0:
            raise ValueError(f"token_dropout must lie in [0, 1), got {token_dropout!r}")
        if num_tokens < 1 or size < 1:
            raise ValueError(
                f"an embedding needs num_tokens >= 1 and size >= 1, got {num_tokens} and {size}"
            )
        self.num_tokens = num_tokens
        self.output_size = size
        self.weight = nn.Parameter(Tensor(num_tokens, size))
        self.token_dropout = token_dropout
        self.dropout = dropout_of(dropout, same_mask)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±0.1, the usual start of word models (Zaremba et al. 2014)."""
        nn.init.uniform_(self.weight, -0.1, 0.1)

    def forward(self, ids: Tensor) -> Tensor:
        if ids.is_floating_point() or ids.dim() != 2:
            raise ValueError(
                "expected token ids of shape (B, T) and an integer type, got "
                f"{tuple(ids.shape)} {ids.dtype}"
            )
        # Looked up time-major, so that the backbone's one transposition to (T, B, E) costs no copy.
        vectors = nn.functional.embedding(ids.t(), self.weight)  # (T, B, E)
        if self.training and self.token_dropout > 0.0:
            kept = nn.functional.dropout(vectors.new_ones(self.num_tokens), self.token_dropout)
            vectors = vectors * kept[ids.t()].unsqueeze(-1)  # (T, B, 1)
        embedded: Tensor = self.dropout(vectors.transpose(0, 1))  # (B, T, E)
        return embedded


def dropout_of(p: float, same_mask: bool) -> nn.Module:
    """Dropout with one mask for each step, or one for a whole sequence.

    Raises:
        ValueError: p lies outside [0, 1), or same_mask says how dropout draws and there is none.
    """
    if same_mask and p == 0.0:
        raise ValueError(
            "same_mask=True says how dropout draws and dropout is 0: set dropout, or same_mask "
            "to false"
        )
    return SequenceDropout(p) if same_mask else nn.Dropout(p)
