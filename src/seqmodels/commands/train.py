"""`seqmodels train`: compose, check, build, train, and leave a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig

from seqmodels.commands.one_run import Run
from seqmodels.commands.processes import Place, place_of
from seqmodels.config import check, compose, diff, step_limit, to_plain
from seqmodels.errors import UserError
from seqmodels.runs import read_record, refuse_occupied

if TYPE_CHECKING:
    import lightning.pytorch as pl

# A resumed run may be asked for more, told elsewhere, or seen otherwise; the rest must be the same.
MAY_CHANGE = ("run_dir", "resume", "num_threads", "trainer", "callbacks", "logger")
# Of the trainer, these change what is computed.
MAY_NOT_CHANGE = ("trainer.accumulate_grad_batches", "trainer.precision", "trainer.devices")


def run(
    overrides: list[str],
    *,
    config_dirs: Sequence[Path] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> int:
    """Runs the command, with further callbacks if there are any; gives back its exit status."""
    cfg = compose("train", overrides, config_dirs)
    check(cfg)
    if any(cfg.budget.values()):
        from seqmodels.commands.budget import within_budget

        cfg = within_budget(cfg)
    plain = to_plain(cfg)
    place = place_of(cfg.trainer)
    if place.size > 1:
        if callbacks:
            raise UserError("a search trains in one process: leave trainer.strategy=ddp out")
        if place.port is None and cfg.run_dir is None:
            raise UserError("name the run's directory, run_dir=DIR, for all processes to know it")
        if place.rank > 0:
            return _follow(cfg, plain, place)
    resumed = _resumed_record(plain)
    if resumed is not None and resumed["status"] == "finished" and not _asks_for_more(cfg, resumed):
        print(f"{cfg.run_dir} is finished: nothing to resume", flush=True)
        return 0
    return Run(cfg, plain, resumed, callbacks, place).execute()


def execute(cfg: DictConfig) -> tuple[int, Path, str]:
    """A new run of a checked configuration: its exit status, its directory, its data's digest."""
    own = Run(cfg, to_plain(cfg), None, place=place_of(cfg.trainer))
    return own.execute(), own.run_dir, str(own.data.describe()["digest"])


def _follow(cfg: DictConfig, plain: dict[str, Any], place: Place) -> int:
    """A process that torchrun or srun started beside the first one."""
    from seqmodels.commands.follow import Follower
    from seqmodels.training.checkpoints import load_newest

    run_dir = Path(cfg.run_dir).expanduser()
    resumed = _resumed_record(plain) if cfg.resume else None
    if resumed is not None and resumed["status"] == "finished" and not _asks_for_more(cfg, resumed):
        return 0
    newest = None
    if resumed is not None:
        newest = load_newest(run_dir / "checkpoints", lambda _: None)
    return Follower(cfg, place, run_dir, None if newest is None else newest[0]).execute()


def _resumed_record(plain: dict[str, Any]) -> dict[str, Any] | None:
    """The record of the run to continue; None for a new one. UserError where both are wrong."""
    if plain["run_dir"] is None:
        return None
    run_dir = Path(plain["run_dir"]).expanduser()
    refuse_occupied(run_dir, resume=plain["resume"])
    record = read_record(run_dir)
    if record is None:
        return None
    try:
        stored = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{run_dir}/config.yaml cannot be read: {error}") from None
    changed = [
        line
        for line in diff(stored, plain)
        if line.split(".")[0].split(":")[0] not in MAY_CHANGE
        or line.split(":")[0].startswith(MAY_NOT_CHANGE)
    ]
    if changed:
        raise UserError(
            f"{run_dir} holds a run with another configuration; resume it with the same one, or "
            "choose another run_dir. Stored -> now:" + "".join(f"\n  {line}" for line in changed)
        )
    return record


def _asks_for_more(cfg: DictConfig, record: dict[str, Any]) -> bool:
    steps, epochs = step_limit(cfg.trainer), cfg.trainer.max_epochs
    more_steps = steps == -1 or steps > record["steps"]
    more_epochs = epochs is None or epochs > record["epochs"]
    return more_steps and more_epochs
