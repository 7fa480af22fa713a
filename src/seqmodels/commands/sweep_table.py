"""The table of a sweep: mean and scatter over seeds, a row for each choice."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmodels.analysis.statistics import student
from seqmodels.commands.sweep_plan import REPEATS, last
from seqmodels.errors import UserError
from seqmodels.runs import higher_is_better, read_record, write_atomically


def best_of(record: dict[str, Any], metric: str, mode: str) -> float | None:
    """The best value of a validation metric, else the last of any."""
    best = record.get("best", {}).get(metric)
    if best is not None and (mode == "max") == higher_is_better(metric):
        return None if best["value"] is None else float(best["value"])
    value = record.get("metrics", {}).get(metric)
    return None if value is None else float(value)


def write_tables(folder: Path, content: dict[str, Any]) -> list[dict[str, Any]]:
    """table.csv and table.md in the sweep's folder; the rows, the best first.

    Args:
        folder: of the sweep, with the runs.
        content: of sweep.json.
    """
    metric, mode = content["metric"], content["mode"]
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    for job in content["jobs"]:
        key = tuple((k, v) for k, v in job["choice"].items() if k not in REPEATS)
        groups.setdefault(key, []).append(job)
    names = _names([k for job in content["jobs"] for k in (*job["choice"], *job.get("tuned", ()))])
    rows = []
    for key, jobs in groups.items():
        records = []
        for job in jobs:
            if job["outcome"] in ("finished", "skipped"):
                try:
                    record = read_record(folder / job["run"])
                except UserError:
                    record = None
                records += [record] if record is not None else []
        found = [v for r in records if (v := best_of(r, metric, mode)) is not None]
        test = metric.replace("val/", "test/", 1)
        tested = [float(v) for r in records if (v := r.get("metrics", {}).get(test)) is not None]
        rows.append(
            {
                **{names[k]: v for k, v in key},
                **{names[k]: brief(v) for k, v in (jobs[0].get("tuned") or {}).items()},
                "n": len(found),
                "failed": sum(job["outcome"] == "failed" for job in jobs),
                metric: statistics.fmean(found) if found else math.nan,
                f"± {metric}": student(found),
                **({test: statistics.fmean(tested)} if tested and test != metric else {}),
                "parameters": int(records[0]["parameters"]) if records else 0,
                "seconds": round(statistics.fmean(r["wall_time_seconds"] for r in records), 1)
                if records
                else math.nan,
            }
        )
    sign = 1 if mode == "min" else -1
    rows.sort(key=lambda row: math.inf if math.isnan(row[metric]) else sign * row[metric])
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "table.csv", buffer.getvalue())
    cells = [[shown(name, row.get(name)) for name in columns] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    write_atomically(folder / "table.md", f"{text}\n")
    return rows


def _names(keys: Sequence[str]) -> dict[str, str]:
    """The last words of settings' names; the whole name where two have the same last word."""
    own = list(dict.fromkeys(keys))
    words = [last(key) for key in own]
    return {
        key: word if words.count(word) == 1 else key for key, word in zip(own, words, strict=True)
    }


def brief(text: str) -> str:
    """A value in a few digits, where it is a number."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def shown(name: str, value: Any) -> str:
    """A cell of the table in words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and name == "seconds":
        return f"{value:.1f}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_table(rows: list[dict[str, Any]]) -> None:
    """On the terminal; elsewhere as wide as it is."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1))
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(name, row.get(name)) for name in names))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 200)
    console.print(table)
