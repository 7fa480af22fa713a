"""Data: text as streams of tokens, vocabularies, and simple models to compare with."""

from __future__ import annotations

from seqmodels.data.base import IGNORE, DataModule, SequenceBatch
from seqmodels.data.hub_text import HubTextData
from seqmodels.data.streams import StreamLoader
from seqmodels.data.text import TextData
from seqmodels.data.vocabulary import Vocabulary

__all__ = [
    "IGNORE",
    "DataModule",
    "HubTextData",
    "SequenceBatch",
    "StreamLoader",
    "TextData",
    "Vocabulary",
]
