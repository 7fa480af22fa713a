"""A piece of a batch that is small enough to look at, with one loss term in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from seqmodels.data.base import IGNORE, SequenceBatch


class Piece(NamedTuple):
    """Sequences of one length and the step whose loss is looked at.

    Attributes:
        inputs: (B, T) or (B, T, I).
        targets: (B) or (B, O), those of that step.
        step: the last at which every sequence is asked for an answer.
    """

    inputs: Tensor
    targets: Tensor
    step: int


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
    counts = asked.sum(0)
    if not bool(counts.any()):
        raise ValueError("no step of this batch asks for an answer")
    step = int((counts == counts.max()).nonzero()[-1])
    rows = asked[:, step].nonzero().flatten()[:sequences]
    return Piece(inputs[rows], targets[rows, step], step)


def to_device(piece: Piece, device: torch.device) -> Piece:
    """The same piece elsewhere."""
    return Piece(piece.inputs.to(device), piece.targets.to(device), piece.step)
