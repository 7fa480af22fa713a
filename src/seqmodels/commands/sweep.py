"""`seqmodels train -m`: many runs, on all cores, each once, with one table at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seqmodels.commands.sweep_lease import Lease
from seqmodels.commands.sweep_plan import Job, Sweep, code_digest, identity, plan
from seqmodels.commands.sweep_pool import make_pool, threads_each
from seqmodels.commands.sweep_table import print_table, write_tables
from seqmodels.commands.sweep_worker import Order, Outcome
from seqmodels.config import from_plain
from seqmodels.errors import UserError
from seqmodels.runs import now, write_json

INTERRUPTED = 130


def run(overrides: list[str], *, config_dirs: Sequence[Path] = (), show: bool = False) -> int:
    """Runs the sweep; its exit status: 0, 1 where a job failed, 130 where it was interrupted."""
    sweep = plan(overrides, config_dirs)
    if show:
        for job in sweep.jobs:
            print(f"{job.label}: seqmodels train {' '.join(job.overrides)}")
        return 0
    sweep = replace(sweep, jobs=_identified(sweep.jobs))
    folder = sweep.directory
    try:
        (folder / "leases").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
    print(f"{len(sweep.jobs)} runs: {folder}", flush=True)
    return _close(sweep, folder, _carry_out(sweep, folder, config_dirs))


def _identified(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with their identities; the data are read here, each once."""
    from seqmodels.commands import building

    digests: dict[str, str] = {}
    found: dict[str, Job] = {}
    for job in jobs:
        key = json.dumps(job.plain["data"], sort_keys=True, default=str)
        if key not in digests:
            try:
                described = building.build_data(from_plain(job.plain)).describe()
            except building.USER_MISTAKES as error:
                raise building.user_mistake(error) from error
            digests[key] = str(described["digest"])
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
        ]
        self.outcomes: dict[int, Outcome] = {}

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
    failed = kinds.count("failed")
    if failed:
        print(f"seqmodels: {failed} of {len(kinds)} runs failed", file=sys.stderr)
        return 1
    return 0
