"""`seqmodels report`: what a sweep, or any set of runs, has shown, on one page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmodels import __version__
from seqmodels.commands.report_runs import Run, read_runs, sections
from seqmodels.commands.report_table import (
    NOTE,
    Table,
    brief,
    cells,
    csv_text,
    markdown,
    table_of,
)
from seqmodels.config import check, compose
from seqmodels.errors import UserError
from seqmodels.runs import now, write_atomically


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    places = [word for word in overrides if "=" not in word]
    cfg = compose("report", [word for word in overrides if "=" in word], config_dirs)
    check(cfg)
    if not places:
        raise UserError("seqmodels report needs directories with runs: seqmodels report DIR…")
    runs = read_runs(places)
    tables = [table_of(section, cfg.metric, cfg.baseline) for section in sections(runs)]
    folder = Path(cfg.output or places[0]).expanduser()
    title = cfg.title or f"Report of {', '.join(Path(p).name or p for p in places)}"
    command = "seqmodels report " + shlex.join(overrides)
    contents = {
        "report.html": page(tables, runs, title, command),
        "report.md": markdown(tables, command),
        "report.csv": csv_text(tables),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replaced = [name for name in contents if (folder / name).exists()]
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
    _print(tables)
    told = ", replacing an older report" if replaced else ""
    print(f"{folder}/report.html, report.md, report.csv{told}", flush=True)
    return 0


def _print(tables: list[Table]) -> None:
    from rich.console import Console
    from rich.table import Table as Shown

    console = Console()
    for table in tables:
        heads, rows = brief(table)
        shown = Shown(title=table.section.title)
        for head in heads:
            first = head == "group"
            shown.add_column(head, justify="left" if first else "right", no_wrap=first)
        for row in rows:
            shown.add_row(*row)
        console.print(shown)
        for remark in table.remarks:
            print(f"note: {remark}")


def page(tables: list[Table], runs: list[Run], title: str, command: str) -> str:
    """The HTML file: nothing in it is fetched from elsewhere."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    finished = sum(run.status == "finished" for run in runs)
    return environment.from_string(source).render(
        title=title,
        command=command,
        count=len(runs),
        finished=finished,
        lost=len(runs) - finished,
        date=now(),
        version=__version__,
        parts=[_part(table) for table in tables],
        note=NOTE,
        runs=[
            _facts(run, row.label)
            for table in tables
            for row in table.rows
            for run in row.group.runs
        ],
    )


def _part(table: Table) -> dict[str, Any]:
    from seqmodels.commands.report_pictures import MOST_CURVES, curves_picture, seeds_picture

    heads, lines = cells(table)
    drawn = [row for row in table.rows if row.chosen]
    lost = [run for row in table.rows for run in row.group.runs if run.status != "finished"]
    return {
        "title": table.section.title,
        "heads": heads,
        "lines": lines,
        "remarks": table.remarks,
        "seeds": seeds_picture(table) if drawn else "",
        "curves": curves_picture(table) if drawn else "",
        "left_out": max(0, len(drawn) - MOST_CURVES),
        "lost": [
            {"name": run.name, "status": run.status, "reason": run.record.get("reason")}
            for run in lost
        ],
    }


def _facts(run: Run, group: str) -> dict[str, Any]:
    record = run.record
    words = [str(word) for word in record.get("command") or []]
    named = ("started", "ended", "steps", "epochs", "wall_time_seconds", "platform", "hostname",
             "cpu_count", "num_threads", "git_commit", "parameters")  # fmt: skip
    facts = [(key, record.get(key)) for key in named if record.get(key) is not None]
    facts += list((record.get("versions") or {}).items())
    data = record.get("data") or {}
    facts += [("data", data.get("summary")), ("data digest", data.get("digest"))]
    metrics = {k: v for k, v in (record.get("metrics") or {}).items() if "/" in k}
    facts += [("metrics", json.dumps(metrics))]
    return {
        "name": run.name,
        "group": group,
        "seed": run.seed,
        "status": run.status,
        "command": shlex.join([Path(words[0]).name, *words[1:]]) if words else "unknown",
        "facts": facts,
    }
