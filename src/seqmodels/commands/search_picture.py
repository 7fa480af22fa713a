"""The picture of a search: its trials in their order, and the metric over each setting."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from seqmodels.commands.search_space import Dimension, Search
from seqmodels.runs import write_atomically

COLUMNS = 3
SPREADS = 0.5  # of the finished ones' values: how far beyond them the picture goes
FINISHED, PRUNED, LOST, BEST = "#1f6fb4", "#c08a28", "#b3261e", "#222222"


def write_picture(path: Path, search: Search, rows: Sequence[dict[str, Any]]) -> None:
    """Draws the history and a panel for each setting.

    Args:
        path: of the PNG.
        search: the plan.
        rows: of search.json's trials, at least one of them finished.
    """
    panels = 1 + len(search.space)
    columns = 2 if panels == 4 else min(COLUMNS, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    low, high = _limits(rows)
    reach = (low, high) if search.settings.mode == "min" else (high, low)
    _history(grid[0], search, rows, reach)
    for axes, dimension in zip(grid[1:], search.space, strict=False):
        _over(axes, dimension, rows, reach)
    for axes in grid[:panels]:
        axes.set_ylim(low, high)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[panels:]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel(search.settings.metric)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, buffer.getvalue())


def _limits(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Of the finished and, as far as they are not far off, the pruned."""
    values = sorted(row["value"] for row in rows if row["value"] is not None)
    pruned = [
        row["last_value"]
        for row in rows
        if row["outcome"] == "pruned" and row["last_value"] is not None
    ]
    spread = (values[-1] - values[0]) or abs(values[0]) or 1.0
    reach = SPREADS * spread
    inside = [v for v in pruned if values[0] - reach <= v <= values[-1] + reach]
    low, high = min([*values, *inside]), max([*values, *inside])
    margin = 0.08 * ((high - low) or spread)
    return low - margin, high + margin


def _points(
    axes: Axes,
    rows: Sequence[dict[str, Any]],
    places: Sequence[Any],
    reach: tuple[float, float],
) -> None:
    """The trials at their places; reach: (best, worst) value that the picture shows."""
    worst = reach[1]
    groups: dict[str, list[tuple[Any, float]]] = {}
    for row, place in zip(rows, places, strict=True):
        kind, value = row["outcome"], row["value"]
        if kind == "running":
            continue
        if kind in ("pruned", "diverged", "failed"):
            value = row["last_value"] if kind == "pruned" else None
        # What has no value, or one beyond the picture, stands at its edge.
        shown = worst if value is None else min(max(value, min(reach)), max(reach))
        groups.setdefault(kind, []).append((place, shown))
    looks: dict[str, dict[str, Any]] = {
        "finished": {"color": FINISHED, "marker": "o", "s": 26},
        "pruned": {
            "facecolors": "none",
            "edgecolors": PRUNED,
            "marker": "o",
            "s": 26,
            "clip_on": False,
        },
        "diverged": {"color": LOST, "marker": "^", "s": 36, "clip_on": False},
        "failed": {"color": LOST, "marker": "x", "s": 36, "clip_on": False},
    }
    for kind, look in looks.items():
        if kind in groups:
            across, up = zip(*groups[kind], strict=True)
            axes.scatter(across, up, label=kind, zorder=3, **look)
    done = [(row["value"], place) for row, place in zip(rows, places, strict=True)]
    value, place = min(
        (pair for pair in done if pair[0] is not None), key=lambda pair: abs(pair[0] - reach[0])
    )
    axes.scatter([place], [value], label="best", s=110, facecolors="none", edgecolors=BEST)


def _history(
    axes: Axes, search: Search, rows: Sequence[dict[str, Any]], reach: tuple[float, float]
) -> None:
    _points(axes, rows, [row["number"] for row in rows], reach)
    done = [row for row in rows if row["value"] is not None]
    better = min if search.settings.mode == "min" else max
    best = list(accumulate((row["value"] for row in done), better))
    numbers = [row["number"] for row in done]
    axes.step(
        [*numbers, rows[-1]["number"]], [*best, best[-1]], where="post", color=BEST, lw=1,
        label="best so far",
    )  # fmt: skip
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8)


def _over(
    axes: Axes,
    dimension: Dimension,
    rows: Sequence[dict[str, Any]],
    reach: tuple[float, float],
) -> None:
    texts = [row["values"][dimension.key] for row in rows]
    if dimension.kind == "choice":
        places: list[Any] = [dimension.values.index(text) for text in texts]
        axes.set_xticks(range(len(dimension.values)), list(dimension.values))
        axes.set_xlim(-0.5, len(dimension.values) - 0.5)
    else:
        places = [float(text) for text in texts]
        if dimension.kind.startswith("log"):
            axes.set_xscale("log")
            few = dimension.values[1] / dimension.values[0] < 200
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
    _points(axes, rows, places, reach)
    axes.set_xlabel(dimension.key)
