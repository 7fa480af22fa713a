"""The model that reads a sequence of tokens and scores the next one at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from seqmodels.layers import CellFactory
from seqmodels.models.parts import TokenEmbedding
from seqmodels.models.token_heads import Head

State = Any  # whatever the backbone's layers carry: a nested tuple of tensors


class Backbone(Protocol):
    """What a model needs of its recurrent layers; `seqmodels.layers.Stacked` is one."""

    output_size: int

    def __call__(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]: ...


class SequenceModel(nn.Module):
    """Embedding, recurrent layers, head: ids x_{1..T} -> scores o_t for the token that follows x_t.

    Args:
        num_tokens: V, supplied by the data.
        embedding: called with (num_tokens) and gives the embedding.
        cell: called with (input_size, hidden_size) and gives one cell; or a list of such, one for
            each layer.
        layers: called with (input_size, cell=cell) and gives the backbone.
        head: called with (output_size, embedding) and gives the head.

    Shapes: inputs (B, T) int64, lengths (B,) int64 -> logits (B, T, V), state.

    The state is a value: None starts from the layers' initial state, and what comes back can be
    passed to the next call, so that a long text may be read in chunks.
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        embedding: Callable[[int], TokenEmbedding],
        cell: CellFactory | Sequence[CellFactory],
        layers: Callable[..., nn.Module],
        head: Callable[[int, TokenEmbedding], Head],
    ) -> None:
        super().__init__()
        self.num_tokens = num_tokens
        self.embedding = embedding(num_tokens)
        self.backbone = layers(self.embedding.output_size, cell=cell)
        # A module that is a Head, which no annotation can say.
        self.head: Any = head(int(self.backbone.output_size), self.embedding)  # type: ignore[arg-type]

    def forward(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        hidden, state = self.backbone(self.embedding(inputs), state, lengths)  # (B, T, H)
        return self.head(hidden), state

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Mean nats of the targets (B, T), −100 left out, and the state: what training needs.

        The same as the cross-entropy of the scores, which are not kept (`linear_cross_entropy`).
        """
        hidden, state = self.backbone(self.embedding(inputs), state, lengths)  # (B, T, H)
        if hasattr(self.head, "loss"):
            return self.head.loss(hidden, targets), state
        # A head of one's own, which gives scores alone.
        scores = self.head(hidden).transpose(0, 1).flatten(0, 1)  # (T·B, V)
        return nn.functional.cross_entropy(scores, targets.t().flatten()), state

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        """The state before the first step, with the dtype and device of `like`."""
        return self.backbone.initial_state(batch_size, like)  # type: ignore[operator]
