"""Pairs of sequences: one is read, the other is to be written."""

from __future__ import annotations

from seqmodels.data.pairs.generated import GeneratedPairs
from seqmodels.data.pairs.parallel import ParallelText
from seqmodels.data.pairs.problems import Copy, NumberToWords, PairProblem, Reverse, Sort
from seqmodels.data.pairs.vocabulary import PairVocabulary

__all__ = [
    "Copy",
    "GeneratedPairs",
    "NumberToWords",
    "PairProblem",
    "PairVocabulary",
    "ParallelText",
    "Reverse",
    "Sort",
]
