"""One run of `seqmodels train`, from built parts to its last record."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig

from seqmodels.commands.processes import ALONE, Others, Place
from seqmodels.config import instantiate
from seqmodels.errors import UserError, memory_problem, short
from seqmodels.runs import (
    Record,
    clear_leftovers,
    create_run_dir,
    environment,
    not_there,
    now,
    take_back,
    truncate_metrics,
    write_atomically,
    write_json,
)

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from seqmodels.data.base import DataModule, Loader
    from seqmodels.training.interruption import StopRequest
    from seqmodels.training.task import SequenceTask

INTERRUPTED = 130  # as a shell reports a program that SIGINT ended


class Run:
    """One run: of the only process, or of the first that leads others.

    Args:
        cfg: the checked configuration.
        plain: the same as plain values.
        resumed: the record of the run that is continued; None: a new one.
        callbacks: further ones.
        place: of this process among those that train together.
    """

    def __init__(
        self,
        cfg: DictConfig,
        plain: dict[str, Any],
        resumed: dict[str, Any] | None,
        callbacks: Sequence[pl.Callback] = (),
        place: Place = ALONE,
    ) -> None:
        from seqmodels.commands import building

        self.cfg = cfg
        self.plain = plain
        self.resumed = resumed
        self.callbacks = callbacks
        self.place = place
        self.resume_path: Path | None = None
        self.record: Record | None = None  # the first process has one
        self.threads = building.set_threads(cfg.num_threads, place.here)
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
        self.introduce()

    def train_loader(self) -> Loader:
        """The training batches, or this process's part of them."""
        loader = self.data.train_loader()
        if self.place.size == 1:
            return loader
        from seqmodels.training.parallel import SharedLoader

        return SharedLoader(loader, self.place.rank, self.place.size)

    def introduce(self) -> None:
        """Says what runs, and what simple models reach."""
        described = self.data.describe()
        print(f"data: {described['summary']}", flush=True)
        processes = f"{self.place.size} processes, " if self.place.size > 1 else ""
        print(
            f"model: {self.parameters:,} parameters; {processes}{self.threads} threads", flush=True
        )
        self.baselines = self.data.baselines()
        for name, value in self.baselines.items():
            unit = self.data.loss_unit
            print(f"baseline {name}: {short(value)} {unit} on the validation data", flush=True)

    def execute(self) -> int:
        """Makes the directory, trains, tests, closes the record; the exit status."""
        # Lightning takes seconds to import: only now, when nothing can be wrong any more.
        from seqmodels.analysis.memory import begin_peak
        from seqmodels.training.interruption import StopRequest

        begin_peak()
        place = Path("outputs" if self.cfg.run_dir is None else self.cfg.run_dir).expanduser()
        missing = not_there(place)
        self.run_dir = create_run_dir(self.cfg.run_dir, self._name(), resume=self.cfg.resume)
        self.started = time.monotonic()
        with StopRequest() as stop:
            try:
                self._prepare(stop)
            except BaseException as error:
                if self.resumed is None and (place in missing or self.cfg.run_dir is None):
                    shutil.rmtree(self.run_dir, ignore_errors=True)
                    take_back(missing)
                self._refuse_mistakes(error)
                raise
            with Others(self.place, self.run_dir, self.resume_path, self._lost) as self.others:
                return self.train()

    @staticmethod
    def _refuse_mistakes(error: BaseException) -> None:
        """Raises a UserError where a setting was wrong that only Lightning could tell."""
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        from seqmodels.commands.building import USER_MISTAKES, user_mistake

        # A precision or strategy may need a package that is not there.
        if isinstance(error, (*USER_MISTAKES, MisconfigurationException, ModuleNotFoundError)):
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

        resume_step: int | None = None
        if self.cfg.resume:  # it may have been killed before it had a record
            clear_leftovers(self.run_dir)
        if self.resumed is not None:
            newest = load_newest(self.run_dir / "checkpoints", complain)
            if newest is None:
                complain(f"{self.run_dir} holds no checkpoint yet: starting from the beginning")
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
        self.build(stop, resume_step)
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

    def build(self, stop: StopRequest, resume_step: int | None) -> None:
        """The task and the trainer of this process."""
        from seqmodels.training.parallel import Team

        self.task: SequenceTask = instantiate(self.cfg.task)(
            self.model,
            optimizer=instantiate(self.cfg.optimizer),
            schedule=self.schedule,
            clip=self.clip,
            data=self.data,
        )
        self.task.join(Team(self.place.rank, self.place.size, stop))
        self.trainer = self._build_trainer(stop, resume_step)

    def _try_schedule(self) -> None:
        """Says what is wrong with the schedule for a run of this length before it begins."""
        import torch

        from seqmodels.training.schedules import Horizon

        horizon = Horizon.of(self.trainer, len(self.data.train_loader()))
        self.schedule.build(torch.optim.SGD([torch.zeros(1, requires_grad=True)]), horizon)

    def _build_trainer(self, stop: StopRequest, resume_step: int | None) -> pl.Trainer:
        from seqmodels.commands.processes import build_strategy
        from seqmodels.commands.running import build_trainer
        from seqmodels.training.parallel import leaves_parameters_out

        several = self.place.size > 1
        partial = several and leaves_parameters_out(self.task, next(iter(self.train_loader())))
        trainer = build_trainer(
            self.cfg,
            self.plain,
            self.run_dir,
            self.record,
            stop=stop,
            resume_step=resume_step,
            place=self.place,
            strategy=build_strategy(self.place, partial=partial),
        )
        trainer.callbacks.extend(self.callbacks)  # type: ignore[attr-defined]
        return trainer

    # --- training and after ---------------------------------------------------------------------

    def train(self) -> int:
        """Trains and tests; the exit status."""
        from seqmodels.training.causality import NotCausalError
        from seqmodels.training.interruption import InterruptedRunError
        from seqmodels.training.task import DivergedError

        try:
            self.trainer.fit(
                self.task,
                self.train_loader(),
                self.data.valid_loader(),
                ckpt_path=self.resume_path,
            )
            self._test()
        except DivergedError as error:
            return self.failed(str(error))
        except NotCausalError as error:
            self.failed(str(error))
            return 2
        except (InterruptedRunError, KeyboardInterrupt, SystemExit) as error:
            reason = str(error) if isinstance(error, InterruptedRunError) else "stopped at once"
            self.close("interrupted", reason)
            complain(
                f"interrupted: {reason}. Continue with the same command and resume=true "
                f"run_dir={self.run_dir}"
            )
            return INTERRUPTED
        except OSError as error:
            return self.failed(f"{error.filename or self.run_dir}: {error.strerror or error}")
        except BaseException as error:
            if (short_of := memory_problem(error)) is not None:
                return self.failed(short_of)
            lost = self.why_lost(error)
            if lost is not None:
                return self.failed(f"{lost}; the same command with resume=true goes on")
            self.close("failed", f"{type(error).__name__}: {error}")
            raise
        self.close("finished", None)
        self.say_result()
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
            if self.record is not None:
                self.record.fields["tested_step"] = int(content["global_step"])
        self.trainer.test(self.task, loader, verbose=False)

    def why_lost(self, error: BaseException) -> str | None:
        """Whether the error only says that another process is gone: which."""
        if not isinstance(error, RuntimeError) or self.place.size == 1:
            return None
        for _ in range(20):  # its end may be seen a little later than its silence
            if (lost := self.others.lost()) is not None:
                return lost
            time.sleep(0.1)
        return None

    def _lost(self, message: str) -> None:
        assert self.record is not None
        self.record.close("failed", message)
        complain(f"failed: {message}")

    def failed(self, reason: str) -> int:
        """Records and says why the run failed."""
        self.close("failed", reason)
        complain(f"failed: {reason}")
        return 1

    def close(self, status: Any, reason: str | None) -> None:
        """Writes the last record."""
        from seqmodels.analysis.memory import peak
        from seqmodels.commands.building import engines_used

        assert self.record is not None
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
            complain(f"the record could not be written: {error}")

    def say_result(self) -> None:
        """Prints the last metrics."""
        assert self.record is not None
        fields = self.record.fields
        print()
        for name, value in sorted(fields["metrics"].items()):
            if name.startswith(("val/", "test/")):
                best = fields["best"].get(name)
                also = f"   best {short(best['value'])} at step {best['step']}" if best else ""
                print(f"{name:28s} {short(value):>10s}{also}")
        for name, value in self.baselines.items():
            print(f"{'baseline ' + name:28s} {short(value):>10s}")
        if "binarisation" in fields["data"]:  # without which a likelihood says nothing
            print(f"images: {fields['data']['binarisation']}")
        print(f"finished in {fields['wall_time_seconds']:.0f} s: {self.run_dir}", flush=True)


def complain(message: str) -> None:
    print(f"seqmodels: {message}", file=sys.stderr, flush=True)
