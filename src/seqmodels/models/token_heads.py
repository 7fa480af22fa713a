"""From hidden states to scores of tokens, and to their loss."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

from torch import Tensor, nn

from seqmodels.models.linear_cross_entropy import linear_cross_entropy
from seqmodels.models.parts import TokenEmbedding, dropout_of

LEFT_OUT = -100  # a target that does not count; torch's own number


class Head(Protocol):
    """What a language model needs of its head."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, V), of which the softmax is the probabilities."""

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean nats of the targets (B, T), those that are −100 left out."""


class TokenHead(nn.Module):
    """Scores for every token: o_t = c + V h_t, after dropout on h_t.

    Args:
        input_size: H, the width of the backbone's output (supplied by the model).
        embedding: the model's embedding (supplied by the model).
        tie_weights: V is the embedding matrix itself (Press & Wolf 2017,
            https://arxiv.org/abs/1608.05859), which needs H = E.
        dropout: probability with which each element of h_t is zeroed in training.
        same_mask: one mask for all steps of a sequence (`SequenceDropout`).

    Shapes: (B, T, H) -> (B, T, V).
    """

    def __init__(
        self,
        input_size: int,
        embedding: TokenEmbedding,
        *,
        tie_weights: bool = False,
        dropout: float = 0.0,
        same_mask: bool = False,
    ) -> None:
        super().__init__()
        self.dropout = dropout_of(dropout, same_mask)
        self.bias = nn.Parameter(Tensor(embedding.num_tokens))
        if tie_weights:
            if input_size != embedding.output_size:
                raise ValueError(
                    "tie_weights needs the last layer as wide as the embedding: the layer has "
                    f"{input_size} units, the embedding {embedding.output_size}; make them equal "
                    "(model.embedding.size, model.layers.hidden_size)"
                )
            self.weight = embedding.weight
        else:
            self.weight = nn.Parameter(Tensor(embedding.num_tokens, input_size))
        self.tied = tie_weights
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if not self.tied:
            nn.init.uniform_(self.weight, -0.1, 0.1)
        nn.init.zeros_(self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        # Time-major, as the backbone's outputs lie in memory: the product then copies nothing.
        time_major = self.dropout(hidden).transpose(0, 1)  # (T, B, H)
        return nn.functional.linear(time_major, self.weight, self.bias).transpose(0, 1)  # (B, T, V)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean −log softmax(o_t)[target] in nats, without keeping the scores (B, T, V).

        Args:
            hidden: (B, T, H).
            targets: (B, T) int64; −100: left out.
        """
        read = self.dropout(hidden).transpose(0, 1).flatten(0, 1)  # (T·B, H)
        return linear_cross_entropy(read, self.weight, self.bias, targets.t().flatten())


class AdaptiveHead(nn.Module):
    """Adaptive softmax: the rare tokens share clusters, each with a narrow projection of its own.

        p(w | h) = p(w | head)                            w among the first cutoff
        p(w | h) = p(cluster | head) p(w | cluster)       else, V_i P_i h with P_i (H / q^i, H)

    Tokens are numbered by frequency, as a vocabulary that is built here is, so that most steps
    compute the small head alone. Evaluation of all tokens costs as much as without clusters.
    It is `torch.nn.AdaptiveLogSoftmaxWithLoss` after dropout.

    Args:
        input_size: H, the width of the backbone's output (supplied by the model).
        embedding: the model's embedding (supplied by the model).
        cutoffs: increasing, in 1..V − 1: where clusters begin.
        div_value: q ≥ 1.
        bias: of the head, not of the clusters.
        dropout, same_mask: see `TokenHead`.

    Shapes: (B, T, H) -> (B, T, V), log-probabilities.

    Raises:
        ValueError: the cutoffs do not fit the vocabulary, or a projection would be empty.

    Reference: Grave, Joulin, Cissé, Grangier & Jégou 2017, https://arxiv.org/abs/1609.04309.
    """

    def __init__(
        self,
        input_size: int,
        embedding: TokenEmbedding,
        *,
        cutoffs: Sequence[int] = (2000, 10000),
        div_value: float = 4.0,
        bias: bool = True,
        dropout: float = 0.0,
        same_mask: bool = False,
    ) -> None:
        super().__init__()
        bounds = [0, *cutoffs, embedding.num_tokens]
        if not cutoffs or any(low >= high for low, high in pairwise(bounds)):
            raise ValueError(
                f"cutoffs must increase and lie in 1..{embedding.num_tokens - 1}, below the "
                f"vocabulary of {embedding.num_tokens}; got {list(cutoffs)}"
            )
        if div_value < 1.0 or input_size // div_value ** len(cutoffs) < 1:
            raise ValueError(
                f"div_value must be >= 1 and leave the last of {len(cutoffs)} clusters a unit of "
                f"the layer's {input_size}, got {div_value}"
            )
        self.dropout = dropout_of(dropout, same_mask)
        self.clusters = nn.AdaptiveLogSoftmaxWithLoss(
            input_size, embedding.num_tokens, list(cutoffs), div_value=div_value, head_bias=bias
        )

    def forward(self, hidden: Tensor) -> Tensor:
        time_major = self.dropout(hidden).transpose(0, 1)  # (T, B, H)
        steps, batch, _ = time_major.shape
        scores: Tensor = self.clusters.log_prob(time_major.flatten(0, 1))  # (T·B, V)
        return scores.view(steps, batch, -1).transpose(0, 1)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        read = self.dropout(hidden).transpose(0, 1).flatten(0, 1)  # (T·B, H)
        wanted = targets.t().flatten()
        known = wanted != LEFT_OUT
        loss: Tensor = self.clusters(read[known], wanted[known]).loss
        return loss
