"""Runs as Slurm jobs, sent with submitit and followed from here."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from seqmodels.commands.sweep_pool import Pool, Source
from seqmodels.commands.sweep_settings import LaunchSettings
from seqmodels.commands.sweep_worker import Order, Outcome, carry_out
from seqmodels.errors import UserError

MOST_ATTEMPTS = 50  # jobs sent for one run that was cut by its time limit again and again


def submitit_module() -> Any:
    """submitit; a UserError where it is not installed."""
    try:
        import submitit
    except ImportError:
        raise UserError(
            "launcher=slurm needs submitit: pip install 'seqmodels[slurm]', or use launcher=local"
        ) from None
    return submitit


class SlurmPool(Pool):
    """A Slurm job for each run.

    A job that reaches its time limit is told so by SIGUSR2 some time before; it saves, and is sent
    again to go on from there.

    Args:
        source: of the orders.
        settings: the limits of each job.
        size: jobs at a time.
        folder: of submitit's files and the jobs' own logs.
        config_dirs: further configuration folders.
    """

    def __init__(
        self,
        source: Source,
        settings: LaunchSettings,
        size: int,
        folder: Path,
        config_dirs: Sequence[Path],
    ) -> None:
        super().__init__(source, size)
        self.settings = settings
        self.folder = folder
        self.config_dirs = [path.resolve() for path in config_dirs]
        self.jobs: list[tuple[Order, Any]] = []
        self.attempts: dict[Path, int] = {}

    def start(self) -> None:
        submitit = submitit_module()
        s = self.settings
        cluster = "slurm" if s.launcher == "slurm" else "local"
        try:
            self.executor = submitit.AutoExecutor(folder=self.folder, cluster=cluster)
        except RuntimeError as error:
            raise UserError(
                f"launcher=slurm: {error}; to try it on this machine alone use launcher=slurm_local"
            ) from None
        slurm = {f"slurm_{key}": value for key, value in s.slurm.items()}
        if s.partition is not None:
            slurm["slurm_partition"] = s.partition
        if s.memory_gb is not None:
            slurm["mem_gb"] = s.memory_gb  # type: ignore[assignment]
        try:
            self.executor.update_parameters(
                name="seqmodels",
                timeout_min=s.minutes,
                cpus_per_task=s.cpus,
                gpus_per_node=s.gpus,
                tasks_per_node=1,
                nodes=1,
                **slurm,
            )
        except (NameError, ValueError, TypeError) as error:
            raise UserError(f"options of Slurm: {str(error).splitlines()[0]}") from None

    def send(self, order: Order) -> None:
        job = self.executor.submit(in_job, order, self.config_dirs, sys.path, self.settings.cpus)
        self.jobs.append((order, job))

    def hear(self) -> Iterator[tuple[Order, Outcome]]:
        time.sleep(0.5)
        for order, job in list(self.jobs):
            if not job.done():
                continue
            self.jobs.remove((order, job))
            outcome = _outcome(order, job)
            if outcome.kind == "failed" and self.interrupted:  # cancelled before it could answer
                outcome = Outcome(order.number, "interrupted")
            attempts = self.attempts[order.run_dir] = self.attempts.get(order.run_dir, 0) + 1
            if outcome.kind == "interrupted" and not self.interrupted and attempts < MOST_ATTEMPTS:
                self.send(order)
                continue
            yield order, outcome

    def stop(self) -> None:
        for _, job in self.jobs:
            job.cancel(check=False)

    def close(self) -> None:
        for _, job in self.jobs:
            job.cancel(check=False)


def _outcome(order: Order, job: Any) -> Outcome:
    try:
        result: Outcome = job.result()
        return result
    except Exception as error:  # whatever ended the job: out of memory, a node lost, cancelled
        words = str(error).strip().splitlines()
        reason = f"Slurm job {job.job_id}: {words[-1] if words else type(error).__name__}"
        return Outcome(order.number, "failed", f"{reason} (see {job.paths.stderr})")


def in_job(
    order: Order, config_dirs: Sequence[Path], search: Sequence[str], threads: int
) -> Outcome:
    """What a job does: one order, in a process of its own on its node."""
    sys.path[:] = search
    import torch

    torch.set_num_threads(threads)

    def limit(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # which the run takes as a wish to save and stop

    # submitit would write its own checkpoint and send the job again; ours are the run's.
    signal.signal(signal.SIGUSR2, limit)
    return carry_out(order, config_dirs)
