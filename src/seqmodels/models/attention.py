"""Attention: which steps of the source an output step looks at."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from seqmodels.layers.recurrent import prefix_mask

Score = Literal["dot", "general", "additive"]
SCORES = ("dot", "general", "additive")


class Attention(nn.Module):
    """A mean of the encoder's outputs for each step of the decoder, weighted by likeness.

        a_ts = exp(e_ts) / Σ_{s' ≤ S_b} exp(e_ts')        c_t = Σ_s a_ts m_s
        h̃_t = tanh(W_c [c_t, h_t])

        dot         e_ts = h_tᵀ m_s
        general     e_ts = h_tᵀ W m_s
        additive    e_ts = vᵀ tanh(W h_t + U m_s)

    Symbols: h_t (H) output of the decoder's layers at step t, m_s (M) of the encoder's at step s,
    S_b the length of the source; steps past it have the weight 0. h̃_t (H) is what the head reads.

    The place is that of Luong et al.: after the decoder's layers, so that all steps of known
    targets are one call. Bahdanau et al., whose score is `additive`, put it before them: e_ts is
    of h_{t−1}, and c_t an input of the cell.

    Args:
        query_size: H. memory_size: M (both supplied by the model).
        score: "dot", which needs H = M; "general"; "additive".
        size: A, the length of v; None: H. Of `additive` alone.

    Shapes: query (B, T, H), memory (B, S, M), keys as `keys` gives them, lengths (B,) int64 or
    None -> h̃ (B, T, H), a (B, T, S).

    Raises:
        ValueError: another score; widths or a size that it cannot have.

    References: Bahdanau, Cho & Bengio 2015, https://arxiv.org/abs/1409.0473; Luong, Pham & Manning
    2015, https://arxiv.org/abs/1508.04025.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        *,
        score: Score = "additive",
        size: int | None = None,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise ValueError(f"attention must be none or one of {', '.join(SCORES)}, got {score!r}")
        if score == "dot" and query_size != memory_size:
            raise ValueError(
                f"attention=dot needs outputs of one width, and the decoder has {query_size} and "
                f"the encoder {memory_size}: choose general or additive, or make them equal"
            )
        if size is not None and (score != "additive" or size < 1):
            raise ValueError(
                f"attention_size={size} must be >= 1 or null, and is of attention=additive alone "
                f"(here {score})"
            )
        self.score: Score = score
        width = query_size if size is None else size
        self.weight_combine = nn.Parameter(Tensor(query_size, memory_size + query_size))
        if score == "general":
            self.weight_memory = nn.Parameter(Tensor(query_size, memory_size))
        elif score == "additive":
            self.weight_memory = nn.Parameter(Tensor(width, memory_size))
            self.weight_query = nn.Parameter(Tensor(width, query_size))
            self.weight_score = nn.Parameter(Tensor(1, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform in ±1/√n, n being what the matrix reads, as `torch.nn.Linear`."""
        for weight in self.parameters():
            bound = 1.0 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound)

    def keys(self, memory: Tensor) -> Tensor:
        """What of the score does not depend on the decoder: m, W m or U m, (B, S, H or A)."""
        if self.score == "dot":
            return memory
        return nn.functional.linear(memory, self.weight_memory)

    def forward(
        self, query: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.score == "additive":
            own = nn.functional.linear(query, self.weight_query)  # (B, T, A)
            both = torch.tanh(own.unsqueeze(2) + keys.unsqueeze(1))  # (B, T, S, A)
            scores = nn.functional.linear(both, self.weight_score).squeeze(-1)  # (B, T, S)
        else:
            scores = query @ keys.transpose(1, 2)  # (B, T, S)
        keep = None if lengths is None else prefix_mask(lengths, memory.transpose(0, 1))  # (S, B)
        if keep is not None:
            scores = scores.masked_fill(~keep.t().unsqueeze(1), -torch.inf)
        weights = scores.softmax(-1)  # (B, T, S)
        context = weights @ memory  # (B, T, M)
        joined = torch.cat((context, query), -1)
        return torch.tanh(nn.functional.linear(joined, self.weight_combine)), weights

    def extra_repr(self) -> str:
        return f"score={self.score!r}"
