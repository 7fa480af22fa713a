"""`seqmodels train -m`: many runs, on all cores, each once, with one table at the end."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from seqmodels.commands.sweep_lease import Lease
from seqmodels.commands.sweep_plan import Job, Sweep, code_digest, identity, plan
from seqmodels.commands.sweep_table import print_table, write_tables
from seqmodels.commands.sweep_worker import Order, Outcome, work
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
    outcomes = _Pool(sweep, folder, config_dirs).carry_out()
    return _close(sweep, folder, outcomes)


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


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    order: Order | None = None


class _Pool:
    """Worker processes, and the view of what they do."""

    def __init__(self, sweep: Sweep, folder: Path, config_dirs: Sequence[Path]) -> None:
        self.sweep = sweep
        self.config_dirs = [path.resolve() for path in config_dirs]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        cores = cores or 1
        settings = sweep.settings
        self.size = max(1, min(settings.jobs or cores, len(sweep.jobs)))
        self.threads = max(1, cores // self.size)
        self.orders = [
            Order(
                number=number,
                overrides=self._overrides(job),
                run_dir=folder.resolve() / job.name,
                log=folder.resolve() / "logs" / f"{job.name}.log",
                lease=folder.resolve() / "leases" / job.identity[:16],
                lease_seconds=settings.lease,
                retry_failed=settings.retry_failed,
            )
            for number, job in enumerate(sweep.jobs)
        ]
        self.outcomes: dict[int, Outcome] = {}
        self.interrupted = False

    def _overrides(self, job: Job) -> tuple[str, ...]:
        own = [*job.overrides, "trainer.enable_progress_bar=false"]
        if job.plain["num_threads"] is None:
            own.append(f"num_threads={self.threads}")
        return tuple(own)

    def carry_out(self) -> dict[int, Outcome]:
        queue = list(self.orders)
        workers = [self._start() for _ in range(self.size)]
        try:
            with self._view(workers):
                while queue or any(worker.order for worker in workers):
                    try:
                        self._turn(workers, queue)
                    except KeyboardInterrupt:
                        if self.interrupted:
                            raise
                        self._stop_all(workers, queue)
        except KeyboardInterrupt:
            for worker in workers:
                worker.process.terminate()
        finally:
            for worker in workers:
                self._dismiss(worker)
        return self.outcomes

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        process = context.Process(
            target=work, args=(theirs, self.config_dirs, sys.path, self.threads)
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _turn(self, workers: list[_Worker], queue: list[Order]) -> None:
        """Gives the idle something to do and hears the others."""
        for worker in workers:
            if worker.order is None and queue and not self.interrupted:
                worker.order = self._next(queue)
                if worker.order is not None:
                    worker.pipe.send(worker.order)
        busy = [worker for worker in workers if worker.order is not None]
        if not busy:
            time.sleep(0.2)  # what is left runs elsewhere
        for ready in wait([worker.pipe for worker in busy], timeout=0.5) if busy else []:
            worker = next(w for w in busy if w.pipe is ready)
            order = worker.order
            assert order is not None
            try:
                outcome = worker.pipe.recv()
            except EOFError:  # killed, or out of memory
                worker.process.join(5)
                code = worker.process.exitcode
                reason = f"its process ended with status {code} (see {order.log})"
                outcome = Outcome(order.number, "failed", reason)
                fresh = self._start()
                worker.process, worker.pipe = fresh.process, fresh.pipe
            worker.order = None
            if outcome.kind == "elsewhere" and not self.interrupted:
                queue.append(order)
            else:
                self._told(outcome)

    def _next(self, queue: list[Order]) -> Order | None:
        """The first order that nobody else holds; None where all are held."""
        for index, order in enumerate(queue):
            if not Lease(order.lease, order.lease_seconds).held():
                return queue.pop(index)
        return None

    def _stop_all(self, workers: list[_Worker], queue: list[Order]) -> None:
        """Ctrl-C reached the workers, too; a signal sent to this process alone did not."""
        self.interrupted = True
        queue.clear()
        self._say("interrupted: waiting for the running jobs to save; Ctrl-C again ends at once")
        for worker in workers:
            if worker.order is not None:
                worker.process.terminate()  # SIGTERM: save, then stop

    def _dismiss(self, worker: _Worker) -> None:
        with suppress(OSError):
            worker.pipe.send(None)
        worker.process.join(15)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()

    # --- what is seen ---------------------------------------------------------------------------

    @contextmanager
    def _view(self, workers: list[_Worker]) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        self.console = Console()
        self.workers = workers
        if not self.console.is_terminal:
            yield
            return
        with Live(
            console=self.console,
            refresh_per_second=1,
            get_renderable=self._progress,
            transient=True,
        ):
            yield

    def _progress(self) -> Any:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        failed = sum(outcome.kind == "failed" for outcome in self.outcomes.values())
        tail = f", {failed} failed" if failed else ""
        table.add_row(f"{len(self.outcomes)} of {len(self.orders)} done{tail}", "", "", "")
        for worker in self.workers:
            if worker.order is not None:
                row = last_row(worker.order.run_dir)
                loss = row.get("train/loss")
                shown = "" if loss is None else f"loss {loss:.4f}"
                label = self.sweep.jobs[worker.order.number].label
                table.add_row("", label, f"step {row.get('step', 0)}", shown)
        return table

    def _told(self, outcome: Outcome) -> None:
        self.outcomes[outcome.number] = outcome
        label = self.sweep.jobs[outcome.number].label
        words = {
            "finished": f"finished in {outcome.seconds:.0f} s",
            "skipped": "finished before",
            "failed": f"FAILED: {outcome.reason}",
            "interrupted": "interrupted, saved",
        }
        told = words.get(outcome.kind, outcome.kind)
        self._say(f"[{len(self.outcomes)}/{len(self.orders)}] {label}: {told}")

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def last_row(run_dir: Path) -> dict[str, Any]:
    """The newest row of a run's metrics; empty where there is none yet."""
    try:
        with (run_dir / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").splitlines()
        row: dict[str, Any] = json.loads(lines[-1])
        return row
    except (OSError, ValueError, IndexError):
        return {}


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
