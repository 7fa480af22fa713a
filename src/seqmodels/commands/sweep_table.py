"""The table of a sweep: mean and scatter over seeds, a row for each choice."""

from __future__ import annotations

import csv
import io
import math
import statistics
from pathlib import Path
from typing import Any

from seqmodels.analysis.statistics import student
from seqmodels.commands.sweep_plan import REPEATS
from seqmodels.errors import UserError
from seqmodels.runs import read_record, write_atomically


def best_of(record: dict[str, Any], metric: str, mode: str) -> float | None:
    """The best value of a validation metric, else the last of any."""
    best = record.get("best", {}).get(metric)
    if best is not None and (mode == "min") == (not metric.endswith(("accuracy", "f1", "r2"))):
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
                **{k.rpartition("/")[2].rpartition(".")[2]: v for k, v in key},
                "n": len(found),
                "failed": sum(job["outcome"] == "failed" for job in jobs),
                metric: statistics.fmean(found) if found else math.nan,
                f"± {metric}": student(found),
                **({test: statistics.fmean(tested)} if tested and test != metric else {}),
                "parameters": int(records[0]["parameters"]) if records else 0,
                "seconds": statistics.fmean(r["wall_time_seconds"] for r in records)
                if records
                else math.nan,
            }
        )
    sign = 1 if mode == "min" else -1
    rows.sort(key=lambda row: math.inf if math.isnan(row[metric]) else sign * row[metric])
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "table.csv", buffer.getvalue())
    lines = [names, ["---"] * len(names), *([shown(row.get(n)) for n in names] for row in rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    write_atomically(folder / "table.md", f"{text}\n")
    return rows


def shown(value: Any) -> str:
    """A cell of the table in words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_table(rows: list[dict[str, Any]]) -> None:
    """On the terminal."""
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table()
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(shown(row.get(name)) for name in names))
    Console().print(table)
