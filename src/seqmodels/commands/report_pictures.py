"""The pictures of a report, as SVG that stands in its page."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING

from seqmodels.analysis.statistics import mean_interval
from seqmodels.commands.report_table import Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 12


def seeds_picture(table: Table) -> str:
    """A line for each group: every seed a dot, the mean and its 95 % interval."""
    from matplotlib.figure import Figure

    tested = table.test_metric is not None
    rows = [row for row in table.rows if row.chosen]
    figure = Figure(figsize=(7.5, 0.9 + 0.34 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        pairs = [(row.chosen, row.valid, "tab:blue", -0.13 if tested else 0.0)]
        if tested:
            pairs.append((row.tested, row.test, "tab:orange", 0.13))
        for values, interval, colour, shift in pairs:
            at = place + shift
            axis.plot(list(values.values()), [at] * len(values), "o", ms=4, color=colour, alpha=0.5)
            if not math.isnan(interval.low):
                axis.plot([interval.low, interval.high], [at, at], color=colour, lw=1.5)
            axis.plot([interval.mean], [at], "|", ms=11, mew=2, color=colour)
    axis.set_yticks(range(len(rows)), [_cut(row.label) for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel(table.metric + (f" (blue), {table.test_metric} (orange)" if tested else ""))
    axis.grid(alpha=0.3, axis="x")
    return svg(figure)


def curves_picture(table: Table) -> str:
    """The validation metric over the steps: the mean of a group's runs and its 95 % interval."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    rows = [row for row in table.rows if row.chosen][:MOST_CURVES]
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["tab10" if len(rows) <= 10 else "tab20"]
    drawn = []
    for index, row in enumerate(rows):
        colour = colours(index)
        steps, means, lows, highs = _course(row, table.metric)
        if not steps:
            continue
        drawn += means
        axis.plot(steps, means, color=colour, lw=1.6, marker="o", ms=3, label=_cut(row.label))
        axis.fill_between(steps, lows, highs, color=colour, alpha=0.18, lw=0)
    axis.set_xlabel("step")
    axis.set_ylabel(table.metric)
    if drawn:
        # Intervals of two seeds may be wider than the picture.
        low, high = min(drawn), max(drawn)
        margin = 0.08 * (high - low) or 0.1
        axis.set_ylim(low - margin, high + margin)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    axis.grid(alpha=0.3)
    return svg(figure)


def _course(row: Row, metric: str) -> tuple[list[int], list[float], list[float], list[float]]:
    """Steps at which all runs of the group were measured; means, and bounds of the interval."""
    courses = []
    for run in row.group.finished:
        found = {int(r["step"]): float(r[metric]) for r in run.rows if r.get(metric) is not None}
        if found:
            courses.append(found)
    if not courses:
        return [], [], [], []
    steps = sorted(set.intersection(*(set(c) for c in courses)))
    intervals = [mean_interval([c[step] for c in courses][:9]) for step in steps]
    lows = [i.mean if math.isnan(i.low) else i.low for i in intervals]
    highs = [i.mean if math.isnan(i.high) else i.high for i in intervals]
    return steps, [i.mean for i in intervals], lows, highs


def _cut(label: str) -> str:
    return label if len(label) <= 44 else label[:43] + "…"


def svg(figure: Figure) -> str:
    """The figure as an element of a page, with text as text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # As wide as the page allows: the size in points gives way to the view box.
    return re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"([^>]*?) (?:width|height)="[^"]*"',
                  r"\1\2", text, count=1)  # fmt: skip
