"""`seqmodels train`: compose, check, build, train, and leave a record."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig

from seqmodels.config import check, compose, diff, instantiate, step_limit, to_plain
from seqmodels.errors import UserError, short
from seqmodels.runs import (
    Record,
    clear_leftovers,
    create_run_dir,
    environment,
    now,
    read_record,
    refuse_occupied,
    truncate_metrics,
    write_atomically,
    write_json,
)

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from seqmodels.data.base import DataModule
    from seqmodels.training.interruption import StopRequest
    from seqmodels.training.task import SequenceTask

# A resumed run may be asked for more, told elsewhere, or seen otherwise; the rest must be the same.
MAY_CHANGE = ("run_dir", "resume", "num_threads", "trainer", "callbacks", "logger")
# Of the trainer, these change what is computed.
MAY_NOT_CHANGE = ("trainer.accumulate_grad_batches", "trainer.precision", "trainer.devices")

INTERRUPTED = 130  # as a shell reports a program that SIGINT ended


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
    resumed = _resumed_record(plain)
    if resumed is not None and resumed["status"] == "finished" and not _asks_for_more(cfg, resumed):
        print(f"{cfg.run_dir} is finished: nothing to resume", flush=True)
        return 0
    return _Run(cfg, plain, resumed, callbacks).execute()


def execute(cfg: DictConfig) -> tuple[int, Path, str]:
    """A new run of a checked configuration: its exit status, its directory, its data's digest."""
    own = _Run(cfg, to_plain(cfg), None)
    return own.execute(), own.run_dir, str(own.data.describe()["digest"])


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


class _Run:
    """One run, from built parts to its last record."""

    def __init__(
        self,
        cfg: DictConfig,
        plain: dict[str, Any],
        resumed: dict[str, Any] | None,
        callbacks: Sequence[pl.Callback] = (),
    ) -> None:
        from seqmodels.commands import building

        self.cfg = cfg
        self.plain = plain
        self.resumed = resumed
        self.callbacks = callbacks
        self.threads = building.set_threads(cfg.num_threads)
        try:
            self.data: DataModule = building.build_data(cfg)
            self.model = building.build_model(cfg, self.data)
            instantiate(cfg.optimizer)(self.model.parameters())  # its settings are checked here
            building.try_out(self.model, self.data)
            self.schedule = instantiate(cfg.scheduler)
            self.clip = instantiate(cfg.clip)
        except building.USER_MISTAKES as error:
            raise building.user_mistake(error) from error
        self.parameters = building.count_parameters(self.model)
        self._say_what_runs()
        self.baselines = self.data.baselines()
        for name, value in self.baselines.items():
            unit = self.data.loss_unit
            print(f"baseline {name}: {short(value)} {unit} on the validation data", flush=True)

    def _say_what_runs(self) -> None:
        described = self.data.describe()
        print(f"data: {described['summary']}", flush=True)
        print(f"model: {self.parameters:,} parameters; {self.threads} threads", flush=True)

    def execute(self) -> int:
        # Lightning takes seconds to import: only now, when nothing can be wrong any more.
        from seqmodels.analysis.memory import begin_peak
        from seqmodels.training.interruption import StopRequest

        begin_peak()
        existed = self.cfg.run_dir is not None and Path(self.cfg.run_dir).expanduser().exists()
        self.run_dir = create_run_dir(self.cfg.run_dir, self._name(), resume=self.cfg.resume)
        self.started = time.monotonic()
        with StopRequest() as stop:
            try:
                self._prepare(stop)
            except BaseException as error:
                if self.resumed is None and not existed:
                    shutil.rmtree(self.run_dir, ignore_errors=True)
                self._refuse_mistakes(error)
                raise
            return self._train(stop)

    @staticmethod
    def _refuse_mistakes(error: BaseException) -> None:
        """Raises a UserError where a setting was wrong that only Lightning could tell."""
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        from seqmodels.commands.building import USER_MISTAKES, user_mistake

        if isinstance(error, (*USER_MISTAKES, MisconfigurationException)):
            raise user_mistake(error) from error

    def _name(self) -> str:
        model = self.plain["model"]
        # A model without cells is called by its layers.
        cell = model.get("cell") or (model.get("layers") or {}).get("layer") or {}
        targets = [c.get("_target_", "model") for c in (cell if isinstance(cell, list) else [cell])]
        names = [t.rpartition(".")[2].removesuffix("Cell").lower() for t in targets]
        return f"{'_'.join(dict.fromkeys(names))}_seed{self.cfg.seed}"

    # --- before training ------------------------------------------------------------------------

    def _prepare(self, stop: StopRequest) -> None:
        from seqmodels.training.checkpoints import load_newest

        self.resume_path: Path | None = None
        resume_step: int | None = None
        if self.resumed is not None:
            clear_leftovers(self.run_dir)
            newest = load_newest(self.run_dir / "checkpoints", _complain)
            if newest is None:
                _complain(f"{self.run_dir} holds no checkpoint yet: starting from the beginning")
                (self.run_dir / "metrics.jsonl").unlink(missing_ok=True)
            else:
                self.resume_path, content = newest
                self._refuse_foreign(content)
                resume_step = int(content["global_step"])
                print(f"resuming from step {resume_step} ({self.resume_path})", flush=True)
                truncate_metrics(
                    self.run_dir / "metrics.jsonl", resume_step, content.get("metrics_rows")
                )
        self.record = Record(self.run_dir, self._first_fields())
        self.task = self._build_task()
        self.trainer = self._build_trainer(stop, resume_step)
        self._try_schedule()
        if self.resume_path is None:
            for logger in self.trainer.loggers:
                if hasattr(logger, "log_start"):
                    logger.log_start(self.plain, self.record.fields)
        write_atomically(
            self.run_dir / "config.yaml",
            yaml.safe_dump(self.plain, sort_keys=False, allow_unicode=True),
        )
        vocabulary = self.data.vocabulary
        write_json(
            self.run_dir / "vocabulary.json", None if vocabulary is None else vocabulary.to_dict()
        )
        self.record.update()

    def _refuse_foreign(self, content: dict[str, Any]) -> None:
        from seqmodels.commands.building import model_weights
        from seqmodels.training.checkpoints import load_weights

        assert self.resume_path is not None
        load_weights(self.model, model_weights(content), self.resume_path)
        old = (self.resumed or {}).get("data", {}).get("digest")
        new = self.data.describe()["digest"]
        if old != new:
            raise UserError(
                f"the data changed since {self.run_dir} began (digest {old} -> {new}); "
                "start a new run"
            )

    def _first_fields(self) -> dict[str, Any]:
        before = self.resumed or {}
        return {
            "status": "running",
            "reason": None,
            "started": before.get("started", now()),
            "resumed": [*before.get("resumed", []), now()] if self.resumed else [],
            "ended": None,
            "wall_time_seconds": before.get("wall_time_seconds", 0.0),
            "seed": self.cfg.seed,
            **environment(),
            "num_threads": self.threads,
            "data": self.data.describe(),
            "parameters": self.parameters,
            "engines": {},
            "baselines": self.baselines,
            "steps": 0,
            "epochs": 0,
            "metrics": {},  # these two are kept by the logger
            "best": {},
        }

    def _build_task(self) -> SequenceTask:
        task: SequenceTask = instantiate(self.cfg.task)(
            self.model,
            optimizer=instantiate(self.cfg.optimizer),
            schedule=self.schedule,
            clip=self.clip,
            data=self.data,
        )
        return task

    def _try_schedule(self) -> None:
        """Says what is wrong with the schedule for a run of this length before it begins."""
        import torch

        from seqmodels.training.schedules import Horizon

        horizon = Horizon.of(self.trainer, len(self.data.train_loader()))
        self.schedule.build(torch.optim.SGD([torch.zeros(1, requires_grad=True)]), horizon)

    def _build_trainer(self, stop: StopRequest, resume_step: int | None) -> pl.Trainer:
        from seqmodels.commands.running import build_trainer

        trainer = build_trainer(
            self.cfg, self.plain, self.run_dir, self.record, stop=stop, resume_step=resume_step
        )
        trainer.callbacks.extend(self.callbacks)  # type: ignore[attr-defined]
        return trainer

    # --- training and after ---------------------------------------------------------------------

    def _train(self, stop: StopRequest) -> int:
        from seqmodels.training.guards import NotCausalError
        from seqmodels.training.interruption import InterruptedRunError
        from seqmodels.training.task import DivergedError

        try:
            self.trainer.fit(
                self.task,
                self.data.train_loader(),
                self.data.valid_loader(),
                ckpt_path=self.resume_path,
            )
            self._test()
        except DivergedError as error:
            return self._failed(str(error))
        except NotCausalError as error:
            self._failed(str(error))
            return 2
        except (InterruptedRunError, KeyboardInterrupt, SystemExit) as error:
            reason = str(error) if isinstance(error, InterruptedRunError) else "stopped at once"
            self._close("interrupted", reason)
            _complain(
                f"interrupted: {reason}. Continue with the same command and resume=true "
                f"run_dir={self.run_dir}"
            )
            return INTERRUPTED
        except OSError as error:
            return self._failed(f"{error.filename or self.run_dir}: {error.strerror or error}")
        except BaseException as error:
            self._close("failed", f"{type(error).__name__}: {error}")
            raise
        self._close("finished", None)
        self._say_result()
        return 0

    def _test(self) -> None:
        from seqmodels.commands.building import model_weights
        from seqmodels.training.checkpoints import BEST, load, load_weights

        loader = self.data.test_loader()
        if loader is None:
            return
        best = self.run_dir / "checkpoints" / BEST
        if best.exists():
            content = load(best)
            load_weights(self.model, model_weights(content), best)
            self.record.fields["tested_step"] = int(content["global_step"])
        self.trainer.test(self.task, loader, verbose=False)

    def _failed(self, reason: str) -> int:
        self._close("failed", reason)
        _complain(f"failed: {reason}")
        return 1

    def _close(self, status: Any, reason: str | None) -> None:
        from seqmodels.analysis.memory import peak
        from seqmodels.commands.building import engines_used

        fields = self.record.fields
        fields["wall_time_seconds"] += time.monotonic() - self.started
        memory = peak()
        fields["peak_memory_mib"] = None if memory is None else round(memory / 2**20, 1)
        fields["steps"] = self.trainer.global_step
        fields["epochs"] = self.trainer.current_epoch
        fields["engines"] = engines_used(self.model)
        try:
            self.record.close(status, reason)
            for logger in self.trainer.loggers:
                if hasattr(logger, "log_result"):
                    logger.log_result(self.plain, fields["metrics"])
                logger.finalize(status)
        except OSError as error:
            _complain(f"the record could not be written: {error}")

    def _say_result(self) -> None:
        fields = self.record.fields
        print()
        for name, value in sorted(fields["metrics"].items()):
            if name.startswith(("val/", "test/")):
                best = fields["best"].get(name)
                also = f"   best {short(best['value'])} at step {best['step']}" if best else ""
                print(f"{name:28s} {short(value):>10s}{also}")
        for name, value in self.baselines.items():
            print(f"{'baseline ' + name:28s} {short(value):>10s}")
        print(f"finished in {fields['wall_time_seconds']:.0f} s: {self.run_dir}", flush=True)


def _complain(message: str) -> None:
    print(f"seqmodels: {message}", file=sys.stderr, flush=True)
