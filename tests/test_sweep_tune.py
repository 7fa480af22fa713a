"""Tuning before a sweep: equal budgets, the same first values, and what the sweep is told."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import tiny
from seqmodels.commands import sweep_tune
from seqmodels.commands.sweep_plan import Job, Sweep, plan
from seqmodels.commands.sweep_tune import tune, tunings
from seqmodels.commands.sweep_worker import Order, Outcome
from seqmodels.errors import UserError

pytest.importorskip("optuna")
CELLS = ["model/cell=rnn,'lstm init=forget_bias'", "seed=1,2"]
RATE = "sweep.tune=optimizer.lr=log(1e-4, 1e-1)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep.tune=optimizer.lr=0.1"], "one value"),
        (["sweep.tune=optimizer.lr=log(1,0.1)"], "low < high"),
        (["sweep.tune=optimizer.rl=log(0.1,1)"], "rl"),
        (["sweep.tune=seed=1,2"], "not tuned"),
        (["sweep.tune=model/cell=rnn,gru"], "what the sweep compares"),
        (["sweep.tune=' '"], "empty"),
        ([RATE, "optimizer.lr=0.1"], "set to one value, too"),
        ([RATE, "sweep.metric=test/loss"], "no validation metric"),
        ([RATE, "sweep.tune_trials=0"], "positive"),
    ],
)
def test_mistakes_are_said_before_anything_starts(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        tunings(plan([*CELLS, *words]), [])
    assert said in str(caught.value)


def test_each_choice_has_one_search_without_the_seeds_of_the_sweep() -> None:
    found = tunings(plan([*CELLS, f"{RATE} clip=none,norm", "sweep.tune_trials=3"]), [])
    assert [tuning.label for tuning in found] == ["cell=rnn", "cell=lstm init=forget_bias"]
    for tuning in found:
        assert [d.key for d in tuning.search.space] == ["optimizer.lr", "clip"]
        assert tuning.search.trials == 3 and tuning.search.settings.pruner == "none"
        assert tuning.search.fixed[-1] == "seed=0"
    assert found[1].search.plain["init"] != found[0].search.plain["init"]
    (grid,) = tunings(plan(["seed=1,2", "sweep.tune=optimizer.lr=1e-3,1e-2 clip=none,norm"]), [])
    assert grid.search.trials == 4


class Pretended:
    """A pool whose runs end at once, with a loss made of the settings."""

    def __init__(self, source: Any, *_: Any) -> None:
        self.source = source

    def carry_out(self) -> bool:
        while self.source.open():
            order = self.source.next()
            if order is not None:
                self.source.told(order, self.outcome(order))
        return True

    def outcome(self, order: Order) -> Outcome:
        words = dict(word.split("=", 1) for word in order.overrides)
        if words["model/cell"] == "rnn":
            return Outcome(order.number, "failed", "the loss became nan")
        order.run_dir.mkdir()
        loss = abs(math.log(float(words["optimizer.lr"]) / 3e-3))
        record = {"status": "finished", "best": {"val/loss": {"value": loss}}}
        (order.run_dir / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return Outcome(order.number, "finished", None, 1.0)


def test_the_sweep_runs_with_what_was_found_and_counts_what_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_tune, "make_pool", Pretended)
    text = tiny.write_text(tmp_path)

    def jobs(*words: str) -> tuple[Sweep, list[Job]]:
        sweep = plan(
            [f"data.path={text}", *words, f"sweep.dir={tmp_path}/sweep"]
        )  # fmt: skip
        found = tune(sweep, tunings(sweep, []), [])
        assert found is not None
        return sweep, found

    _, found = jobs("model/cell=rnn,lstm", "sweep.tune=optimizer.lr=1e-3,3e-3", "seed=1,2")
    assert {job.plain["optimizer"]["lr"] for job in found[2:]} == {3e-3}
    assert [bool(job.lost) for job in found] == [True, True, False, False]
    assert "2 diverged" in str(found[0].lost)
    folders = sorted((tmp_path / "sweep.tuning").iterdir())
    assert len(folders) == 2 and not (tmp_path / "sweep").exists()
    # The same values for all that are compared, in studies of their own.
    _, found = jobs("model/cell=gru,lstm", RATE, "sweep.tune_trials=4")
    studies = [
        json.loads((folder / "search.json").read_text(encoding="utf-8"))["trials"]
        for folder in sorted((tmp_path / "sweep.tuning").iterdir())
        if folder not in folders
    ]
    rates = [[trial["values"]["optimizer.lr"] for trial in trials] for trials in studies]
    assert len(rates) == 2 and rates[0] == rates[1] and len(set(rates[0])) == 4
    best = min(map(float, rates[0]), key=lambda rate: abs(math.log(rate / 3e-3)))
    assert [job.tuned for job in found] == [{"optimizer.lr": repr(best)}] * 2
    assert found[1].plain["optimizer"]["lr"] == best
