"""Symbols of both sides, and padded batches of their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seqmodels.data.streams import IGNORE, SequenceBatch
from seqmodels.data.vocabulary import Level, Vocabulary


class PairVocabulary(Vocabulary):
    """The symbols that are written, and with them those that are read.

    The end of what is written is no symbol of it: its number is the one after the last, `end`.

    Args:
        symbols, level, lowercase: of the targets; see `Vocabulary`.
        source: the symbols that are read.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        level: Level,
        *,
        source: Vocabulary,
        lowercase: bool = False,
    ) -> None:
        super().__init__(symbols, level, lowercase=lowercase)
        self.source = source

    @property
    def end(self) -> int:
        return len(self)

    def sizes(self) -> dict[str, int]:
        """What a model must be told."""
        return {"num_sources": len(self.source), "num_targets": len(self) + 1}

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "source": self.source.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> PairVocabulary:
        source = Vocabulary.from_dict(plain["source"])
        lowercase = bool(plain.get("lowercase", False))
        return cls(plain["symbols"], plain["level"], source=source, lowercase=lowercase)


def symbols_of(text: str, vocabulary_level: Level, *, lowercase: bool) -> list[str]:
    """Characters, white space at both ends left out; or words between white space."""
    text = text.lower() if lowercase else text
    return list(text.strip()) if vocabulary_level == "char" else text.split()


def padded(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], end: int) -> SequenceBatch:
    """The pairs as a batch: inputs the sources (B, S), targets (B, T) with `end` behind each.

    `lengths` are those of the sources; None where all are S long. Targets are IGNORE after their
    end.
    """
    lengths = np.array([len(each) for each in sources])
    longest = max(len(each) for each in targets) + 1
    inputs = np.zeros((len(sources), lengths.max()), np.int64)  # any symbol will do at padding
    answers = np.full((len(sources), longest), IGNORE, np.int64)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        inputs[row, : len(source)] = source
        answers[row, : len(target)] = target
        answers[row, len(target)] = end
    own = None if lengths.min() == lengths.max() else torch.from_numpy(lengths)
    return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(answers), own)
