"""Settings of a sweep and of a search: `sweep.NAME=VALUE` and `search.NAME=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqmodels.errors import UserError, closest, did_you_mean
from seqmodels.runs import higher_is_better

OF_SLURM = ("partition", "minutes", "cpus", "gpus", "memory_gb", "slurm")
LAUNCHERS = ("local", "slurm", "slurm_local")


@dataclass
class LaunchSettings:
    """Where many runs go, who runs them, and what they are compared by.

    Attributes:
        dir: where the runs go; None: below outputs/, by name or a hash.
        jobs: runs at a time; None: one for each core, on Slurm as many as there are.
        lease: seconds without a sign of life after which another's job counts as abandoned.
        metric: what is compared.
        mode: whether "min" or "max" of it is better; "auto": by its name.
        launcher: "local": processes on this machine; "slurm": a Slurm job for each run;
            "slurm_local": as that, in processes on this machine, to try it out.
        partition: of Slurm; None: its default.
        minutes, cpus, gpus, memory_gb: of each Slurm job.
        slurm: further options of sbatch, such as account or qos.
    """

    dir: str | None = None
    jobs: int | None = None
    lease: float = 60.0
    metric: str = "val/loss"
    mode: str = "auto"
    launcher: str = "local"
    partition: str | None = None
    minutes: int = 60
    cpus: int = 1
    gpus: int = 0
    memory_gb: float | None = None
    slurm: dict[str, str] = field(default_factory=dict)


def read_settings(kind: type[Any], prefix: str, texts: Sequence[str]) -> Any:
    """The settings that the words of the command line say.

    Args:
        kind: a dataclass of settings. prefix: "sweep" or "search".
        texts: `PREFIX.NAME=VALUE`.

    Raises:
        UserError: names what there is not, or has the wrong type, or is out of its range.
    """
    known = [f.name for f in fields(kind)]
    given = []
    for text in texts:
        key = text.removeprefix(f"{prefix}.").partition("=")[0]
        if key not in known and not key.startswith("slurm."):
            near = did_you_mean([f"{prefix}.{n}" for n in closest(key, known)])
            raise UserError(f"{text}: there is no setting {prefix}.{key}{near}")
        given.append(key.partition(".")[0])
    try:
        made = OmegaConf.merge(
            OmegaConf.structured(kind),
            OmegaConf.from_dotlist([text.removeprefix(f"{prefix}.") for text in texts]),
        )
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(texts)}: {str(error).splitlines()[0]}") from None
    settings: Any = OmegaConf.to_object(made)
    for name in known:
        value = getattr(settings, name)
        if isinstance(value, int) and abs(value) >= 2**32:
            raise UserError(f"{prefix}.{name}: no whole number here reaches 2^32, got {value}")
    for name in ("jobs", "minutes", "cpus"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise UserError(f"{prefix}.{name} must be a positive integer, got {value}")
    if not settings.lease > 0:
        raise UserError(f"{prefix}.lease must be > 0 seconds, got {settings.lease}")
    if settings.gpus < 0:
        raise UserError(f"{prefix}.gpus must be >= 0, got {settings.gpus}")
    if settings.memory_gb is not None and not settings.memory_gb > 0:
        raise UserError(f"{prefix}.memory_gb must be > 0, got {settings.memory_gb}")
    if settings.mode == "auto":
        settings.mode = "max" if higher_is_better(settings.metric) else "min"
    if settings.mode not in ("min", "max"):
        raise UserError(f"{prefix}.mode must be min, max or auto, got {settings.mode!r}")
    if settings.launcher not in LAUNCHERS:
        raise UserError(
            f"{prefix}.launcher must be one of {', '.join(LAUNCHERS)}, got {settings.launcher!r}"
        )
    unheard = [name for name in given if name in OF_SLURM]
    if settings.launcher == "local" and unheard:
        raise UserError(
            f"{prefix}.{unheard[0]} says what a Slurm job may have, and these runs are none: "
            f"{prefix}.launcher=slurm makes them so"
        )
    return settings
