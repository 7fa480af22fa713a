"""Texts and series with a class each."""

from __future__ import annotations

from seqmodels.data.labelled.examples import read_examples
from seqmodels.data.labelled.series import SeriesClassification
from seqmodels.data.labelled.series_files import read_labelled_series
from seqmodels.data.labelled.tables import Example
from seqmodels.data.labelled.texts import TextClassification

__all__ = [
    "Example",
    "SeriesClassification",
    "TextClassification",
    "read_examples",
    "read_labelled_series",
]
