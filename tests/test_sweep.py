"""Sweeps as they run: each job once, failures told, finished ones skipped, cut ones resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from seqmodels.cli import main

SOURCES = str(Path(__file__).parents[1] / "src")
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}


def words(text: Path, folder: Path, *overrides: str) -> list[str]:
    own = [w for w in tiny.tiny(text, folder, *overrides) if not w.startswith("run_dir=")]
    return [own[0], "-m", f"sweep.dir={folder}", "sweep.jobs=2", *own[1:]]


def sweep_record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return content


def outcomes(folder: Path) -> dict[str, str]:
    return {job["label"]: job["outcome"] for job in sweep_record(folder)["jobs"]}


def test_runs_fail_alone_equal_single_ones_and_are_not_run_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, folder = tiny.write_text(tmp_path), tmp_path / "sweep"
    wanted = words(text, folder, "optimizer.lr=0.01,1e38", "seed=1,2", "clip=none", "optimizer=sgd")
    assert main(wanted) == 1
    told = capfd.readouterr()
    assert "2 of 4 runs failed" in told.err and "FAILED: the loss became" in told.out
    assert sorted(outcomes(folder).values()) == ["failed", "failed", "finished", "finished"]
    good = next(j for j in sweep_record(folder)["jobs"] if j["label"] == "lr=0.01,seed=2")
    single = ("optimizer.lr=0.01", "seed=2", "clip=none", "optimizer=sgd", "num_threads=1")
    assert tiny.train(text, tmp_path / "single", *single) == 0
    assert tiny.rows(folder / good["run"]) == tiny.rows(tmp_path / "single")
    one, other = (
        tiny.checkpoint(p)["state_dict"] for p in (folder / good["run"], tmp_path / "single")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    before = tiny.record(folder / good["run"])
    assert main(wanted) == 1
    assert outcomes(folder)[good["label"]] == "skipped"
    assert tiny.record(folder / good["run"]) == before
    assert not [p for p in (folder / "leases").iterdir() if p.name != ".lock"]
    table = (folder / "table.csv").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("lr,n,failed,val/loss") and len(table) == 3


def test_axes_that_change_nothing_are_refused(tmp_path: Path, capsys: Any) -> None:
    text = tiny.write_text(tmp_path)
    assert main(words(text, tmp_path / "sweep", "trainer.log_every_n_steps=1,2")) == 2
    assert "are the same run" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    "end",
    [
        "interrupted",
        pytest.param("killed", marks=pytest.mark.slow),  # its worker is left alone
        pytest.param("killed with its worker", marks=pytest.mark.slow),
    ],
)
def test_two_sweeps_in_one_place_and_one_that_ends(end: str, tmp_path: Path) -> None:
    text, folder = tiny.write_text(tmp_path), tmp_path / "sweep"
    wanted = words(text, folder, "seed=1,2", "trainer.max_steps=120", "sweep.jobs=1")
    line = [sys.executable, "-m", "seqmodels", *wanted, "callbacks.checkpoint.every_n_steps=1"]
    pair = [
        subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
            # Who starts the tests in the background has them ignore it.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        for _ in range(2)
    ]
    deadline = time.monotonic() + 300
    # Both at work: else it is chance whether the one that is stopped had begun anything.
    while len(list(folder.glob("seed=*/checkpoints/last.ckpt"))) < 2:
        assert time.monotonic() < deadline and all(p.poll() is None for p in pair)
        time.sleep(0.05)
    if end == "interrupted":
        pair[0].send_signal(signal.SIGINT)
    elif end == "killed":
        pair[0].kill()
    else:
        os.killpg(pair[0].pid, signal.SIGKILL)
    said = [process.communicate(timeout=400) for process in pair]
    status = 130 if end == "interrupted" else -signal.SIGKILL
    assert [process.returncode for process in pair] == [status, 0], said
    if end == "interrupted":
        assert "goes on where it stopped" in said[0][1]
    assert not [p for p in (folder / "leases").iterdir() if p.name != ".lock"]
    records = [tiny.record(path.parent) for path in folder.glob("seed=*/run.json")]
    assert [r["status"] for r in records] == ["finished"] * 2
    # What was cut was taken up again by the other, and nothing was run twice. A worker that is left
    # alone ends what it began.
    resumed = sum(len(r["resumed"]) for r in records)
    assert resumed == 0 if end == "killed" else 1 <= resumed <= 2
    assert {r["steps"] for r in records} == {120}
    logs = [path.read_text(encoding="utf-8") for path in (folder / "logs").iterdir()]
    assert len(logs) == 2 and all(log.count("finished in") == 1 for log in logs)


def test_jobs_of_submitit_fail_alone_and_say_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", SOURCES)
    text, folder = tiny.write_text(tmp_path), tmp_path / "sweep"
    own = ("optimizer.lr=0.01,1e38", "clip=none", "optimizer=sgd", "sweep.launcher=slurm_local")
    assert main(words(text, folder, *own, "sweep.minutes=5")) == 1
    told = capfd.readouterr()
    assert "FAILED: the loss became" in told.out
    assert sorted(outcomes(folder).values()) == ["failed", "finished"]
    assert list((folder / "slurm").glob("*_submitted.pkl"))
