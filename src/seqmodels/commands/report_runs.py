"""The runs of a report: found, read, and put into groups that differ in nothing but the seed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from seqmodels.errors import UserError
from seqmodels.runs import diverged, read_record

# Of the configuration: what does not make a run another one.
NOT_COMPARED = ("run_dir", "resume", "num_threads", "logger", "callbacks", "seed")
NOT_COMPARED_OF_TRAINER = ("enable_progress_bar", "log_every_n_steps")


@dataclass
class Run:
    """One run directory.

    Attributes:
        folder: where it lies; name: as it is shown.
        record: of run.json; config: flat, by dotted key.
        choice: the values of a sweep's axes, where it belongs to one.
        rows: of metrics.jsonl.
    """

    folder: Path
    name: str
    record: dict[str, Any]
    config: dict[str, Any]
    choice: dict[str, str] | None
    rows: list[dict[str, Any]] = field(repr=False)

    @property
    def seed(self) -> int:
        return int(self.record.get("seed", 0))

    @property
    def status(self) -> str:
        """finished, diverged, failed, interrupted or running (or lost)."""
        status = str(self.record.get("status"))
        lost = status == "failed" and diverged(self.record.get("reason"))
        return "diverged" if lost else status

    def chosen(self, metric: str, higher: bool) -> tuple[float, int | None] | None:
        """The best value of a validation metric and its step; else the last value of a metric."""
        best = self.record.get("best", {}).get(metric)
        found = [
            (float(row[metric]), int(row["step"]))
            for row in self.rows
            if isinstance(row.get(metric), int | float) and math.isfinite(row[metric])
        ]
        if metric.startswith("val/") and found:
            return (max if higher else min)(found, key=lambda pair: pair[0])
        if best is not None and best.get("value") is not None:
            return float(best["value"]), int(best["step"])
        value = self.record.get("metrics", {}).get(metric)
        return None if value is None else (float(value), None)


@dataclass
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    values: dict[str, str]  # what tells it from the other groups
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.status == "finished"]


@dataclass
class Section:
    """Runs of one task on one kind of data: they can be compared."""

    title: str
    groups: list[Group]


def read_runs(places: Sequence[str]) -> list[Run]:
    """All runs in and below these directories, each once, in the order of their names.

    Raises:
        UserError: a directory is missing or has no run in it; a record cannot be read.
    """
    found: dict[Path, Run] = {}
    for place in places:
        folder = Path(place).expanduser()
        if not folder.is_dir():
            raise UserError(f"{place}: there is no such directory")
        records = sorted(folder.rglob("run.json"))
        if not records:
            raise UserError(
                f"{place}: there is no run in it: give directories that seqmodels train made"
            )
        choices: dict[Path, dict[str, str]] = {}
        for plan in sorted({r.parent.parent for r in records} | {folder}):
            choices |= _choices(plan)
        for path in records:
            own = path.parent
            if own.resolve() not in found:
                found[own.resolve()] = _run(own, folder, choices.get(own))
    return list(found.values())


def _run(own: Path, folder: Path, choice: dict[str, str] | None) -> Run:
    record = read_record(own)
    assert record is not None
    try:
        text = (own / "config.yaml").read_text(encoding="utf-8")
        config = flat(yaml.safe_load(text) or {})
    except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
        raise UserError(f"{own / 'config.yaml'} cannot be read: {error}") from None
    name = folder.name if own == folder else str(own.relative_to(folder))
    return Run(own, name, record, config, choice, read_rows(own / "metrics.jsonl"))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that are whole; none where there is no such file."""
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last one of a run that was killed
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def _choices(folder: Path) -> dict[Path, dict[str, str]]:
    """The axes' values of a sweep's runs, by their folders."""
    try:
        content = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        return {folder / job["run"]: job["choice"] for job in content["jobs"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'sweep.json'} cannot be read: {error}") from None


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists stay whole."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        found |= flat(item, f"{name}.") if isinstance(item, dict) else {name: item}
    return found


def sections(runs: Iterable[Run]) -> list[Section]:
    """One for each task and kind of data, and in each the groups."""
    kinds: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    return [Section(", ".join(p for p in kind if p), _groups(own)) for kind, own in kinds.items()]


def _kind(run: Run) -> tuple[str, ...]:
    def last(key: str) -> str:
        return str(run.config.get(key) or "").rpartition(".")[2]

    place = run.config.get("data.path") or run.config.get("data.name") or ""
    inner = last("data.problem._target_") or last("data.source._target_")
    return last("task._target_"), last("data._target_"), inner, str(place)


def _groups(runs: list[Run]) -> list[Group]:
    compared = [{k: v for k, v in run.config.items() if _is_compared(k)} for run in runs]
    keys = dict.fromkeys(key for config in compared for key in config)
    absent = object()
    varying = [
        key for key in keys if len({_text(config.get(key, absent)) for config in compared}) > 1
    ]
    together: dict[str, list[int]] = {}
    for index, config in enumerate(compared):
        signature = json.dumps([_text(config.get(key, absent)) for key in varying])
        together.setdefault(signature, []).append(index)
    groups = []
    for indices in together.values():
        own = [runs[i] for i in indices]
        values = _values(own[0], runs, varying)
        label = ", ".join(f"{k}={v}" for k, v in values.items()) or own[0].name
        groups.append(Group(label, values, sorted(own, key=lambda run: run.seed)))
    # Two groups with one label differ in something that the label leaves out.
    labels = [group.label for group in groups]
    for group in groups:
        if labels.count(group.label) > 1:
            more = {k: _text(group.runs[0].config.get(k)) for k in varying if "_target_" not in k}
            group.values = {**group.values, **more}
            group.label = ", ".join(f"{k}={v}" for k, v in group.values.items())
    return groups


def _values(run: Run, runs: list[Run], varying: list[str]) -> dict[str, str]:
    """What tells this run's group from others: the sweep's own words, or the configuration's."""
    if all(other.choice is not None for other in runs):
        choice = run.choice or {}
        axes = {key for other in runs for key in (other.choice or {})}
        return {
            _short(key): choice.get(key, "–")
            for key in sorted(axes, key=list(choice).index if choice else None)
            if key != "seed" and len({(o.choice or {}).get(key) for o in runs}) > 1
        }
    targets = [key for key in varying if key.endswith("._target_")]
    found = {_short(key.removesuffix("._target_")): _class(run.config.get(key)) for key in targets}
    for key in varying:
        # Arguments of one class alone are told by the class.
        if not any(key.startswith(t.removesuffix("_target_")) for t in targets):
            found[_short(key)] = _text(run.config.get(key))
    return found


def _is_compared(key: str) -> bool:
    head, _, rest = key.partition(".")
    if head in NOT_COMPARED or key.endswith(".seed"):
        return False
    return not (head == "trainer" and rest in NOT_COMPARED_OF_TRAINER)


def _class(target: Any) -> str:
    name = str(target or "none").rpartition(".")[2]
    return name.removesuffix("Cell") or name


def _short(key: str) -> str:
    return key.replace("/", ".").rpartition(".")[2].lstrip("+~")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=lambda _: "–")
