"""The numbers of a report: a row for each group."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any

from seqmodels.analysis.statistics import Interval, Paired, holm, mean_interval, paired
from seqmodels.commands.report_runs import Group, Run, Section
from seqmodels.errors import UserError, closest, did_you_mean
from seqmodels.runs import higher_is_better


@dataclass
class Row:
    """What a group's runs reached.

    Attributes:
        chosen: by seed, the best validation value, which chose the checkpoint.
        tested: by seed, the test value of that checkpoint.
        against: the paired difference to the baseline in what `compared` is; None for itself.
        corrected: its p value, corrected for the number of comparisons.
    """

    group: Group
    chosen: dict[int, float]
    tested: dict[int, float]
    valid: Interval
    test: Interval
    failed: Counter[str]
    parameters: int | None
    seconds: float
    memory: float
    against: Paired | None = None
    corrected: float = math.nan

    @property
    def label(self) -> str:
        return self.group.label


@dataclass
class Table:
    """A section's rows, the best first.

    Attributes:
        metric: of the selection; test_metric: beside it; compared: which of them the comparison
            with `baseline` is of.
    """

    section: Section
    metric: str
    test_metric: str | None
    higher: bool
    compared: str
    baseline: str | None
    rows: list[Row]
    remarks: list[str]


def table_of(section: Section, metric: str | None, baseline: str | None) -> Table:
    """The numbers of a section.

    Args:
        metric: a validation metric; None: what the runs were selected by.
        baseline: the label of a group, or one of its values; None: the first group.

    Raises:
        UserError: no run has the metric, or no group is called so.
    """
    metric = metric or _usual_metric(section)
    higher = higher_is_better(metric)
    test_metric = metric.replace("val/", "test/", 1) if metric.startswith("val/") else None
    rows, remarks = [], []
    for group in section.groups:
        chosen: dict[int, float] = {}
        tested: dict[int, float] = {}
        for run in group.finished:
            found = run.chosen(metric, higher)
            if found is None:
                remarks.append(f"{run.name} has no {metric}")
                continue
            seed = _free(run, chosen, remarks)
            chosen[seed] = found[0]
            value = run.record.get("metrics", {}).get(test_metric)
            if value is not None:
                tested[seed] = float(value)
                step = run.record.get("tested_step")
                if step is not None and found[1] is not None and step != found[1]:
                    remarks.append(
                        f"{run.name}: its {test_metric} is of step {step}, which another metric "
                        f"chose; its best {metric} came at step {found[1]}"
                    )
        rows.append(_row(group, chosen, tested))
    if not any(row.chosen for row in rows) and any(group.finished for group in section.groups):
        known = sorted(
            {key for g in section.groups for run in g.finished for key in run.record["metrics"]}
        )
        near = did_you_mean(closest(metric, known))
        raise UserError(f"metric={metric}: no run has it{near}; there are {', '.join(known)}")
    compared = test_metric if test_metric and any(row.tested for row in rows) else metric
    base = _baseline(rows, baseline)
    if base is not None:
        _compare(rows, base, of_test=compared == test_metric)
    remarks += _environments(section)
    sign = -1 if higher else 1
    rows.sort(key=lambda r: math.inf if math.isnan(r.valid.mean) else sign * r.valid.mean)
    has_test = any(row.tested for row in rows)
    return Table(
        section, metric, test_metric if has_test else None, higher, compared,
        None if base is None else base.label, rows, remarks,
    )  # fmt: skip


def _usual_metric(section: Section) -> str:
    for group in section.groups:
        for run in group.runs:
            monitor = run.config.get("callbacks.checkpoint.monitor")
            if isinstance(monitor, str) and monitor in run.record.get("metrics", {}):
                return monitor
    return "val/loss"


def _free(run: Run, taken: dict[int, float], remarks: list[str]) -> int:
    """The run's seed; another number where a second run of the group has it."""
    if run.seed not in taken:
        return run.seed
    remarks.append(f"{run.name}: another run of the same configuration has its seed {run.seed}")
    return -1 - len(taken)


def _row(group: Group, chosen: dict[int, float], tested: dict[int, float]) -> Row:
    finished = group.finished
    records = [run.record for run in finished]
    memory = [r["peak_memory_mib"] for r in records if r.get("peak_memory_mib") is not None]
    return Row(
        group,
        chosen,
        tested,
        mean_interval(list(chosen.values())),
        mean_interval(list(tested.values())),
        Counter(run.status for run in group.runs if run.status != "finished"),
        records[0].get("parameters") if records else None,
        statistics.fmean(r["wall_time_seconds"] for r in records) if records else math.nan,
        max(memory) if memory else math.nan,
    )


def _baseline(rows: list[Row], wanted: str | None) -> Row | None:
    if wanted is None:
        return rows[0] if len(rows) > 1 else None
    for row in rows:
        if wanted == row.label:
            return row
    fitting = [row for row in rows if wanted in row.group.values.values() or wanted in row.label]
    if len(fitting) == 1:
        return fitting[0]
    labels = ", ".join(repr(row.label) for row in rows)
    how = "no group" if not fitting else f"{len(fitting)} groups"
    raise UserError(f"baseline={wanted}: {how} of that name; there are {labels}")


def _compare(rows: list[Row], base: Row, *, of_test: bool) -> None:
    def values(row: Row) -> dict[int, float]:
        return row.tested if of_test else row.chosen

    others = [row for row in rows if row is not base]
    for row in others:
        row.against = paired(values(row), values(base))
    for row, p in zip(others, holm([r.against.p for r in others if r.against]), strict=True):
        row.corrected = p


def _environments(section: Section) -> list[str]:
    """What the runs' surroundings differ in."""
    runs = [run for group in section.groups for run in group.runs]
    seen: dict[str, set[str]] = {}
    for run in runs:
        versions = run.record.get("versions") or {}
        parts = {**versions, "platform": run.record.get("platform"),
                 "commit": _commit(run),
                 "threads": run.record.get("num_threads")}  # fmt: skip
        for name, value in parts.items():
            seen.setdefault(name, set()).add(str(value))
    found = [
        f"the runs differ in {name}: {', '.join(sorted(values))}"
        for name, values in seen.items()
        if len(values) > 1
    ]
    digests: dict[int, set[str]] = {}
    for run in runs:
        digest = (run.record.get("data") or {}).get("digest")
        digests.setdefault(run.seed, set()).add(str(digest))
    data_vary = any(key.startswith("data.") for g in section.groups for key in g.values)
    if not data_vary and any(len(each) > 1 for each in digests.values()):
        found.append("runs of the same seed read different data (see their digests)")
    return found


def _commit(run: Run) -> str:
    """The first ten signs of the commit, and whether there were changes."""
    commit, plus, _ = str(run.record.get("git_commit")).partition("+")
    return commit[:10] + (" with changes" if plus else "")


# --- as text ------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """A value in a cell."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.4g}" if abs(value) < 1 or abs(value) >= 1000 else f"{value:.3f}"


def with_interval(interval: Interval) -> str:
    """mean [low, high]."""
    half = (interval.high - interval.low) / 2
    if math.isnan(half):
        return number(interval.mean)
    if half <= 0 or abs(interval.mean) >= 1e5:
        return f"{number(interval.mean)} [{number(interval.low)}, {number(interval.high)}]"
    # Two digits of what is uncertain.
    digits = min(8, max(0, 1 - math.floor(math.log10(half))))
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def failures(row: Row) -> str:
    """ "0 of 3", or what became of how many."""
    count = len(row.group.runs)
    if not row.failed:
        return f"0 of {count}"
    return f"{', '.join(f'{n} {kind}' for kind, n in row.failed.items())} of {count}"


def p_text(p: float) -> str:
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Heads and rows, for people."""
    heads = ["group", "n", table.metric]
    heads += [table.test_metric] if table.test_metric else []
    heads += [f"Δ {table.compared}", "p (Holm)"] if table.baseline is not None else []
    heads += ["parameters", "seconds", "memory (MiB)", "not finished"]
    rows = []
    for row in table.rows:
        line = [row.label, str(len(row.chosen)), with_interval(row.valid)]
        line += [with_interval(row.test)] if table.test_metric else []
        if table.baseline is not None:
            if row.against is None:
                line += ["baseline", ""]
            else:
                line += [with_interval(row.against.difference), p_text(row.corrected)]
        parameters = "–" if row.parameters is None else f"{row.parameters:,}"
        memory = "–" if math.isnan(row.memory) else f"{row.memory:.0f}"
        seconds = "–" if math.isnan(row.seconds) else f"{row.seconds:.0f}"
        rows.append([*line, parameters, seconds, memory, failures(row)])
    return heads, rows


def brief(table: Table) -> tuple[list[str], list[list[str]]]:
    """Heads and rows for a terminal: the means, and half the interval of the selection."""
    heads = ["group", "n", table.metric, "±"]
    heads += [table.test_metric] if table.test_metric else []
    heads += [f"Δ {table.compared}", "p"] if table.baseline is not None else []
    rows = []
    for row in table.rows:
        line = [row.label, str(len(row.chosen)), number(row.valid.mean)]
        line += [number((row.valid.high - row.valid.low) / 2)]
        line += [number(row.test.mean)] if table.test_metric else []
        if table.baseline is not None and row.against is not None:
            line += [number(row.against.difference.mean), p_text(row.corrected)]
        elif table.baseline is not None:
            line += ["baseline", ""]
        rows.append([*line, failures(row)])
    return [*heads, "not finished"], rows


def markdown(tables: list[Table], command: str) -> str:
    parts = ["# Report", ""]
    for table in tables:
        heads, rows = cells(table)
        lines = [heads, ["---"] * len(heads), *rows]
        parts += [f"## {table.section.title}", ""]
        parts += ["| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines]
        parts += ["", *(f"- {remark}" for remark in table.remarks)]
        lost = [run for row in table.rows for run in row.group.runs if run.status != "finished"]
        parts += [f"- {run.name}: {run.status}: {run.record.get('reason')}" for run in lost]
        parts += [""]
    parts += [NOTE, "", f"    {command}", ""]
    return "\n".join(parts)


NOTE = (
    "Mean and 95 % interval over seeds (Student's t below ten, bootstrap from ten on); the "
    "checkpoint is chosen on validation, the test is of that checkpoint; Δ is the mean of the "
    "differences to the baseline over common seeds, p of Student's paired test, corrected by Holm."
)


def csv_text(tables: list[Table]) -> str:
    """A row for each run, also for those that did not finish."""
    axes = list(dict.fromkeys(k for t in tables for r in t.rows for k in r.group.values))
    rows: list[dict[str, Any]] = []
    for table in tables:
        for row in table.rows:
            for run in row.group.runs:
                found = run.chosen(table.metric, table.higher)
                finished = run.status == "finished"
                metrics = run.record.get("metrics", {})
                rows.append({
                    "section": table.section.title, "group": row.label,
                    **{axis: row.group.values.get(axis, "") for axis in axes},
                    "seed": run.seed, "run": run.name, "status": run.status,
                    "reason": run.record.get("reason"), "metric": table.metric,
                    "value": found[0] if found and finished else None,
                    "step": found[1] if found and finished else None,
                    "test": metrics.get(table.test_metric) if finished else None,
                    "parameters": run.record.get("parameters"),
                    "seconds": run.record.get("wall_time_seconds"),
                    "memory_mib": run.record.get("peak_memory_mib"),
                })  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
