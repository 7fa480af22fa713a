"""Series of numbers: equations and files, to be forecast or filtered."""

from __future__ import annotations

from seqmodels.data.series.base import SeriesData
from seqmodels.data.series.files import FileSeries
from seqmodels.data.series.parts import Part
from seqmodels.data.series.sources import (
    Echo,
    Henon,
    Logistic,
    Lorenz,
    MackeyGlass,
    Narma,
    Roessler,
    Series,
    Sines,
    Source,
)
from seqmodels.data.series.user import FileSeriesData

__all__ = [
    "Echo",
    "FileSeries",
    "FileSeriesData",
    "Henon",
    "Logistic",
    "Lorenz",
    "MackeyGlass",
    "Narma",
    "Part",
    "Roessler",
    "Series",
    "SeriesData",
    "Sines",
    "Source",
]
