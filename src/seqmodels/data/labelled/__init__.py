"""Texts with a class each."""

from __future__ import annotations

from seqmodels.data.labelled.examples import read_examples
from seqmodels.data.labelled.tables import Example
from seqmodels.data.labelled.texts import TextClassification

__all__ = ["Example", "TextClassification", "read_examples"]
