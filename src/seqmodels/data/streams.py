"""Contiguous streams for truncated back-propagation through time.

N tokens become B streams, the rows of a matrix; a batch is a block of T columns, and row b of one
batch goes on in row b of the next, so that the state can be carried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

IGNORE = -100  # a target that is not predicted; torch's cross_entropy knows it by this number


class SequenceBatch(NamedTuple):
    """What a task reads. Batch first."""

    inputs: Tensor  # (B, T) int64
    targets: Tensor  # (B, T) int64, IGNORE where nothing is predicted
    lengths: Tensor | None = None  # (B,) int64; None: every sequence is T long


def make_streams(
    tokens: np.ndarray, batch_size: int, *, drop_remainder: bool = False
) -> tuple[Tensor, Tensor]:
    """Cuts N tokens into B contiguous streams, with the next token of each as its target.

    Where B does not divide N, the first N mod B streams are one token longer: every token is then
    the target of exactly one prediction, but the first of each stream. With `drop_remainder` the
    last N mod B tokens are left out instead.

    Args:
        tokens: (N,) int32 or int64, N ≥ 2 B.
        batch_size: B ≥ 1.

    Returns:
        inputs and targets, (B, L − 1) each for streams of up to L tokens, of the tokens' type; the
        last target of a shorter stream is IGNORE. They share their memory, with `tokens` too where
        the streams are of one length.

    Raises:
        ValueError: fewer than two tokens a stream.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    if len(tokens) < 2 * batch_size:
        raise ValueError(
            f"{len(tokens)} tokens are too few for {batch_size} streams of two at least: lower the "
            "batch size (data.batch_size, data.eval_batch_size) or give more text"
        )
    base, longer = divmod(len(tokens), batch_size)
    ids = torch.from_numpy(np.ascontiguousarray(tokens))
    if drop_remainder or longer == 0:
        rows = ids[: base * batch_size].view(batch_size, base)  # (B, L)
        return rows[:, :-1], rows[:, 1:]
    cut = longer * (base + 1)
    long_rows = ids[:cut].view(longer, base + 1)
    short_rows = ids[cut:].view(batch_size - longer, base)
    ended = ids.new_full((batch_size - longer, 1), IGNORE)
    rows = torch.cat([long_rows, torch.cat([short_rows, ended], dim=1)])  # (B, L)
    return rows[:, :-1], rows[:, 1:]


class StreamLoader:
    """Batches of T columns of the streams; sized, and resumable in the middle of an epoch.

    Args:
        tokens: (N,) int32 or int64.
        batch_size: B, the number of streams.
        seq_len: T, the columns of a batch; the last one of an epoch may have fewer.
        drop_remainder: leave out what does not fill streams and batches evenly.
        random_lengths: the seed of chunks of random lengths, new ones in each epoch (`lengths`);
            None: all of seq_len.

    Iterating goes on from the loader's position, which moves on before a batch is handed out, and
    starts again at the beginning after the last batch.

    Raises:
        ValueError: too little text for the sizes.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        batch_size: int,
        seq_len: int,
        *,
        drop_remainder: bool = False,
        random_lengths: int | None = None,
    ) -> None:
        if seq_len < 1:
            raise ValueError(f"seq_len must be >= 1, got {seq_len}")
        self.inputs, self.targets = make_streams(tokens, batch_size, drop_remainder=drop_remainder)
        columns = self.inputs.shape[1]
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.batches = columns // seq_len if drop_remainder else -(-columns // seq_len)
        if self.batches == 0:
            raise ValueError(
                f"the streams have {columns} predictions each, fewer than one chunk of {seq_len}: "
                "lower data.seq_len or data.batch_size, or set data.drop_remainder=false"
            )
        self.random_lengths = random_lengths
        self.epoch = 0
        self.position = 0

    def lengths(self, epoch: int) -> np.ndarray:
        """(batches) int64: the columns of each batch of an epoch.

        Of random ones each is drawn, as by Merity et al. 2017, from a normal distribution with
        deviation 5 around seq_len, with probability 0.05 around half of it, and is at least 5 or
        seq_len; then all are stretched alike, so that the same number of batches fills an epoch.
        """
        columns = self.inputs.shape[1]
        if self.random_lengths is None:
            ends = np.minimum(np.arange(1, self.batches + 1) * self.seq_len, columns)
        else:
            random = np.random.default_rng([self.random_lengths, epoch, 35])
            half = random.random(self.batches) < 0.05
            drawn = random.normal(np.where(half, self.seq_len / 2, self.seq_len), 5.0)
            shares = np.cumsum(np.maximum(drawn, min(5, self.seq_len)))
            total = min(columns, self.batches * self.seq_len)
            # Rounded so that each chunk has a column at least, at the end of the epoch too.
            count = np.arange(self.batches)
            ends = np.round(shares * (total / shares[-1])) - count
            ends = np.maximum.accumulate(np.maximum(ends, 1)) + count
            ends = np.minimum(ends, total - count[::-1])
        return np.diff(ends.astype(np.int64), prepend=0)

    @property
    def num_targets(self) -> int:
        """How many tokens an epoch predicts."""
        used = self.targets[:, : self.batches * self.seq_len]
        return int((used != IGNORE).sum())

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[SequenceBatch]:
        if self.position >= self.batches:
            self.position, self.epoch = 0, self.epoch + 1
        ends = np.cumsum(self.lengths(self.epoch))
        starts = ends - self.lengths(self.epoch)
        while self.position < self.batches:
            columns = slice(int(starts[self.position]), int(ends[self.position]))
            self.position += 1
            yield SequenceBatch(_own(self.inputs[:, columns]), _own(self.targets[:, columns]))
        self.position, self.epoch = 0, self.epoch + 1

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        position = state["position"]
        if not 0 <= position <= self.batches:
            raise ValueError(
                f"the saved position {position} lies outside the {self.batches} batches of this "
                "data: it is not the data of the saved run"
            )
        self.position = position
        self.epoch = state.get("epoch", 0)  # checkpoints from before there were random lengths


def _own(block: Tensor) -> Tensor:
    """An int64 copy: who changes a batch must not change the text."""
    return block.to(torch.int64, copy=True, memory_format=torch.contiguous_format)
