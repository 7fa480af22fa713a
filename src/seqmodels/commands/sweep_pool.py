"""Who works on many runs at once: worker processes here, with one view of what they all do."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from seqmodels.commands.sweep_settings import LaunchSettings
from seqmodels.commands.sweep_worker import Order, Outcome, settled_outcome, work
from seqmodels.errors import UserError
from seqmodels.runs import not_there, take_back


class Source(Protocol):
    """What there is to do, and who is told what came of it."""

    def open(self) -> bool:
        """Whether something may still have to be started."""

    def next(self) -> Order | None:
        """Something to do now; None: at this moment there is nothing."""

    def told(self, order: Order, outcome: Outcome) -> str | None:
        """Takes what came of an order; what is said about it, or None for nothing."""

    def label(self, order: Order) -> str:
        """The run in a few words."""

    def headline(self) -> str:
        """How far it all is."""


def cores() -> int:
    """Of this machine, as far as this process may use them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(settings: LaunchSettings, most: int) -> tuple[int, int]:
    """(runs at a time, threads of each), so that cores are not given out twice.

    Args:
        settings: of the sweep. most: how many runs there are.
    """
    if settings.launcher != "local":
        return max(1, min(settings.jobs or most, most)), settings.cpus
    size = max(1, min(settings.jobs or cores(), most))
    return size, max(1, cores() // size)


class Pool:
    """Gives out orders, hears of them, and shows what is being done.

    Args:
        source: of the orders.
        size: orders at a time.
    """

    def __init__(self, source: Source, size: int) -> None:
        from rich.console import Console

        self.source = source
        self.size = size
        self.running: list[Order] = []
        self.interrupted = False
        self.console = Console()

    def carry_out(self) -> bool:
        """Works until nothing is left; whether it was not interrupted."""
        self.start()
        try:
            with self._view():
                while self.running or (self.source.open() and not self.interrupted):
                    try:
                        self._turn()
                    except KeyboardInterrupt:
                        if self.interrupted:
                            raise
                        self.interrupted = True
                        self._say(
                            "interrupted: waiting for the running jobs to save; "
                            "Ctrl-C again ends at once"
                        )
                        self.stop()
        except KeyboardInterrupt:
            self.stop()
        finally:
            self.close()
        return not self.interrupted

    def _turn(self) -> None:
        while len(self.running) < self.size and not self.interrupted and self.source.open():
            order = self.source.next()
            if order is None:
                break
            settled = settled_outcome(order)
            if settled is not None:
                self._hear_of(order, settled)
                continue
            self.running.append(order)
            self.send(order)
        if not self.running:
            time.sleep(0.2)  # what is left runs elsewhere
            return
        for order, outcome in self.hear():
            self.running.remove(order)
            self._hear_of(order, outcome)

    def _hear_of(self, order: Order, outcome: Outcome) -> None:
        said = self.source.told(order, outcome)
        if said is not None:
            self._say(said)

    # --- by the launcher ------------------------------------------------------------------------

    def start(self) -> None:
        """Whatever is needed before the first order."""
        raise NotImplementedError

    def send(self, order: Order) -> None:
        raise NotImplementedError

    def hear(self) -> Iterator[tuple[Order, Outcome]]:
        """What has ended within half a second or so."""
        raise NotImplementedError

    def stop(self) -> None:
        """Asks all that run to save and end."""
        raise NotImplementedError

    def close(self) -> None:
        """Leaves nothing behind."""
        raise NotImplementedError

    # --- what is seen ---------------------------------------------------------------------------

    @contextmanager
    def _view(self) -> Iterator[None]:
        from rich.live import Live

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
        from rich.console import Group
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for order in self.running:
            row = newest(order.run_dir)
            loss = row.get("train/loss")
            shown = "" if loss is None else f"loss {loss:.4f}"
            table.add_row(f"  {self.source.label(order)}", f"step {row.get('step', 0)}", shown)
        return Group(self.source.headline(), table)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    order: Order | None = None


class LocalPool(Pool):
    """Processes on this machine, each of which imports torch once for many runs."""

    def __init__(
        self, source: Source, size: int, threads: int, config_dirs: Sequence[Path]
    ) -> None:
        super().__init__(source, size)
        self.threads = threads
        self.config_dirs = [path.resolve() for path in config_dirs]
        self.workers: list[_Worker] = []

    def start(self) -> None:
        pass  # each process when it is first needed

    def _new(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        os.environ["OMP_NUM_THREADS"] = str(self.threads)
        process = context.Process(
            target=work, args=(theirs, self.config_dirs, sys.path, self.threads)
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def send(self, order: Order) -> None:
        worker = next((worker for worker in self.workers if worker.order is None), None)
        if worker is None:
            worker = self._new()
            self.workers.append(worker)
        worker.order = order
        with suppress(OSError):  # one that has died says so when it is heard
            worker.pipe.send(order)

    def hear(self) -> Iterator[tuple[Order, Outcome]]:
        busy = [worker for worker in self.workers if worker.order is not None]
        for ready in wait([worker.pipe for worker in busy], timeout=0.5):
            worker = next(w for w in busy if w.pipe is ready)
            order = worker.order
            assert order is not None
            try:
                outcome = worker.pipe.recv()
            except (EOFError, OSError):  # killed, or out of memory
                worker.process.join(5)
                code = worker.process.exitcode
                reason = f"its process ended with status {code} (see {order.log})"
                outcome = Outcome(order.number, "failed", reason)
                if not self.interrupted:
                    fresh = self._new()
                    worker.process, worker.pipe = fresh.process, fresh.pipe
            worker.order = None
            yield order, outcome

    def stop(self) -> None:
        # Ctrl-C reached the workers, too; a signal sent to this process alone did not.
        for worker in self.workers:
            if worker.order is not None:
                worker.process.terminate()  # SIGTERM: save, then stop

    def close(self) -> None:
        for worker in self.workers:
            with suppress(OSError):
                worker.pipe.send(None)
            worker.process.join(15)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """The folder exists; it is gone again where a mistake ends it all before any run.

    Raises:
        UserError: nothing can be written there.
    """
    missing = not_there(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
    try:
        yield
    except UserError:
        if missing and not any(folder.rglob("run.json")):
            shutil.rmtree(folder, ignore_errors=True)
            take_back(missing)
        raise


def make_pool(
    source: Source,
    settings: LaunchSettings,
    size: int,
    threads: int,
    folder: Path,
    config_dirs: Sequence[Path],
) -> Pool:
    """The pool of the launcher that the settings name."""
    if settings.launcher == "local":
        return LocalPool(source, size, threads, config_dirs)
    from seqmodels.commands.sweep_slurm import SlurmPool

    return SlurmPool(source, settings, size, folder / "slurm", config_dirs)


def newest(run_dir: Path) -> dict[str, Any]:
    """The newest of each of a run's metrics; empty where there is none yet."""
    found: dict[str, Any] = {}
    try:
        with (run_dir / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        with suppress(ValueError, TypeError):  # cut at the beginning, or being written
            found.update(json.loads(line))
    return found
