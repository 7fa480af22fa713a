"""`seqmodels replay`: a run again from its record, and what differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seqmodels.config import check, compose, from_plain
from seqmodels.errors import UserError, short
from seqmodels.runs import environment, existing_run

# What may differ between two runs that are the same: of the clock.
OF_THE_CLOCK = ("time/",)


class Difference(NamedTuple):
    """One logged value that is another one."""

    step: int
    name: str
    was: Any
    now: Any

    @property
    def relative(self) -> float:
        """|now − was| / max(|now|, |was|); infinite where one of them is no finite number."""
        pair = (self.was, self.now)
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in pair):
            return math.inf
        size = max(abs(float(v)) for v in pair)
        return abs(float(self.now) - float(self.was)) / size if size else 0.0


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status: 0 the same, 1 not."""
    own = compose("replay", overrides, config_dirs)
    check(own)
    folder, record = existing_run(own.run)
    if record.get("status") == "running":
        raise UserError(f"{folder} is still running: replay it when it has ended")
    for line in surroundings(record):
        print(f"differs: {line}", flush=True)
    cfg = from_plain(_again(folder, record, own.run_dir, own.num_threads))
    check(cfg)

    from seqmodels.commands.train import execute

    status, other, digest = execute(cfg)
    recorded = (record.get("data") or {}).get("digest")
    if digest != recorded:
        print(f"differs: the data: digest {recorded} -> {digest}", flush=True)
    if status != 0 and record.get("status") != "failed":
        print(f"the second run ended with status {status}", flush=True)
    return _compare(folder, other, own.tolerance)


def _again(folder: Path, record: dict[str, Any], run_dir: str | None, threads: int | None) -> Any:
    path = folder / "config.yaml"
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(plain, dict):
        raise UserError(f"{path} is not the configuration of a run")
    plain |= {"run_dir": run_dir, "resume": False}
    plain["num_threads"] = threads if threads is not None else record.get("num_threads")
    return plain


def surroundings(record: dict[str, Any]) -> list[str]:
    """What is not as it was when the run began, in words."""
    here = environment()
    was, now = record.get("versions") or {}, here["versions"]
    lines = [
        f"{name}: {was.get(name)} -> {now.get(name)}"
        for name in dict.fromkeys((*was, *now))
        if was.get(name) != now.get(name)
    ]
    for name, shown in (("git_commit", "the code"), ("platform", "the platform"),
                        ("cpu_count", "the number of cores")):  # fmt: skip
        if record.get(name) != here[name]:
            lines.append(f"{shown}: {record.get(name)} -> {here[name]}")
    return lines


def differences(was: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[Difference]:
    """All logged values that are others, in the order of their steps; None where one lacks it."""
    found = []
    for step, old, new in _aligned(was, now):
        for name in dict.fromkeys((*old, *new)):
            if name.startswith(OF_THE_CLOCK):
                continue
            a, b = old.get(name), new.get(name)
            same = a == b or (a != a and b != b)
            if not same:
                found.append(Difference(step, name, a, b))
    return found


def _aligned(
    was: list[dict[str, Any]], now: list[dict[str, Any]]
) -> list[tuple[int, dict[str, Any], dict[str, Any]]]:
    """All that was logged of each step, of both."""

    def by_step(rows: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        steps: dict[int, dict[str, Any]] = {}
        for row in rows:
            steps.setdefault(int(row["step"]), {}).update(row)
        return steps

    old, new = by_step(was), by_step(now)
    return [(step, old.get(step, {}), new.get(step, {})) for step in sorted(old | new)]


def _compare(folder: Path, other: Path, tolerance: float) -> int:
    from seqmodels.commands.report_runs import read_rows

    was, now = read_rows(folder / "metrics.jsonl"), read_rows(other / "metrics.jsonl")
    steps = sorted({int(row["step"]) for row in was})
    if not steps:
        raise UserError(f"{folder} has logged nothing: there is nothing to compare")
    found = differences(was, now)
    beyond = [each for each in found if each.relative > tolerance]
    print(f"{folder} and {other}: {len(steps)} logged steps, {steps[0]} to {steps[-1]}")
    if not found:
        print("the same, bit for bit")
        return 0
    worst = max(found, key=lambda each: each.relative)
    print(
        f"first difference: {_said(found[0])}\nlargest: {_said(worst)}\n"
        f"{len(found)} values differ, {len(beyond)} by more than {tolerance:g}"
    )
    return 1 if beyond else 0


def _said(each: Difference) -> str:
    was, now = (short(v) if isinstance(v, int | float) else str(v) for v in (each.was, each.now))
    return f"step {each.step}, {each.name}: {was} -> {now} ({each.relative:.2g})"
