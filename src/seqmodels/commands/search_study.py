"""The study of a search: kept on the disk, shared by all who work on it, by ask and tell."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmodels.commands.search_space import Search, SearchSettings
from seqmodels.commands.sweep_lease import Lease
from seqmodels.commands.sweep_plan import last
from seqmodels.commands.sweep_table import best_of, brief
from seqmodels.commands.sweep_worker import Order, Outcome
from seqmodels.errors import UserError, short
from seqmodels.runs import diverged, read_record

NAME = "seqmodels"
JOURNAL = "journal.log"


def optuna_module() -> Any:
    """Optuna, quiet; a UserError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise UserError("a search needs Optuna: pip install 'seqmodels[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(storage: str | None, folder: Path) -> Any:
    """Optuna's storage: the journal in the folder, or the database at a URL."""
    optuna = optuna_module()
    if storage is None:
        from optuna.storages.journal import JournalFileBackend

        return optuna.storages.JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    try:
        return optuna.storages.RDBStorage(storage)
    except Exception as error:  # SQLAlchemy's, by the kind of database
        first = str(error).strip().splitlines()[0]
        raise UserError(f"search.storage={storage} cannot be opened: {first}") from None


def mend_journal(path: Path) -> None:
    """Takes away a last line that was never written to its end, as of a full disk.

    What it said of a trial is found again in the trial's own record.
    """
    optuna_module()
    from optuna.storages.journal import JournalFileSymlinkLock

    if not path.exists():
        return
    lock = JournalFileSymlinkLock(str(path))  # Optuna's own, so that nobody is writing
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            print(f"{path}: its last entry was cut, and is left out", flush=True)
            os.truncate(path, whole)
    finally:
        lock.release()


def make_pruner(settings: SearchSettings) -> Any:
    """What decides that a run has fallen behind."""
    pruners = optuna_module().pruners
    if settings.pruner == "median":
        return pruners.MedianPruner(settings.startup, settings.warmup)
    if settings.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=max(1, settings.warmup or 1))
    return pruners.NopPruner()


@dataclass(frozen=True)
class SharedTrial:
    """A trial as a worker process, here or elsewhere, finds it again in the storage."""

    metric: str
    folder: Path
    settings: SearchSettings
    number: int

    def listener(self) -> Callable[[int, float], bool]:
        """Called after each validation with the steps so far and the metric; True: stop."""
        optuna = optuna_module()
        study = optuna.load_study(
            study_name=NAME,
            storage=open_storage(self.settings.storage, self.folder),
            pruner=make_pruner(self.settings),
        )
        known = study.get_trials(deepcopy=False)[self.number]
        told = set(known.intermediate_values)
        trial = optuna.trial.Trial(study, known._trial_id)

        def tell(step: int, value: float) -> bool:
            if step in told:  # before it was cut and resumed
                return False
            told.add(step)
            trial.report(value, step)
            return bool(trial.should_prune())

        return tell


class Trials:
    """The trials of a study as a source of orders.

    Whoever works on the study asks under a lock, so that all together make no more trials than
    wanted; a trial that was cut is taken up again, by whoever comes first.

    Args:
        search: the plan. folder: with the study and the runs.
        facts: what must be the same for all trials of a study, by name.
        threads: of each run.
    """

    def __init__(self, search: Search, folder: Path, facts: dict[str, Any], threads: int) -> None:
        self.search = search
        self.folder = folder.resolve()
        self.threads = threads
        self.optuna = optuna_module()
        self.states = self.optuna.trial.TrialState
        settings = search.settings
        (folder / "leases").mkdir(exist_ok=True)
        if settings.storage is None:
            mend_journal(self.folder / JOURNAL)
        with self._locked():
            try:
                self.storage = open_storage(settings.storage, folder)
                self.study = self.optuna.create_study(
                    storage=self.storage,
                    study_name=NAME,
                    direction="minimize" if settings.mode == "min" else "maximize",
                    load_if_exists=True,
                )
            except (ValueError, KeyError) as error:  # of JSON, or of what an entry should have
                raise UserError(
                    f"{self.folder / JOURNAL} cannot be read ({error}): it was cut or changed. "
                    "Search into another search.dir"
                ) from None
            self._same(facts)
        self.mine: set[int] = set()
        self.done = False

    def _same(self, facts: dict[str, Any]) -> None:
        before = self.study.user_attrs
        for name, value in facts.items():
            if name not in before:
                self.study.set_user_attr(name, value)
            elif before[name] != value:
                raise UserError(
                    f"{self.folder} holds a study with another {name}: {before[name]:.60} there, "
                    f"{value:.60} now. Search with the same one, or into another search.dir"
                )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # ends with the process
            yield

    # --- as a source ----------------------------------------------------------------------------

    def open(self) -> bool:
        return not self.done

    def next(self) -> Order | None:
        """A trial that was cut, else a new one; None where nothing can be done now."""
        with self._locked():
            trials = self.study.get_trials(deepcopy=False)
            waits = False
            for trial in trials:
                if trial.state == self.states.RUNNING and trial.number not in self.mine:
                    order = self._order(trial)
                    if not Lease(order.lease, order.lease_seconds).held():
                        self.mine.add(trial.number)
                        return order
                    waits = True
            if len(trials) < self.search.trials:
                chosen = self._chosen(len(trials))
                if chosen is not None:
                    self.study.enqueue_trial(chosen)
                self.study.sampler = self._sampler(len(trials))
                asked = self.study.ask()
                values = {d.key: d.suggest(asked) for d in self.search.space}
                asked.set_user_attr("values", values)
                self.mine.add(asked.number)
                return self._order(self.study.get_trials(deepcopy=False)[asked.number])
        self.done = not waits
        return None

    def _chosen(self, number: int) -> dict[str, Any] | None:
        """The values of a trial that no sampler is asked for: of a grid, or the first ones."""
        settings, space = self.search.settings, self.search.space
        if settings.sampler == "grid":
            return self.search.grid[number]
        if settings.sampler == "random" or number >= settings.startup:
            return None
        from torch.quasirandom import SobolEngine

        # Spread evenly: of few at random, most may lie together.
        engine = SobolEngine(len(space), scramble=True, seed=settings.seed)  # type: ignore[no-untyped-call]
        points = engine.draw(settings.startup)
        return {d.key: d.at(float(u)) for d, u in zip(space, points[number], strict=True)}

    def _sampler(self, number: int) -> Any:
        """One for each trial, so that its first draws depend on the seed and its number alone."""
        samplers, settings = self.optuna.samplers, self.search.settings
        seed = (settings.seed * 1_000_003 + number) % 2**32
        if settings.sampler != "tpe":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, n_startup_trials=settings.startup)

    def _order(self, trial: Any) -> Order:
        settings = self.search.settings
        own = [*self.search.overrides(self.values(trial)), "trainer.enable_progress_bar=false"]
        if self.search.plain["num_threads"] is None:
            own.append(f"num_threads={self.threads}")
        name = f"trial{trial.number:04d}"
        return Order(
            number=trial.number,
            overrides=tuple(own),
            run_dir=self.folder / name,
            log=self.folder / "logs" / f"{name}.log",
            lease=self.folder / "leases" / name,
            lease_seconds=settings.lease,
            retry_failed=False,
            trial=SharedTrial(settings.metric, self.folder, settings, trial.number),
        )

    def values(self, trial: Any) -> dict[str, str]:
        """The trial's settings as texts."""
        stored = trial.user_attrs.get("values")  # its asker may have died before it was written
        return stored or {key: str(value) for key, value in trial.params.items()}

    def told(self, order: Order, outcome: Outcome) -> str | None:
        self.mine.discard(order.number)
        if outcome.kind == "elsewhere":
            self.done = False
            return None
        said = self._settle(order, outcome)
        return f"[{self.done_so_far()}/{self.search.trials}] {self.label(order)}: {said}"

    def _settle(self, order: Order, outcome: Outcome) -> str:
        """Tells the study; gives back the same in words."""
        if outcome.kind == "interrupted":
            self.done = True
            return "interrupted, saved"
        metric, mode = self.search.settings.metric, self.search.settings.mode
        kind, reason, value = outcome.kind, outcome.reason, None
        if kind in ("finished", "skipped"):
            record = read_record(order.run_dir) or {}
            value = best_of(record, metric, mode)
            kind = "finished" if value is not None else "failed"
            reason = None if value is not None else f"the run has no metric {metric!r}"
        elif kind == "failed" and diverged(reason):
            kind = "diverged"
        if "has no metric" in str(reason):
            self.done = True  # nor would any other have it
        state = {
            "finished": self.states.COMPLETE,
            "pruned": self.states.PRUNED,
            "diverged": self.states.PRUNED,  # so that the sampler keeps away from there
        }.get(kind, self.states.FAIL)
        trial = self.study.get_trials(deepcopy=False)[order.number]
        if not trial.state.is_finished():
            self.storage.set_trial_user_attr(trial._trial_id, "outcome", kind)
            self.storage.set_trial_user_attr(trial._trial_id, "reason", reason)
            self.study.tell(order.number, value, state=state, skip_if_finished=True)
        if kind == "finished":
            assert value is not None
            return f"{metric} {short(value)} in {outcome.seconds:.0f} s"
        return {"failed": f"FAILED: {reason}", "diverged": f"DIVERGED: {reason}"}.get(
            kind, str(reason or kind)
        )

    def label(self, order: Order) -> str:
        trial = self.study.get_trials(deepcopy=False)[order.number]
        values = ", ".join(f"{last(k)}={brief(v)}" for k, v in self.values(trial).items())
        return f"trial {order.number} ({values})"

    def done_so_far(self) -> int:
        """Trials that have ended, here or elsewhere."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def headline(self) -> str:
        trials = self.study.get_trials(deepcopy=False)
        best = [t.value for t in trials if t.state == self.states.COMPLETE]
        lower = self.search.settings.mode == "min"
        tail = f", best {short((min if lower else max)(best))}" if best else ""
        return f"{self.done_so_far()} of {self.search.trials} trials done{tail}"
