"""The measurements of `seqmodels bench` as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- measured: made by `seqmodels bench` -->", "<!-- end of measured -->"
TITLE = "# Speed and memory of cells and engines\n"
MEANS = (
    *("cell", "engine", "beside", "shapes", "forward ×", "training step ×"),
    *("largest step ×", "peak memory ×", "first call, s", "later process, s"),
)
ROWS = (
    *("cell", "engine", "T,B,I,H", "forward, ms", "×", "training step, ms", "×"),
    *("quartiles", "peak memory, MiB", "×"),
)
Row = Mapping[str, Any]


def document(content: Mapping[str, Any], existing: str | None) -> str:
    """A page with the tables; of an existing page only what lies between the two marks changes.

    Raises:
        ValueError: the page that exists has no such marks.
    """
    middle = f"{BEGIN}\n\n{tables(content)}\n{END}"
    if existing is None:
        return f"{TITLE}\n{middle}\n"
    if existing.count(BEGIN) != 1 or existing.count(END) != 1:
        raise ValueError(
            f"it exists and has no place for the tables: a line {BEGIN} and a line {END}"
        )
    before, _, rest = existing.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + middle + after


def tables(content: Mapping[str, Any]) -> str:
    """Where it was measured, geometric means, every row, the cost against T."""
    parts = [_where(content), *_means(content["rows"]), *_rows(content["rows"])]
    if content["linear"]:
        parts += _linear(content["linear"])
    return "\n".join(parts)


def _where(content: Mapping[str, Any]) -> str:
    machine = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    cut = " Interrupted: the rest was not measured." if content["interrupted"] else ""
    return (
        f"{machine['processor']}, {machine['cpu_count']} cores, {machine['platform']}; {versions}; "
        f"{content['threads']} threads, {content['dtype']}, seed {content['seed']}, "
        f"{content['date']}.{cut}\n"
    )


def geometric_mean(values: Iterable[float]) -> float:
    """NaN of none."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def _means(rows: Sequence[Row]) -> list[str]:
    """One line a cell and engine that ran at least one shape."""
    lines = _head(
        "Geometric means over the shapes",
        MEANS,
        4,
    )
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["reason"] is None:
            groups.setdefault((row["cell"], row["engine"]), []).append(row)
    for (cell, engine), group in groups.items():
        memories = [r["memory"] for r in group if (r.get("memory") or {}).get("ratio")]
        steps = [r["step"]["ratio"] for r in group]
        lines.append(
            _line(
                cell,
                engine,
                f"nn.{group[0]['reference'].upper()}",
                str(len(group)),
                _ratio(geometric_mean(r["forward"]["ratio"] for r in group)),
                _ratio(geometric_mean(steps)),
                _ratio(max(steps)),
                _ratio(geometric_mean(m["ratio"] for m in memories)),
                f"{max(r['first_call_s'] for r in group):.1f}",
                f"{max(m['later_first_call_s'] for m in memories):.1f}" if memories else "–",
            )
        )
    return [*lines, ""]


def _rows(rows: Sequence[Row]) -> list[str]:
    lines = _head(
        "Each shape",
        ROWS,
        3,
    )
    for row in rows:
        shape = ",".join(map(str, row["shape"])) if "shape" in row else "–"
        if row["reason"] is not None:
            lines.append(_line(row["cell"], row["engine"], shape, _cell(row["reason"]), *[""] * 6))
            continue
        forward, step = row["forward"], row["step"]
        low, high = step["quartiles"]
        used = row["engine_used"]
        engine = row["engine"] if used == row["engine"] else f"{row['engine']} ({used})"
        lines.append(
            _line(
                row["cell"],
                engine,
                shape,
                f"{1000 * forward['seconds']:.2f}",
                _ratio(forward["ratio"]),
                f"{1000 * step['seconds']:.2f}",
                _ratio(step["ratio"]),
                f"{low:.2f}–{high:.2f}",
                *_peak(row.get("memory")),
            )
        )
    return [*lines, ""]


def _peak(memory: Row | None) -> tuple[str, str]:
    if memory is None:
        return "–", "–"
    if memory["reason"] is not None:
        return _cell(memory["reason"]), ""
    ratio = "–" if memory["ratio"] is None else _ratio(memory["ratio"])
    return f"{memory['bytes'] / 2**20:.1f}", ratio


def _linear(rows: Sequence[Row]) -> list[str]:
    lengths: list[int] = next((r["steps"] for r in rows if r["reason"] is None), [])
    batch, inputs, hidden = rows[0]["shape"]
    lines = _head(
        f"Training step against T, ms (B, I, H = {batch}, {inputs}, {hidden}); slope 1 is linear",
        ("cell", "engine", *(f"T = {t:,}" for t in lengths), "slope in log-log"),
        2,
    )
    for row in rows:
        if row["reason"] is not None:
            rest = [_cell(row["reason"]), *[""] * len(lengths)]
        else:
            rest = [*(f"{1000 * s:.1f}" for s in row["seconds"]), f"{row['slope']:.2f}"]
        lines.append(_line(row["cell"], row["engine"], *rest))
    return [*lines, ""]


def _head(title: str, columns: Sequence[str], left: int) -> list[str]:
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    return [f"**{title}**", "", _line(*columns), _line(*rule)]


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"
