"""The processes of a run that trains with several: which is which, their start and their end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seqmodels.errors import UserError

PATIENCE = 30.0  # seconds after the loss of a process in which the first one may notice by itself
FAREWELL = 60.0  # seconds that the others have to end after the first one


@dataclass(frozen=True)
class Place:
    """Which process of a run this is.

    Attributes:
        rank: 0 … size − 1; the first writes everything and speaks.
        size: how many there are.
        here: how many of them are on this machine.
        local_rank: 0 … here − 1.
        port: where the processes meet, if the first one started the others; None: they were
            started from outside, by torchrun or srun.
    """

    rank: int = 0
    size: int = 1
    here: int = 1
    local_rank: int = 0
    port: int | None = None


ALONE = Place()


def place_of(trainer: DictConfig) -> Place:
    """The place of this process under the settings of the trainer, before any other is started.

    Raises:
        UserError: what started this process and the settings do not go together.
    """
    devices = trainer.devices
    here = len(devices) if OmegaConf.is_list(devices) else int(devices)
    size = here * trainer.num_nodes
    if trainer.strategy != "ddp":
        return ALONE
    outside = _started_from_outside(here)
    if outside is not None:
        if outside.size != size:
            raise UserError(
                f"{outside.size} processes were started, and trainer.devices={here} times "
                f"trainer.num_nodes={trainer.num_nodes} is {size}: they must be equal"
            )
        return outside
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: on several machines the processes are started "
            "with torchrun or srun, and neither was used (docs/parallel.md)"
        )
    return ALONE if size == 1 else Place(0, size, here, 0, _free_port())


def _started_from_outside(here: int) -> Place | None:
    e = os.environ
    if "TORCHELASTIC_RUN_ID" in e:
        return Place(int(e["RANK"]), int(e["WORLD_SIZE"]), here, int(e["LOCAL_RANK"]))
    tasks = int(e.get("SLURM_NTASKS", "1"))
    if tasks > 1 and e.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return Place(int(e["SLURM_PROCID"]), tasks, here, int(e["SLURM_LOCALID"]))
    return None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def build_strategy(place: Place, *, partial: bool) -> Any:
    """Lightning's strategy for a process at this place.

    Args:
        place: of this process.
        partial: whether a batch may leave parameters without a gradient; finding out which costs.
    """
    if place.size == 1:
        return "auto"
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    class Started(LightningEnvironment):
        """The processes that `Others` starts."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        @property
        def main_address(self) -> str:
            return "127.0.0.1"

        @property
        def main_port(self) -> int:
            assert place.port is not None
            return place.port

        def local_rank(self) -> int:
            return place.local_rank

        def node_rank(self) -> int:
            return 0

    return DDPStrategy(
        find_unused_parameters=partial,
        cluster_environment=None if place.port is None else Started(),
    )


class Others:
    """While it is entered, the processes of the ranks from 1 on run; nothing for a `Place` alone.

    Args:
        place: of this process, the first one.
        run_dir: with the configuration that all follow.
        checkpoint: that they resume from, or None.
        on_loss: called with a message when one of them is lost and this process does not notice,
            because it waits for that one; then this process ends with status 1.
    """

    def __init__(
        self,
        place: Place,
        run_dir: Path,
        checkpoint: Path | None,
        on_loss: Callable[[str], None],
    ) -> None:
        self.place, self.run_dir, self.checkpoint = place, run_dir, checkpoint
        self.on_loss = on_loss
        self._started: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()

    def __enter__(self) -> Others:
        if self.place.port is None or self.place.rank != 0:
            return self
        for rank in range(1, self.place.size):
            words = [str(self.run_dir), str(rank), str(self.place.size), str(self.place.port)]
            words += [str(os.getpid()), "" if self.checkpoint is None else str(self.checkpoint)]
            self._started.append(
                subprocess.Popen([sys.executable, "-m", "seqmodels.commands.follow", *words])
            )
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def lost(self) -> str | None:
        """Which process ended that should not have; None: none."""
        for number, process in enumerate(self._started, 1):
            status = process.poll()
            if status not in (None, 0):
                return f"process {number} of {self.place.size} ended with status {status}"
        return None

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            if self.lost() is None or self._over.wait(PATIENCE):
                continue
            message = self.lost()
            assert message is not None
            self.on_loss(message)
            self._end(0.0)
            os._exit(1)  # this process waits in a library's call and cannot be told

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        if self.place.size > 1:
            import torch.distributed as dist

            if dist.is_initialized():
                dist.destroy_process_group()
        self._end(FAREWELL)

    def _end(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        for process in self._started:
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()  # they write nothing
                process.wait()
        self._started = []
