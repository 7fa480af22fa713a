"""What the processes of a run from the second on do: train their part, write and say nothing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from seqmodels.commands.one_run import INTERRUPTED, Run
from seqmodels.commands.processes import Place
from seqmodels.config import from_plain
from seqmodels.training.interruption import StopRequest

APART = 1_000_003  # between the seeds of two processes, so that their dropout masks differ


class Follower(Run):
    """A process of a run that another one leads.

    Args:
        cfg: the leader's configuration.
        place: of this process.
        run_dir: the leader's.
        checkpoint: to resume from, or None.
    """

    def __init__(
        self, cfg: DictConfig, place: Place, run_dir: Path, checkpoint: Path | None
    ) -> None:
        super().__init__(cfg, {}, None, place=place)
        self.run_dir = run_dir
        self.resume_path = checkpoint

    def introduce(self) -> None:
        """Said by the first process."""

    def execute(self) -> int:
        from seqmodels.training.state import seed_everything

        with StopRequest(quiet=True) as stop:
            self.build(stop, None)
            seed_everything(self.cfg.seed + APART * self.place.rank)
            return self.train()

    def why_lost(self, error: BaseException) -> str | None:
        """Where the first process is gone, it says why, and there is nothing to add."""
        import torch.distributed as dist

        away = (dist.DistBackendError, dist.DistNetworkError)
        return str(error) if isinstance(error, away) or "gloo" in str(error) else None

    def close(self, status: Any, reason: str | None) -> None:
        """Recorded by the first process."""

    def failed(self, reason: str) -> int:
        return 0  # the first process has seen the same, and says it

    def say_result(self) -> None:
        """Said by the first process."""


def main(words: Sequence[str]) -> int:
    """Follows the run of a directory as one of its processes."""
    run_dir = Path(words[0])
    rank, size, port, leader = (int(word) for word in words[1:5])
    checkpoint = Path(words[5]) if words[5] else None
    threading.Thread(target=_end_with, args=(leader,), daemon=True).start()
    plain = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    place = Place(rank, size, size, rank, port)
    status = Follower(from_plain(plain), place, run_dir, checkpoint).execute()
    return 0 if status == INTERRUPTED else status


def _end_with(leader: int) -> None:
    """Ends this process when the one that started it is gone."""
    while os.getppid() == leader:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
