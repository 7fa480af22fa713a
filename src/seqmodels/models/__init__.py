"""Whole models: what goes in, the recurrent backbone, what comes out."""

from __future__ import annotations

from seqmodels.models.parts import TokenEmbedding, TokenHead
from seqmodels.models.sequence import SequenceModel

__all__ = ["SequenceModel", "TokenEmbedding", "TokenHead"]
