"""A user's own files as data."""

from __future__ import annotations

from collections.abc import Sequence

from seqmodels.data.series.base import SeriesData
from seqmodels.data.series.files import FileSeries
from seqmodels.data.series.parts import Scale


class FileSeriesData(SeriesData):
    """Columns of files as series: `FileSeries` and `SeriesData` in one.

    Args:
        path, target, inputs, time, separator, decimal: see `FileSeries`.
        others: see `SeriesData`; parts are shares here unless they are told otherwise.

    Raises:
        ValueError: a column is both asked for and known at the same step.
    """

    def __init__(
        self,
        path: str | Sequence[str],
        *,
        target: str | int | Sequence[str | int] | None = None,
        inputs: str | int | Sequence[str | int] | None = None,
        time: str | int | None = None,
        separator: str | None = None,
        decimal: str = ".",
        train: float = 0.6,
        valid: float = 0.2,
        test: float = 0.2,
        washout: int = 100,
        horizon: int = 1,
        feedback: bool | None = None,
        scale: Scale = "standard",
        window: int | None = None,
        batch_size: int = 32,
        batches: int = 100,
        free_steps: int = 0,
        free_starts: int = 20,
        baseline_lags: int = 10,
        double: bool = False,
        seed: int = 0,
    ) -> None:
        source = FileSeries(
            path, target=target, inputs=inputs, time=time, separator=separator, decimal=decimal
        )
        both = sorted(set(source.target or ()) & set(source.inputs or ()))
        if both and horizon == 0:
            raise ValueError(
                f"data.inputs: {both[0]!r} is the target too, and with data.horizon=0 the answer "
                "would be known: leave it out, or ask for a later step"
            )
        super().__init__(
            source,
            train=train,
            valid=valid,
            test=test,
            washout=washout,
            horizon=horizon,
            feedback=feedback,
            scale=scale,
            window=window,
            batch_size=batch_size,
            batches=batches,
            free_steps=free_steps,
            free_starts=free_starts,
            baseline_lags=baseline_lags,
            double=double,
            seed=seed,
        )
