"""The model that reads one sequence and writes another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from seqmodels.layers import CellFactory, Stacked
from seqmodels.models.attention import Attention
from seqmodels.models.bridge import Bridge, Handover
from seqmodels.models.parts import TokenEmbedding

AttentionKind = Literal["none", "dot", "general", "additive"]


class Memory(NamedTuple):
    """What the decoder knows of the sources: outputs (B, S, M), keys of attention, lengths."""

    outputs: Tensor
    keys: Tensor | None
    lengths: Tensor | None


class Decoded(NamedTuple):
    """What was written.

    Attributes:
        tokens: (B, N) int64; the end symbol after the last one of each sequence and from there on.
        lengths: (B,) int64, symbols before the end; N where it did not come in time.
        attention: (B, N, S), the weights by which each was written; None without attention.
    """

    tokens: Tensor
    lengths: Tensor
    attention: Tensor | None


class EncoderDecoder(nn.Module):
    """p(y_1 … y_N | x_1 … x_S) = Π_t p(y_t | y_1 … y_{t−1}, x), by two stacks of layers.

        m_1 … m_S, e = encoder(x_1 … x_S)
        h_t, s_t = decoder(y_{t−1}, s_{t−1})         s_0 = bridge(e), y_0 the end symbol
        p(y_t | ·) = softmax(head(h̃_t))              h̃_t = attention(h_t, m), or h_t without

    The last of the N symbols is the end of the sequence, which is also what the decoder starts
    from. In training y_{t−1} is the true one (teacher forcing).

    Args:
        num_sources: symbols of the sources. num_targets: V, symbols of the targets, the last of
            which, V − 1, is the end (both supplied by the data).
        source, target: called with a number of symbols, give the embeddings.
        cell: called with (input_size, hidden_size), gives one cell; of both stacks.
        encoder, decoder: called with (input_size, cell=cell), give `Stacked` layers; those of the
            decoder must be causal.
        head: called with (width, V), gives the head.
        attention: "none", or the score of `Attention`.
        attention_size: see `Attention`.
        bridge: see `Bridge`.

    Shapes: inputs (B, S) int64, previous (B, T) int64, lengths (B,) int64 of the sources or None
    -> logits (B, T, V), attention weights (B, T, S) or None. Padding may hold any symbol.

    Raises:
        ValueError: the decoder would read what it is to predict, or knows nothing of the source; a
            setting of a part.

    References: Sutskever, Vinyals & Le 2014, https://arxiv.org/abs/1409.3215; Bahdanau, Cho &
    Bengio 2015, https://arxiv.org/abs/1409.0473; Luong, Pham & Manning 2015,
    https://arxiv.org/abs/1508.04025.
    """

    def __init__(
        self,
        num_sources: int,
        num_targets: int,
        *,
        source: Callable[[int], TokenEmbedding],
        target: Callable[[int], TokenEmbedding],
        cell: CellFactory | Sequence[CellFactory],
        encoder: Callable[..., nn.Module],
        decoder: Callable[..., nn.Module],
        head: Callable[[int, int], nn.Module],
        attention: AttentionKind = "additive",
        attention_size: int | None = None,
        bridge: Handover = "auto",
    ) -> None:
        super().__init__()
        self.end = num_targets - 1
        self.source = source(num_sources)
        self.target = target(num_targets)
        self.encoder = _stack(encoder(self.source.output_size, cell=cell), "encoder")
        self.decoder = _stack(decoder(self.target.output_size, cell=cell), "decoder")
        if not self.decoder.causal:
            raise ValueError(
                "model.decoder reads later steps too, which it is to predict: use layers that run "
                "forwards only, such as model/layers@model.decoder=plain"
            )
        if attention == "none" and bridge == "none":
            raise ValueError(
                "without attention and bridge the decoder would know nothing of the source: set "
                "model.attention or model.bridge"
            )
        if attention == "none" and attention_size is not None:
            raise ValueError(f"attention_size={attention_size} is of attention=additive: null it")
        self.bridge = Bridge(self.encoder, self.decoder, bridge)
        width = self.decoder.output_size
        self.attention = (
            None
            if attention == "none"
            else Attention(width, self.encoder.output_size, score=attention, size=attention_size)
        )
        self.head = head(width, num_targets)

    def encode(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Memory, Any]:
        """What the decoder knows of the sources, and the state that it starts from."""
        outputs, last = self.encoder(self.source(inputs), None, lengths)  # (B, S, M)
        keys = None if self.attention is None else self.attention.keys(outputs)
        first = self.decoder.initial_state(len(inputs), outputs)
        return Memory(outputs, keys, lengths), self.bridge(last, first)

    def read(
        self, previous: Tensor, memory: Memory, state: Any
    ) -> tuple[Tensor, Tensor | None, Any]:
        """Scores of what follows each of the symbols (B, T) that were written from `state` on.

        Returns:
            logits (B, T, V), attention weights (B, T, S) or None, and the state after them.
        """
        hidden, state = self.decoder(self.target(previous), state)  # (B, T, H)
        weights = None
        if self.attention is not None:
            assert memory.keys is not None
            hidden, weights = self.attention(hidden, memory.outputs, memory.keys, memory.lengths)
        return self.head(hidden), weights, state

    def forward(
        self, inputs: Tensor, previous: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        memory, state = self.encode(inputs, lengths)
        logits, weights, _ = self.read(previous, memory, state)
        return logits, weights

    @torch.no_grad()
    def greedy(self, inputs: Tensor, lengths: Tensor | None, max_length: int) -> Decoded:
        """Write the likeliest symbol at each step, until the end symbol or `max_length` symbols.

        In evaluation mode whatever the model's own; the sequences of a batch do not change one
        another.

        Args:
            inputs: (B, S) int64. lengths: (B,) int64 or None.
            max_length: ≥ 1, the end symbol counted.
        """
        if max_length < 1:
            raise ValueError(f"max_length must be >= 1, got {max_length}")
        was_training = self.training
        self.eval()
        memory, state = self.encode(inputs, lengths)
        token = inputs.new_full((len(inputs), 1), self.end)
        ended = torch.zeros_like(token, dtype=torch.bool)  # (B, 1)
        tokens, maps = [], []
        for _ in range(max_length):
            logits, weights, state = self.read(token, memory, state)  # (B, 1, V)
            token = logits.argmax(-1).masked_fill(ended, self.end)  # (B, 1)
            ended = ended | (token == self.end)
            tokens.append(token)
            if weights is not None:
                maps.append(weights)
            if bool(ended.all()):
                break
        self.train(was_training)
        written = torch.cat(tokens, 1)  # (B, N)
        count = (written != self.end).sum(1)
        return Decoded(written, count, torch.cat(maps, 1) if maps else None)


def _stack(layers: nn.Module, name: str) -> Stacked:
    if not isinstance(layers, Stacked):
        raise ValueError(
            f"model.{name} must be layers over sequences (model/layers=plain, residual, dense, "
            f"bidirectional, dilated), got {type(layers).__name__}"
        )
    return layers
