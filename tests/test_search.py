"""A search: its space, the study that many work on, and runs that are pruned, diverge, go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny
from seqmodels.cli import main
from seqmodels.commands.search_space import Dimension, plan, read_space
from seqmodels.commands.sweep_worker import Outcome
from seqmodels.errors import UserError
from seqmodels.locations import config_dir

pytest.importorskip("optuna")
SOURCES = str(Path(__file__).parents[1] / "src")
RATES = "optimizer.lr=log(1e-3,1e-1)"


def test_ranges_and_choices_of_the_command_line() -> None:
    search = plan(
        [RATES, "model.layers.hidden_size=int(4, 9)", "model/cell=rnn,gru", "seed=3",
         "search.trials=7"]
    )  # fmt: skip
    assert [(d.key, d.kind, d.values) for d in search.space] == [
        ("optimizer.lr", "log", (1e-3, 1e-1)),
        ("model.layers.hidden_size", "int", (4, 9)),
        ("model/cell", "choice", ("rnn", "gru")),
    ]
    assert search.fixed == ("seed=3",) and search.settings.trials == 7


@pytest.mark.parametrize("name", [path.stem for path in (config_dir() / "search").glob("*.yaml")])
def test_every_ready_search_is_valid(name: str) -> None:
    search = plan([f"search={name}", "clip.max_norm=1"])
    assert search.space and "clip.max_norm" not in [d.key for d in search.space]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1"], "needs a setting with a range"),
        (["search=lsmt"], "did you mean 'lstm'"),
        ([RATES, "search.trial=3"], "did you mean 'search.trials'"),
        ([RATES, "search.trials=0"], "positive integer"),
        ([RATES, "search.pruner=maybe"], "median, halving, none"),
        ([RATES, "search.metric=test/loss"], "validation metric"),
        ([RATES, "run_dir=x"], "search.dir"),
        (["optimizer.lr=log(0,1)"], "begins above 0"),
        (["optimizer.lr=log(2,1)"], "low < high"),
        (["optimizer.lr=lgo(1e-3,1)"], "log(low,high)"),
        (["optimizer.lr=log(1e-3,1"], "log(low,high)"),
        (["optimizer.lr=interval(1e-3,1)"], "log(low,high)"),
        ([RATES, "search.sampler=grid"], "no end of them"),
        (["optimizer.lr=log(1)"], "log(low,high)"),
        (["model.layers.hidden_size=int(1.5,3)"], "whole numbers"),
        (["model.layers.hidden_size=uniform(1,3)"], "hidden_size"),
        (["optimizer.rl=log(1e-3,1)"], "rl"),
    ],
)
def test_mistakes_are_said_before_anything_starts(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(words)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log(1e-4,1)", [1e-4, 1e-2, 0.999]),
        ("uniform(2,4)", [2.0, 3.0, 4.0]),
        ("int(1,4)", [1, 3, 4]),
        ("log_int(1,7)", [1, 2, 7]),
        ("a,b,c", ["a", "b", "c"]),
    ],
)
def test_the_first_values_span_the_range(text: str, expected: list[Any]) -> None:
    dimension = read_space([f"optimizer.lr={text}"])["optimizer.lr"]
    assert isinstance(dimension, Dimension)
    found = [dimension.at(share) for share in (0.0, 0.5, 1 - 1e-9)]
    if isinstance(expected[0], float):
        assert found == pytest.approx(expected, rel=2e-3)
    else:
        assert found == expected


def trials(folder: Path, *words: str, facts: dict[str, Any] | None = None) -> Any:
    from seqmodels.commands.search_study import Trials

    folder.mkdir(exist_ok=True)
    return Trials(plan([RATES, "search.trials=3", *words]), folder, facts or {"data": "d"}, 1)


def test_all_who_work_on_a_study_make_as_many_trials_as_wanted(tmp_path: Path) -> None:
    here, elsewhere = trials(tmp_path), trials(tmp_path)
    first = here.next()
    # Nobody holds the first one's lease yet: it counts as cut, and is taken up.
    assert elsewhere.next().number == first.number == 0
    orders = [here.next(), here.next()]
    assert [order.number for order in orders] == [1, 2]
    assert here.next() is None and not here.open()
    here.told(orders[0], Outcome(1, "failed", "the loss became NaN"))
    here.told(orders[1], Outcome(2, "failed", "no memory"))
    states = [t.state.name for t in here.study.get_trials()]
    assert states == ["RUNNING", "PRUNED", "FAIL"]
    assert here.study.get_trials()[1].user_attrs["outcome"] == "diverged"
    # What another has settled meanwhile is not settled twice.
    here.told(first, Outcome(0, "pruned", "pruned after step 3: 2"))
    elsewhere.told(first, Outcome(0, "failed", "late"))
    assert here.study.get_trials()[0].user_attrs["outcome"] == "pruned"
    more = trials(tmp_path, "search.trials=4")
    assert more.next().number == 3 and more.next() is None and not more.open()
    with pytest.raises(UserError, match=r"another data: d there, e now"):
        trials(tmp_path, facts={"data": "e"})


def test_a_journal_that_was_cut_loses_its_last_entry_and_a_spoilt_one_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = trials(tmp_path)
    order = first.next()
    first.told(order, Outcome(order.number, "failed", "no memory"))
    path = tmp_path / "journal.log"
    path.write_bytes(path.read_bytes()[:-9])
    again = trials(tmp_path)
    assert "last entry was cut" in capfd.readouterr().out
    (trial,) = again.study.get_trials()
    assert trial.state.name == "RUNNING" and again.next().number == 0
    again.told(order, Outcome(order.number, "failed", "no memory"))
    assert trials(tmp_path).study.get_trials()[0].state.name == "FAIL"
    path.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be read"):
        trials(tmp_path)


def test_the_seed_makes_the_trials(tmp_path: Path) -> None:
    def first(name: str, *words: str) -> list[dict[str, str]]:
        source = trials(tmp_path / name, *words)
        orders = [source.next() for _ in range(3)]
        return [source.study.get_trials()[order.number].user_attrs["values"] for order in orders]

    assert first("a") == first("b") != first("c", "search.seed=1")
    random = "search.sampler=random"
    assert first("r", random) == first("s", random) != first("t", random, "search.seed=1")
    assert first("sql", f"search.storage=sqlite:///{tmp_path}/study.db") == first("d")


def test_a_trial_reports_each_step_once_and_hears_that_it_fell_behind(tmp_path: Path) -> None:
    source = trials(tmp_path, "search.startup=1", "search.warmup=2")
    good, bad = source.next(), source.next()
    listen = good.trial.listener()
    assert [listen(step, 1.0) for step in (1, 3, 5)] == [False] * 3
    source.study.tell(0, 1.0)
    assert bad.trial.listener()(1, 9.0) is False  # before the warm-up
    again = bad.trial.listener()  # as after an interruption
    assert again(1, 7.0) is False and again(3, 9.0) is True
    assert source.study.get_trials()[1].intermediate_values == {1: 9.0, 3: 9.0}


def test_two_searches_in_one_place(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text, folder = tiny.write_text(tmp_path), tmp_path / "search"
    own = [w for w in tiny.tiny(text, folder, "optimizer=sgd", "clip=none") if "run_dir" not in w]
    own += ["optimizer.lr=0.01,0.1,1e38", f"search.dir={folder}", "search.jobs=1"]
    line = ["search", *own[1:], "search.trials=5", "search.startup=2"]
    environment = {**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}
    other = subprocess.Popen(
        [sys.executable, "-m", "seqmodels", *line],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert main(line) == 0
    said = other.communicate(timeout=200)
    assert other.returncode == 0, said
    told = capfd.readouterr().out
    assert "best val/loss" in told and "seqmodels train -m" in told
    content = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    kinds = [trial["outcome"] for trial in content["trials"]]
    assert len(kinds) == 5 and set(kinds) <= {"finished", "pruned", "diverged"}
    for trial in content["trials"]:
        assert (trial["outcome"] == "diverged") == (trial["values"]["optimizer.lr"] == "1e+38")
        record = tiny.record(folder / trial["run"])
        assert record["resumed"] == []
        if trial["outcome"] == "finished":
            assert trial["value"] == record["best"]["val/loss"]["value"]
    assert content["best"]["value"] == min(
        trial["value"] for trial in content["trials"] if trial["value"] is not None
    )
    assert content["best_command"].endswith(f"lr={content['best']['values']['optimizer.lr']}")
    assert (folder / "history.png").stat().st_size > 5000
