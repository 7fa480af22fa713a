"""A process that runs one job after another, so that torch is imported once for many."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from seqmodels.commands.sweep_lease import Lease
from seqmodels.errors import UserError
from seqmodels.runs import read_record


class Trial(Protocol):
    """What a search wants to know of a run while it goes on."""

    @property
    def metric(self) -> str:
        """Such as val/loss."""

    def listener(self) -> Callable[[int, float], bool]:
        """Called after each validation with the steps so far and the metric; True: stop."""


@dataclass(frozen=True)
class Order:
    """What a worker is told to do."""

    number: int  # of the job
    overrides: tuple[str, ...]
    run_dir: Path
    log: Path
    lease: Path
    lease_seconds: float
    retry_failed: bool
    trial: Trial | None = None  # of a search


@dataclass(frozen=True)
class Outcome:
    """What came of it: finished | failed | interrupted | pruned | skipped | elsewhere."""

    number: int
    kind: str
    reason: str | None = None
    seconds: float = 0.0


def work(
    pipe: Connection, config_dirs: Sequence[Path], search: Sequence[str], threads: int
) -> None:
    """Takes orders from the pipe until one is None; sends back an `Outcome` for each."""
    sys.path[:] = search
    import torch

    torch.set_num_threads(threads)
    try:
        while True:
            order = pipe.recv()
            if order is None:
                break
            pipe.send(carry_out(order, config_dirs))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        pass
    # All that a run has is closed with it; torch takes seconds to take itself apart.
    os._exit(0)


def carry_out(order: Order, config_dirs: Sequence[Path]) -> Outcome:
    """Runs what is ordered, unless it is done or somebody else works on it."""
    lease = Lease(order.lease, order.lease_seconds)
    settled = settled_outcome(order)
    if settled is not None:
        return settled
    if not lease.claim():
        return Outcome(order.number, "elsewhere")
    started = time.monotonic()
    with lease:
        settled = settled_outcome(order)  # another may have ended it since
        if settled is not None:
            return settled
        record = read_record(order.run_dir)
        if record is not None and record["status"] == "failed":
            _set_aside(order.run_dir)
        status = _train(order, config_dirs)
        seconds = time.monotonic() - started
    if status == 130:
        settled = settled_outcome(order)
        if settled is not None:  # pruned
            return Outcome(order.number, settled.kind, settled.reason, seconds)
        return Outcome(order.number, "interrupted", None, seconds)
    if status == 0:
        return Outcome(order.number, "finished", None, seconds)
    record = read_record(order.run_dir)
    reason = record.get("reason") if record is not None else None
    return Outcome(order.number, "failed", reason or _last_line(order.log), seconds)


def settled_outcome(order: Order) -> Outcome | None:
    """What is known of a job without running it; None where there is something to do."""
    try:
        record = read_record(order.run_dir)
    except UserError as error:
        return Outcome(order.number, "failed", str(error))
    if record is None:
        return None
    if record["status"] == "finished":
        return Outcome(order.number, "skipped")
    if record["status"] == "interrupted" and str(record.get("reason")).startswith("pruned"):
        return Outcome(order.number, "pruned", record["reason"])
    if record["status"] == "failed" and not order.retry_failed:
        return Outcome(order.number, "failed", f"before: {record.get('reason')}")
    return None


def _set_aside(run_dir: Path) -> None:
    """A failed run makes room for another try, and is kept."""
    for number in range(1, 1000):
        aside = run_dir.with_name(f"{run_dir.name}.failed{number}")
        if not aside.exists():
            run_dir.rename(aside)
            return


def _train(order: Order, config_dirs: Sequence[Path]) -> int:
    """The run, with all that it prints in the job's log; its exit status."""
    from seqmodels.commands.train import run

    order.log.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(1), os.dup(2)]
    sys.stdout.flush()
    sys.stderr.flush()
    with order.log.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            return run(
                [*order.overrides, f"run_dir='{order.run_dir}'", "resume=true"],
                config_dirs=config_dirs,
                callbacks=_callbacks(order),
            )
        except UserError as error:
            print(f"seqmodels: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
        except Exception:  # one job's defect is no end of the others
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _callbacks(order: Order) -> list[Any]:
    if order.trial is None:
        return []
    from seqmodels.training.callbacks.trial_report import TrialReport

    return [TrialReport(order.trial.metric, order.trial.listener())]


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no word'} (see {log})"
