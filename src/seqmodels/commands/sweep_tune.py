"""`sweep.tune=RANGES`: before a sweep compares its choices, each is tuned by equally many runs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from seqmodels.commands.search import counts, facts, write
from seqmodels.commands.search_space import Dimension, Search, SearchSettings, checked, read_space
from seqmodels.commands.search_study import Trials
from seqmodels.commands.sweep_identity import data_digest
from seqmodels.commands.sweep_plan import Composer, Group, Job, Sweep, folder_name, last, parts_of
from seqmodels.commands.sweep_pool import make_pool, prepared, threads_each
from seqmodels.commands.sweep_settings import LaunchSettings
from seqmodels.commands.sweep_table import brief
from seqmodels.commands.sweep_worker import Order, Outcome
from seqmodels.errors import UserError, short

OUTSIDE_BRACKETS = re.compile(r"\s+(?![^(\[]*[)\]])")


@dataclass(frozen=True)
class Tuning:
    """The search of one choice of a sweep."""

    group: Group
    label: str
    search: Search


def tunings(sweep: Sweep, config_dirs: Sequence[Path]) -> list[Tuning]:
    """A search for each choice, all ends checked; none where nothing is to be tuned.

    All choices have the same number of runs, none of which is ended early, with the same first
    values: what one choice is given, the others are given too.

    Raises:
        UserError: a range that is none, or of what the sweep itself sets; an end that is refused.
    """
    settings = sweep.settings
    if settings.tune is None:
        return []
    if not settings.metric.startswith("val/"):
        raise UserError(
            f"sweep.tune chooses by sweep.metric={settings.metric}, which is no validation metric: "
            "what is chosen by the test data is not measured by it"
        )
    space = _space(sweep)
    common = {f.name: getattr(settings, f.name) for f in fields(LaunchSettings)}
    found = {}
    for job in sweep.jobs:
        if job.group in found:
            continue
        label = ",".join(f"{last(k)}={v}" for k, v in job.group) or "all"
        own = [part for key, value in job.group for part in parts_of(key, value)]
        of_search = SearchSettings(
            **common,
            trials=settings.tune_trials,
            sampler="tpe" if any(d.kind != "choice" for d in space) else "grid",
            pruner="none",
        )
        fixed = [*sweep.fixed, *own, f"seed={settings.tune_seed}"]
        search = checked(None, of_search, space, fixed, config_dirs)
        found[job.group] = Tuning(job.group, label, search)
    return list(found.values())


def _space(sweep: Sweep) -> tuple[Dimension, ...]:
    said = f"sweep.tune={sweep.settings.tune}"
    texts = [text for text in OUTSIDE_BRACKETS.split(str(sweep.settings.tune).strip()) if text]
    space = []
    for key, found in read_space(texts).items():
        if not isinstance(found, Dimension):
            raise UserError(
                f"{said}: {found[0]} has one value; expected ranges, such as "
                "optimizer.lr=log(1e-4,1e-1), or values, key=a,b,c, with spaces between several"
            )
        if key == "seed":
            raise UserError(f"{said}: a seed is not tuned; the runs for tuning have tune_seed")
        if key in sweep.axes:
            raise UserError(f"{said}: {key} is what the sweep compares; take one of the two")
        if any(text.partition("=")[0] == key for text in sweep.fixed):
            raise UserError(f"{said}: {key} is set to one value, too; take one of the two")
        space.append(found)
    if not space:
        raise UserError("sweep.tune is empty: expected ranges, such as optimizer.lr=log(1e-4,1e-1)")
    return tuple(space)


def tune(sweep: Sweep, tuned: Sequence[Tuning], config_dirs: Sequence[Path]) -> list[Job] | None:
    """Carries out the searches, in one pool; the jobs with what was found.

    Returns:
        None where it was interrupted. A job whose choice has no trial that finished is lost.
    """
    folder = sweep.directory
    home = folder.with_name(f"{folder.name}.tuning")
    total = sum(tuning.search.trials for tuning in tuned)
    size, threads = threads_each(sweep.settings, total)
    with prepared(home):
        parts = _parts(tuned, home, threads)
        print(f"tuning: {total} runs, {tuned[0].search.trials} for each choice: {home}", flush=True)
        source = _Together({own: (tuning.label, trials) for own, (tuning, trials) in parts.items()})
        complete = make_pool(source, sweep.settings, size, threads, home, config_dirs).carry_out()
    contents = {
        tuning.group: write(tuning.search, own, trials) for own, (tuning, trials) in parts.items()
    }
    if not complete:
        print("interrupted. The same command goes on where it stopped", flush=True)
        return None
    for tuning in tuned:
        print(f"{tuning.label}: {_result(tuning, contents[tuning.group])}", flush=True)
    composer = Composer(config_dirs)
    return [_with(job, contents[job.group], composer) for job in sweep.jobs]


def _parts(tuned: Sequence[Tuning], home: Path, threads: int) -> dict[Path, tuple[Tuning, Trials]]:
    """Folder, plan and study of each choice. Another space, other data or code: another study."""
    digests: dict[str, str] = {}
    parts = {}
    for tuning in tuned:
        data = json.dumps(tuning.search.plain["data"], sort_keys=True, default=str)
        if data not in digests:
            digests[data] = data_digest(tuning.search.plain)
        common = facts(tuning.search, digests[data])
        mark = hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:10]
        own = (home / f"{folder_name(tuning.label)}-{mark}").resolve()
        own.mkdir(exist_ok=True)
        parts[own] = (tuning, Trials(tuning.search, own, common, threads))
    return parts


def _result(tuning: Tuning, content: dict[str, Any]) -> str:
    best = content["best"]
    if best is None:
        return f"no trial finished ({counts(content)})"
    said = []
    for dimension in tuning.search.space:
        value = best["values"][dimension.key]
        edge = dimension.edge(value)
        where = f" (near the {edge} end of its range)" if edge else ""
        said.append(f"{last(dimension.key)}={brief(value)}{where}")
    return f"{', '.join(said)}: {content['metric']} {short(best['value'])} ({counts(content)})"


def _with(job: Job, content: dict[str, Any], composer: Composer) -> Job:
    if content["best"] is None:
        return replace(job, lost=f"no trial of its tuning finished ({counts(content)})")
    values = content["best"]["values"]
    own = (*job.overrides, *(p for key, value in values.items() for p in parts_of(key, value)))
    return replace(job, overrides=own, plain=composer.plain(own), tuned=values)


class _Together:
    """The trials of several studies as one source of orders, a trial of each in turn."""

    def __init__(self, parts: dict[Path, tuple[str, Trials]]) -> None:
        self.parts = parts
        self.turn = list(parts)

    def open(self) -> bool:
        return any(trials.open() for _, trials in self.parts.values())

    def next(self) -> Order | None:
        for own in list(self.turn):
            trials = self.parts[own][1]
            order = trials.next() if trials.open() else None
            if order is not None:
                self.turn.remove(own)
                self.turn.append(own)
                return order
        return None

    def told(self, order: Order, outcome: Outcome) -> str | None:
        label, trials = self.parts[order.run_dir.parent]
        said = trials.told(order, outcome)
        return None if said is None else f"{label} {said}"

    def label(self, order: Order) -> str:
        label, trials = self.parts[order.run_dir.parent]
        return f"{label} {trials.label(order)}"

    def headline(self) -> str:
        done = sum(trials.done_so_far() for _, trials in self.parts.values())
        return f"tuning: {done} of {sum(t.search.trials for _, t in self.parts.values())} done"
