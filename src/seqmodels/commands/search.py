"""`seqmodels search`: looks for good settings with Optuna, by many processes on one study."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqmodels.commands.search_space import Search, plan
from seqmodels.commands.search_study import Trials
from seqmodels.commands.sweep_identity import code_digest, data_digest
from seqmodels.commands.sweep_pool import make_pool, prepared, threads_each
from seqmodels.errors import short
from seqmodels.runs import now, write_atomically, write_json

INTERRUPTED = 130


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the search; its exit status: 0, 1 where a trial failed otherwise than by diverging or
    none finished, 130 where it was interrupted."""
    search = plan(overrides, config_dirs)
    folder = search.directory
    common = facts(search, data_digest(search.plain))
    size, threads = threads_each(search.settings, search.trials)
    with prepared(folder):
        trials = Trials(search, folder, common, threads)
        print(f"{search.trials} trials: {folder}", flush=True)
        complete = make_pool(
            trials, search.settings, size, threads, folder, config_dirs
        ).carry_out()
    return _close(write(search, folder, trials), folder, complete)


def facts(search: Search, digest: str) -> dict[str, Any]:
    """What all trials of a study have in common.

    Args:
        search: the plan.
        digest: of the data.
    """
    settings = search.settings
    return {
        "space": json.dumps([[d.key, d.kind, list(d.values)] for d in search.space]),
        "fixed settings": json.dumps(sorted(search.fixed)),
        "metric": f"{settings.mode} {settings.metric}",
        "data": digest,
        "code": code_digest(search.plain),
    }


def write(search: Search, folder: Path, trials: Trials) -> dict[str, Any]:
    """Writes search.json, table.csv and, where a trial finished, history.png.

    Returns:
        The content of search.json.
    """
    settings = search.settings
    rows = [_row(trials, trial) for trial in trials.study.get_trials(deepcopy=False)]
    sign = 1 if settings.mode == "min" else -1
    finished = [row for row in rows if row["outcome"] == "finished"]
    finished.sort(key=lambda row: sign * row["value"])
    best = finished[0] if finished else None
    content = {
        "name": search.name,
        "date": now(),
        "command": sys.argv,
        "metric": settings.metric,
        "mode": settings.mode,
        "seed": settings.seed,
        "space": {d.key: f"{d.kind}({', '.join(map(str, d.values))})" for d in search.space},
        "overrides": list(search.fixed),
        "trials": rows,
        "best": best,
        "best_command": None if best is None else _command(search, best["values"]),
    }
    write_json(folder / "search.json", content)
    _write_table(
        folder, [*finished, *(row for row in rows if row not in finished)], settings.metric
    )
    if best is not None:
        from seqmodels.commands.search_picture import write_picture

        write_picture(folder / "history.png", search, rows)
    return content


def counts(content: dict[str, Any]) -> str:
    """The trials of search.json by what came of them, in words."""
    kinds = [row["outcome"] for row in content["trials"]]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(sorted(kinds)))


def _close(content: dict[str, Any], folder: Path, complete: bool) -> int:
    """Says what was found; the exit status."""
    kinds = [row["outcome"] for row in content["trials"]]
    print(f"{len(kinds)} trials: {counts(content)}", flush=True)
    best, command = content["best"], content["best_command"]
    if best is not None:
        print(f"best {content['metric']} {short(best['value'])}, trial {best['number']}:")
        print(f"  {command}")
        print("with several seeds:")
        print(f"  {command.replace('seqmodels train', 'seqmodels train -m', 1)} seed=1,2,3")
    print(f"{folder}/search.json, table.csv{', history.png' if best else ''}", flush=True)
    if not complete or "running" in kinds:
        print("seqmodels: interrupted. The same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    if best is None:
        print("seqmodels: no trial finished", file=sys.stderr)
        return 1
    if "failed" in kinds:
        print(f"seqmodels: {kinds.count('failed')} of {len(kinds)} trials failed", file=sys.stderr)
        return 1
    return 0


def _row(trials: Trials, trial: Any) -> dict[str, Any]:
    steps = sorted(trial.intermediate_values)
    return {
        "number": trial.number,
        "outcome": trial.user_attrs.get("outcome", "running"),
        "value": trial.value if trial.state == trials.states.COMPLETE else None,
        "last_step": steps[-1] if steps else None,
        "last_value": trial.intermediate_values[steps[-1]] if steps else None,
        "values": trials.values(trial),
        "run": f"trial{trial.number:04d}",
        "reason": trial.user_attrs.get("reason"),
    }


def _command(search: Search, values: dict[str, str]) -> str:
    return "seqmodels train " + shlex.join(search.overrides(values))


def _write_table(folder: Path, rows: list[dict[str, Any]], metric: str) -> None:
    """table.csv, the best first."""
    keys = list(dict.fromkeys(key for row in rows for key in row["values"]))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["trial", "outcome", metric, "last step", *keys, "reason"])
    for row in rows:
        shown = ["" if row[k] is None else row[k] for k in ("value", "last_step", "reason")]
        values = [row["values"].get(key, "") for key in keys]
        writer.writerow([row["number"], row["outcome"], *shown[:2], *values, shown[2]])
    write_atomically(folder / "table.csv", buffer.getvalue())
