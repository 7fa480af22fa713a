"""Which steps of the source each written symbol looked at, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.pairs import PairVocabulary
from seqmodels.models import Decoded, EncoderDecoder

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

END = "⟨end⟩"
MOST = 40  # symbols of a side that are labelled


class AttentionMap(NamedTuple):
    """One sequence: the symbols read (S), those written (N), and weights (N, S)."""

    source: list[str]
    written: list[str]
    weights: np.ndarray
    right: bool | None = None  # None: the right answer is not known


def attention_maps(
    model: EncoderDecoder, batch: SequenceBatch, vocabulary: PairVocabulary
) -> list[AttentionMap]:
    """What the model writes of each source of the batch, and what it looked at.

    Raises:
        ValueError: the model has no attention.
    """
    decoded = model.greedy(batch.inputs, batch.lengths, batch.targets.shape[1])
    found = []
    for row in range(len(batch.inputs)):
        one = attention_map(decoded, row, batch, vocabulary)
        wanted = batch.targets[row][batch.targets[row] != IGNORE].tolist()
        own = decoded.tokens[row, : len(one.written)].tolist()
        found.append(one._replace(right=own == wanted))
    return found


def attention_map(
    decoded: Decoded, row: int, batch: SequenceBatch, vocabulary: PairVocabulary
) -> AttentionMap:
    """The map of one sequence of a batch."""
    if decoded.attention is None:
        raise ValueError("the model has no attention to show (model.attention=none)")
    size = batch.inputs.shape[1] if batch.lengths is None else int(batch.lengths[row])
    count = min(int(decoded.lengths[row]) + 1, decoded.tokens.shape[1])  # the end is written, too
    symbols = [*vocabulary.symbols, END]
    return AttentionMap(
        [vocabulary.source.symbols[i] for i in batch.inputs[row, :size].tolist()],
        [symbols[i] for i in decoded.tokens[row, :count].tolist()],
        decoded.attention[row, :count, :size].to(torch.float32).cpu().numpy(),
    )


def attention_picture(maps: Sequence[AttentionMap]) -> Figure:
    """A panel for each sequence: what was read from left to right, what was written downwards."""
    from matplotlib.figure import Figure

    columns = min(len(maps), 2)
    rows = math.ceil(len(maps) / columns)
    width = max(0.24 * min(max(len(m.source) for m in maps), MOST) + 1.4, 3.2)
    height = max(0.24 * min(max(len(m.written) for m in maps), MOST) + 0.7, 2.0)
    figure = Figure(figsize=(columns * width + 0.7, rows * height + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[len(maps) :]:
        panel.axis("off")
    for panel, one in zip(panels, maps, strict=False):
        image = panel.imshow(one.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        panel.xaxis.tick_top()
        for axis, symbols in ((panel.xaxis, one.source), (panel.yaxis, one.written)):
            shown = symbols if len(symbols) <= MOST else []
            axis.set_ticks(range(len(shown)), [s if s.strip() else "␣" for s in shown])
            axis.set_tick_params(length=0, labelsize=8)
        if max(len(symbol) for symbol in one.source) > 2:
            panel.tick_params(axis="x", rotation=90)
        if one.right is False:
            panel.set_xlabel("not the right answer", fontsize=8, color="tab:red")
    figure.colorbar(image, ax=list(panels), label="weight", shrink=0.6)
    return figure
