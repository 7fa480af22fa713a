"""`seqmodels train -m`: many runs, on all cores, each once, with one table at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seqmodels.commands.sweep_identity import code_digest, data_digest, identity
from seqmodels.commands.sweep_lease import Lease
from seqmodels.commands.sweep_plan import Job, Sweep, plan
from seqmodels.commands.sweep_pool import make_pool, prepared, threads_each
from seqmodels.commands.sweep_table import print_table, write_tables
from seqmodels.commands.sweep_tune import tune, tunings
from seqmodels.commands.sweep_worker import Order, Outcome
from seqmodels.errors import UserError
from seqmodels.runs import now, read_record, write_json

INTERRUPTED = 130


def run(overrides: list[str], *, config_dirs: Sequence[Path] = (), show: bool = False) -> int:
    """Runs the sweep; its exit status: 0, 1 where a job failed, 130 where it was interrupted."""
    sweep = plan(overrides, config_dirs)
    tuned = tunings(sweep, config_dirs)
    if show:
        for tuning in tuned:
            print(f"{tuning.label}: tuned first, {tuning.search.trials} runs")
        for job in sweep.jobs:
            print(f"{job.label}: seqmodels train {' '.join(job.overrides)}")
        return 0
    digests: dict[str, str] = {}
    sweep = replace(sweep, jobs=_identified(sweep.jobs, digests))
    folder = sweep.directory
    with prepared(folder):
        if tuned:
            found = tune(sweep, tuned, config_dirs)
            if found is None:
                return INTERRUPTED
            sweep = replace(sweep, jobs=_identified(found, digests))
        print(f"{len(sweep.jobs)} runs: {folder}", flush=True)
        outcomes = _carry_out(sweep, folder, config_dirs)
    return _close(sweep, folder, outcomes)


def _identified(jobs: Sequence[Job], digests: dict[str, str]) -> list[Job]:
    """The jobs with their identities; data whose digest is not known yet are read."""
    found: dict[str, Job] = {}
    for job in jobs:
        key = json.dumps(job.plain["data"], sort_keys=True, default=str)
        if key not in digests:
            digests[key] = data_digest(job.plain)
        own = identity(job.plain, digests[key], code_digest(job.plain))
        if own in found:
            raise UserError(
                f"{job.label} and {found[own].label} are the same run: an axis changes nothing"
            )
        found[own] = replace(job, identity=own)
    return list(found.values())


class _Jobs:
    """The jobs of a sweep as a source of orders."""

    def __init__(self, sweep: Sweep, folder: Path, threads: int) -> None:
        self.sweep = sweep
        settings = sweep.settings
        (folder / "leases").mkdir(exist_ok=True)
        self.queue = [
            Order(
                number=number,
                overrides=_overrides(job, threads),
                run_dir=folder.resolve() / job.name,
                log=folder.resolve() / "logs" / f"{job.name}.log",
                lease=folder.resolve() / "leases" / job.identity[:16],
                lease_seconds=settings.lease,
                retry_failed=settings.retry_failed,
            )
            for number, job in enumerate(sweep.jobs)
            if job.lost is None
        ]
        self.outcomes = {
            number: Outcome(number, "failed", job.lost)
            for number, job in enumerate(sweep.jobs)
            if job.lost is not None
        }

    def open(self) -> bool:
        return bool(self.queue)

    def next(self) -> Order | None:
        """The first order that nobody else holds; None where all are held."""
        for index, order in enumerate(self.queue):
            if not Lease(order.lease, order.lease_seconds).held():
                return self.queue.pop(index)
        return None

    def told(self, order: Order, outcome: Outcome) -> str | None:
        if outcome.kind == "elsewhere":
            self.queue.append(order)
            return None
        self.outcomes[order.number] = outcome
        words = {
            "finished": f"finished in {outcome.seconds:.0f} s",
            "skipped": "finished before",
            "failed": f"FAILED: {outcome.reason}",
            "interrupted": "interrupted, saved",
        }
        done = f"[{len(self.outcomes)}/{len(self.sweep.jobs)}]"
        return f"{done} {self.label(order)}: {words.get(outcome.kind, outcome.kind)}"

    def label(self, order: Order) -> str:
        return self.sweep.jobs[order.number].label

    def headline(self) -> str:
        failed = sum(outcome.kind == "failed" for outcome in self.outcomes.values())
        tail = f", {failed} failed" if failed else ""
        return f"{len(self.outcomes)} of {len(self.sweep.jobs)} done{tail}"


def _overrides(job: Job, threads: int) -> tuple[str, ...]:
    own = [*job.overrides, "trainer.enable_progress_bar=false"]
    if job.plain["num_threads"] is None:
        own.append(f"num_threads={threads}")
    return tuple(own)


def _carry_out(sweep: Sweep, folder: Path, config_dirs: Sequence[Path]) -> dict[int, Outcome]:
    size, threads = threads_each(sweep.settings, len(sweep.jobs))
    jobs = _Jobs(sweep, folder, threads)
    for number, outcome in jobs.outcomes.items():
        print(f"{sweep.jobs[number].label}: FAILED: {outcome.reason}", flush=True)
    make_pool(jobs, sweep.settings, size, threads, folder, config_dirs).carry_out()
    return jobs.outcomes


def _close(sweep: Sweep, folder: Path, outcomes: dict[int, Outcome]) -> int:
    rows = []
    for number, job in enumerate(sweep.jobs):
        outcome = outcomes.get(number)
        rows.append(
            {
                "label": job.label,
                "choice": job.choice,
                "run": job.name,
                "overrides": list(job.overrides),
                "outcome": "not run" if outcome is None else outcome.kind,
                "reason": None if outcome is None else outcome.reason,
                "identity": job.identity,
                "tuned": job.tuned,
            }
        )
    settings = sweep.settings
    content = {
        "name": sweep.name,
        "date": now(),
        "command": sys.argv,
        "metric": settings.metric,
        "mode": settings.mode,
        "axes": sweep.axes,
        "tune": settings.tune,
        "jobs": rows,
    }
    write_json(folder / "sweep.json", content)
    table = write_tables(folder, content)
    print_table(table)
    print(f"{folder}/sweep.json, table.csv, table.md", flush=True)
    kinds = [row["outcome"] for row in rows]
    if "interrupted" in kinds or "not run" in kinds:
        print("seqmodels: interrupted. The same command goes on where it stopped", file=sys.stderr)
        return INTERRUPTED
    done = [row for row in rows if row["outcome"] in ("finished", "skipped")]
    if done and not any(row["n"] for row in table):
        record = read_record(folder / str(done[0]["run"])) or {}
        print(
            f"seqmodels: no run has the metric {settings.metric!r}; the first has "
            f"{', '.join(sorted(record.get('metrics', {})))}. The same command with another "
            "sweep.metric makes the table anew",
            file=sys.stderr,
        )
        return 1
    failed = kinds.count("failed")
    if failed:
        print(f"seqmodels: {failed} of {len(kinds)} runs failed", file=sys.stderr)
        return 1
    return 0
