"""A piece of a batch that is small enough to look at, with one loss term in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from seqmodels.data.base import IGNORE, SequenceBatch


class Piece(NamedTuple):
    """Sequences of one length and the step whose loss is looked at.

    Attributes:
        inputs: (B, T) or (B, T, I), or images (B, C, R, W).
        targets: (B) or (B, O), those of that step.
        step: of the outputs, the last at which every sequence is asked for an answer.
        beside: what the model reads besides: what was written before (B, T), classes (B).
        apart: beginnings of the names of layers whose steps are not those of the outputs.
    """

    inputs: Tensor
    targets: Tensor
    step: int
    beside: Tensor | None = None
    apart: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In words, for people."""
        count, *shape = self.inputs.shape
        if self.inputs.dim() == 4:
            rows, columns = shape[1:]
            return f"{count} images of {columns} × {rows} pixels, loss of pixel {self.step + 1}"
        return f"{count} sequences of {shape[0]} steps, loss of step {self.step + 1}"


def long_batch(loader: Iterable[SequenceBatch], steps: int, most: int = 32) -> SequenceBatch:
    """The first batch of so many steps; else the first of the longest among the first `most`.

    Data is often read in order of length, and over one or two steps there is nothing to see.
    """
    found: SequenceBatch | None = None
    for batch in itertools.islice(loader, most):
        if found is None or batch.inputs.shape[1] > found.inputs.shape[1]:
            found = batch
        if found.inputs.shape[1] >= steps:
            break
    if found is None:
        raise ValueError("there is no batch to look at")
    return found


def cut_piece(batch: SequenceBatch, *, sequences: int, steps: int) -> Piece:
    """The first sequences of a batch that are equally long.

    Args:
        batch: any.
        sequences: B, at most.
        steps: T, at most, where every step asks for an answer; where only some do, as at the end of
            a sequence, they stay whole.

    Raises:
        ValueError: no step asks for an answer.
    """
    inputs, targets, lengths = batch
    if lengths is not None:  # those of the commonest length
        length = int(lengths.mode().values)
        rows = lengths == length
        inputs, targets = inputs[rows][:, :length], targets[rows][:, :length]
    asked = targets.ne(IGNORE) if not targets.is_floating_point() else ~targets.isnan()
    asked = asked.flatten(2).all(2) if asked.dim() > 2 else asked  # (B, T)
    if bool(asked.all()):
        inputs, targets, asked = inputs[:, :steps], targets[:, :steps], asked[:, :steps]
    step, rows = last_answer(asked)
    rows = rows[:sequences]
    return Piece(inputs[rows], targets[rows, step], step)


def last_answer(asked: Tensor) -> tuple[int, Tensor]:
    """The last of the steps at which most sequences are asked, and which are: asked (B, T).

    Raises:
        ValueError: no step asks for an answer.
    """
    counts = asked.sum(0)
    if not bool(counts.any()):
        raise ValueError("no step of this batch asks for an answer")
    step = int((counts == counts.max()).nonzero()[-1])
    return step, asked[:, step].nonzero().flatten()


def to_device(piece: Piece, device: torch.device) -> Piece:
    """The same piece elsewhere."""
    beside = None if piece.beside is None else piece.beside.to(device)
    moved = piece._replace(inputs=piece.inputs.to(device), targets=piece.targets.to(device))
    return moved._replace(beside=beside)
