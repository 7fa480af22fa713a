"""Sequences drawn from a definition: nothing to download, nothing to run out of."""

from __future__ import annotations

from seqmodels.data.synthetic.adding import Adding
from seqmodels.data.synthetic.base import Problem, SyntheticData
from seqmodels.data.synthetic.context_tagging import ContextTagging
from seqmodels.data.synthetic.copy_memory import CopyMemory
from seqmodels.data.synthetic.counting import Blocks, Counting, Parity
from seqmodels.data.synthetic.grammars import Dyck, EmbeddedReber
from seqmodels.data.synthetic.loaders import DrawnLoader, FixedLoader
from seqmodels.data.synthetic.recall import AssociativeRecall, DelayedRecall
from seqmodels.data.synthetic.temporal_order import TemporalOrder

__all__ = [
    "Adding",
    "AssociativeRecall",
    "Blocks",
    "ContextTagging",
    "CopyMemory",
    "Counting",
    "DelayedRecall",
    "DrawnLoader",
    "Dyck",
    "EmbeddedReber",
    "FixedLoader",
    "Parity",
    "Problem",
    "SyntheticData",
    "TemporalOrder",
]
