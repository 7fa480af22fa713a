"""`seqmodels tensorboard`: the runs of a directory in the browser."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from seqmodels.config import check, compose
from seqmodels.errors import UserError


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    places = [word for word in overrides if "=" not in word] or ["outputs"]
    cfg = compose("tensorboard", [word for word in overrides if "=" in word], config_dirs)
    check(cfg)
    if len(places) > 1:
        raise UserError(f"one directory at a time, got {' '.join(places)}: give one above them")
    folder = Path(places[0]).expanduser()
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such directory; runs go into outputs/ by themselves"
        )
    if not next(folder.rglob("events.out.tfevents.*"), None):
        raise UserError(
            f"{folder}: no run in it has written for TensorBoard (logger=none writes nothing)"
        )
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    command += ["--port", str(cfg.port), *(["--bind_all"] if cfg.bind_all else [])]
    return subprocess.run(command, check=False).returncode
