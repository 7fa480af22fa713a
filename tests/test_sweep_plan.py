"""What a sweep consists of, who works on a job, and the table that comes out."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from seqmodels.analysis.statistics import student
from seqmodels.commands.search_space import plan as plan_search
from seqmodels.commands.sweep_identity import code_digest, identity
from seqmodels.commands.sweep_lease import Lease
from seqmodels.commands.sweep_plan import plan
from seqmodels.commands.sweep_pool import newest
from seqmodels.commands.sweep_table import write_tables
from seqmodels.config import compose, to_plain
from seqmodels.errors import UserError
from seqmodels.locations import config_dir


def test_axes_multiply_and_name_their_jobs() -> None:
    sweep = plan(["model/cell=rnn,gru", "seed=range(3)", "clip=norm", "sweep.jobs=2"])
    assert sweep.axes == {"model/cell": ["rnn", "gru"], "seed": ["0", "1", "2"]}
    assert len(sweep.jobs) == 6 and sweep.settings.jobs == 2
    job = sweep.jobs[4]
    assert job.overrides == ("clip=norm", "model/cell=gru", "seed=1")
    assert (job.label, job.plain["seed"]) == ("cell=gru,seed=1", 1)


def test_a_named_sweep_and_what_changes_it(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "mine.yaml").write_text(
        "axes: {model/cell: [rnn, lstm], clip: ['none', 'norm clip.max_norm=0.5']}\n"
        "overrides: [trainer.max_steps=5]\nsettings: {metric: val/perplexity}\n"
    )
    sweep = plan(["sweep=mine", "model/cell=gru"], [tmp_path])
    assert [job.choice for job in sweep.jobs] == [
        {"clip": "none"}, {"clip": "norm clip.max_norm=0.5"},
    ]  # fmt: skip
    assert sweep.jobs[1].plain["clip"]["max_norm"] == 0.5
    assert sweep.jobs[1].plain["trainer"]["max_steps"] == 5
    assert sweep.settings.metric == "val/perplexity"
    assert sweep.directory == Path("outputs/sweeps/mine")


@pytest.mark.parametrize("name", [path.stem for path in (config_dir() / "sweep").glob("*.yaml")])
def test_every_ready_sweep_is_valid(name: str) -> None:
    assert len(plan([f"sweep={name}", "seed=1"]).jobs) >= 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1"], "needs an axis"),
        (["sweep=celsl"], "did you mean 'cells'"),
        (["seed=1,2", "sweep.job=3"], "did you mean 'sweep.jobs'"),
        (["seed=1,2", "sweep.jobs=0"], "positive integer"),
        (["seed=1,2", "sweep.jobs=many"], "sweep.jobs=many"),
        (["seed=1,2", "sweep.mode=least"], "min, max or auto"),
        (["model/cell=rnn,gruu", "seed=1,2"], "gruu"),
        (["seed=1,2", "sweep.launcher=slrm"], "local, slurm, slurm_local"),
        (["seed=1,2", "sweep.minutes=0"], "positive integer"),
        (["seed=1,2", "sweep.gpus=1"], "sweep.launcher=slurm"),
        (["seed=1,2", "sweep.slurm.account=me"], "sweep.launcher=slurm"),
        (["seed=1,2", "sweep.tune_trials=4"], "are of sweep.tune"),
        (["seed=1,2", "run_dir=x"], "sweep.dir"),
        (["seed=1,2", "model.layers.hidden_siz=3"], "hidden_size"),
    ],
)
def test_mistakes_are_said_before_anything_starts(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match="(?s)" + said.replace(".", r"\.")):
        plan(words)


def test_a_named_file_that_is_no_sweep(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    for text in ("axes: 3", "axes: {seed: 1}", "axis: {seed: [1]}", "axes: {seed: [1]}\nmore: 2"):
        (tmp_path / "sweep" / "odd.yaml").write_text(text)
        with pytest.raises(UserError, match=r"odd\.yaml: .*"):
            plan(["sweep=odd"], [tmp_path])


def test_what_changes_a_result_changes_the_identity_and_nothing_else() -> None:
    def of(*overrides: str, data: str = "d", code: str = "c") -> str:
        return identity(to_plain(compose("train", overrides)), data, code)

    same = of()
    for harmless in ("num_threads=3", "logger=none", "trainer.log_every_n_steps=3",
                     "trainer.enable_progress_bar=false", "data.path=elsewhere.txt"):  # fmt: skip
        assert of(harmless) == same, harmless
    for change in ("seed=5", "clip=none", "model.layers.hidden_size=3", "trainer.max_steps=7"):
        assert of(change) != same, change
    assert of(data="e") != same and of(code="d") != same


def test_a_cell_of_the_user_is_part_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "my_own_cells.py"
    module.write_text("class A: ...\n")
    plain: dict[str, Any] = {"model": [{"_target_": "my_own_cells.A"}]}
    first = code_digest(plain)
    assert first == code_digest(plain) and first != code_digest({})
    module.write_text("class A: x = 1\n")
    assert code_digest(plain) != first


def test_of_two_claims_one_holds_until_it_is_released(tmp_path: Path) -> None:
    one, other = Lease(tmp_path / "lease", 60), Lease(tmp_path / "lease", 60)
    assert one.claim() and not other.claim() and other.held()
    one.release()
    assert not other.held() and other.claim()
    other.release()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_lease_of_the_dead_or_of_the_silent_expires(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert Lease(path, 60).held()
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert not Lease(path, 60).held()
    import socket

    path.write_text(json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1}))
    late = Lease(path, 60)
    assert late.claim() and late.held()
    late.release()


def _claim_at(path: Path, moment: float) -> bool:
    lease = Lease(path, 60)
    while time.time() < moment:
        pass
    won = lease.claim()
    time.sleep(0.15)  # the others try meanwhile
    return won


def test_of_many_who_find_an_expired_lease_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    with context.Pool(3) as pool:
        pool.starmap(_claim_at, [(tmp_path / f"warm{i}", 0.0) for i in range(3)], 1)
        for turn in range(6):
            path = tmp_path / f"lease{turn}"
            path.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
            os.utime(path, (time.time() - 100, time.time() - 100))
            arguments = [(path, time.time() + 0.05)] * 3
            assert pool.starmap(_claim_at, arguments, 1).count(True) == 1


def test_a_lease_that_another_took_is_left_to_it(tmp_path: Path) -> None:
    slow, other = Lease(tmp_path / "lease", 60), Lease(tmp_path / "lease", 60)
    assert slow.claim()
    os.utime(slow.path, (time.time() - 100, time.time() - 100))  # as if asleep
    assert other.claim()
    slow.release()
    assert other.held()
    other.release()


def test_the_table_is_the_mean_over_seeds(tmp_path: Path) -> None:
    values = {("rnn", "1"): 1.0, ("rnn", "2"): 2.0, ("rnn", "3"): 6.0, ("gru", "1"): 0.5}
    jobs = []
    for (cell, seed), value in values.items():
        run = tmp_path / f"{cell}{seed}"
        run.mkdir()
        record = {
            "status": "finished", "parameters": 10, "wall_time_seconds": 2.0,
            "metrics": {"val/loss": 9.0, "test/loss": value + 1},
            "best": {"val/loss": {"value": value, "step": 3}},
        }  # fmt: skip
        (run / "run.json").write_text(json.dumps(record))
        choice = {"model/cell": cell, "seed": seed}
        jobs.append({"choice": choice, "run": run.name, "outcome": "finished"})
    jobs.append({"choice": {"model/cell": "gru", "seed": "2"}, "run": "no", "outcome": "failed"})
    content = {"metric": "val/loss", "mode": "min", "jobs": jobs}
    first, second = write_tables(tmp_path, content)
    assert (first["cell"], first["n"], first["failed"]) == ("gru", 1, 1)
    assert math.isnan(first["± val/loss"])
    assert (second["val/loss"], second["test/loss"], second["n"]) == (3.0, 4.0, 3)
    # scipy.stats.t.interval(0.95, 2, 3, sem) of 1, 2, 6
    assert second["± val/loss"] == pytest.approx(6.5724, abs=1e-3)
    assert student([1.0] * 30) == 0.0
    assert "| gru | 1 | 1 | 0.5000 | – |" in (tmp_path / "table.md").read_text()


def test_values_that_bring_overrides_and_the_seed_among_them() -> None:
    sweep = plan(["clip=none,'norm clip.max_norm=0.5 seed=7'", "seed=1,2", "data=adding"
                  , "model=prediction_real", "task=regression"])  # fmt: skip
    found = [(job.plain["clip"].get("max_norm"), job.plain["seed"]) for job in sweep.jobs]
    # What the later axis says is what holds, as anywhere on the command line.
    assert found == [(None, 1), (None, 2), (0.5, 1), (0.5, 2)]
    assert [job.plain["data"]["seed"] for job in sweep.jobs] == [1, 2, 1, 2]
    for job in sweep.jobs:
        assert job.plain == to_plain(compose("train", job.overrides))


def test_the_newest_of_a_run_is_seen_while_it_writes(tmp_path: Path) -> None:
    assert newest(tmp_path) == {}
    rows = [{"step": step, "train/loss": 1.0 / step} for step in range(1, 200)]
    lines = [json.dumps(row) for row in [*rows, {"step": 200, "val/loss": None}]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 2', encoding="utf-8")
    assert newest(tmp_path) == {"step": 200, "train/loss": 1.0 / 199, "val/loss": None}


@pytest.mark.parametrize(
    ("group", "text", "said"),
    [
        ("sweep", "axes: {seed: 3}", "must be a list"),
        ("sweep", "axes: {seed: []}", "must be a list"),
        ("sweep", "axes: [seed]", "expected a mapping `axes`"),
        ("sweep", "axis: {seed: [1, 2]}", "expected a mapping `axes`"),
        ("sweep", "", "expected a mapping `axes`"),
        ("sweep", "axes: {seed: [1, 2]}\noverrides: model/cell=gru", "must be a list"),
        ("sweep", "axes: {seed: [1, 2]}\nsettings: [jobs]", "must be a mapping"),
        ("sweep", "axes: {seed: [1, 2]}\nsettings: {job: 3}", "did you mean 'sweep.jobs'"),
        ("sweep", "axes: {seed: [1, 2]}\nsettings: {slurm: lab}", "slurm"),
        ("sweep", "axes: {seed: [1, [2]]}", "seed"),
        ("sweep", "axes: {seed: [1, 2]", "not YAML"),
        ("search", "space: {optimizer.lr: 0.1}", "log(low,high)"),
        ("search", "space: {optimizer.lr: [0.1]}", "at least two"),
        ("search", "space: {optimizer.lr: {low: 1}}", "log(low,high)"),
        ("search", "space: {}", "needs a setting"),
        ("search", "space:\n  optimizer.lr: log(1e-3, 1)\nsettings: {trials: a}", "trials"),
    ],
)
def test_mistakes_in_a_file_are_said(tmp_path: Path, group: str, text: str, said: str) -> None:
    (tmp_path / group).mkdir()
    (tmp_path / group / "mine.yaml").write_text(text, encoding="utf-8")
    make = plan if group == "sweep" else plan_search
    with pytest.raises(UserError) as caught:
        make([f"{group}=mine"], [tmp_path])
    assert said in str(caught.value)
