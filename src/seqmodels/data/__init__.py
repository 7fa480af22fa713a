"""Data: text as streams of tokens, vocabularies, and simple models to compare with."""

from __future__ import annotations

from seqmodels.data.base import IGNORE, SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.hub_text import HubTextData
from seqmodels.data.ngram import NGram, ngram_cross_entropy
from seqmodels.data.streams import StreamLoader, make_streams
from seqmodels.data.subwords import SubwordVocabulary
from seqmodels.data.text import TextData, TextStreams
from seqmodels.data.vocabulary import EOS, UNK, Vocabulary, tokenise

__all__ = [
    "EOS",
    "IGNORE",
    "SPLITS",
    "UNK",
    "DataModule",
    "HubTextData",
    "NGram",
    "SequenceBatch",
    "Split",
    "StreamLoader",
    "SubwordVocabulary",
    "TextData",
    "TextStreams",
    "Vocabulary",
    "make_streams",
    "ngram_cross_entropy",
    "tokenise",
]
