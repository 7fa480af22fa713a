"""Command lines with a mistake: status 2, one message, no traceback, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seqmodels.cli import main
from seqmodels.errors import memory_problem

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SEED, COUNT = 8, 15
TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 60
SMALL = ("data.path=text.txt", "data.batch_size=4", "data.seq_len=8", "trainer.max_steps=1",
         "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none",
         "model.layers.hidden_size=8")  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A folder to be in, with a text; the search path of modules is put back."""
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return folder


def assert_refused(argv: list[str], said: str, place: Path, capsys: Any) -> None:
    before = sorted(place.rglob("*"))
    capsys.readouterr()
    status = main(argv)
    err = capsys.readouterr().err
    assert status == 2, err
    assert said in err
    assert err.startswith("seqmodels: ") and err.count("seqmodels: ") == 1 and len(err) < 4000
    assert sorted(place.rglob("*")) == before


def test_a_sample_of_those_that_are_generated(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The whole of them: benchmarks/malformed.py."""
    from forked import content_of, judge
    from malformed import generate
    from malformed_cases import KINDS, RUNS

    # Each word is composed by itself where one is wrong: few of them make it fast.
    monkeypatch.setattr("malformed_cases.SMALL", ("trainer.max_steps=1",))

    kinds = tuple(kind for kind in KINDS if kind != "huge")  # those want a bounded process
    found = []
    for case in generate(SEED, 2 * COUNT, kinds):
        if len(found) == COUNT or any(run in word for run in RUNS for word in case.argv):
            continue
        case.write(place)
        before = content_of(place)
        status = main(list(case.argv))
        outcome = judge(case, place, before, status, *capsys.readouterr(), 0.0)
        found.append((case.argv, outcome.complaints(), outcome.err))
    assert len(found) == COUNT
    assert [each for each in found if each[1]] == []


@pytest.mark.slow
def test_many_of_those_that_are_generated() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "malformed.py"), "110", "--seed", "9", "--real", "3"],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# What such a search has found, and what was not refused before.
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", *SMALL, "model.layers.hidden_size=99999999999999999999"], "reaches 2^63"),
        (["train", *SMALL, "num_threads=99999999999"], "num_threads: expected at most 4096"),
        (["train", *SMALL, "data.path='~nobody_here/x'"], "there is no such user"),
        (["train", *SMALL, f"run_dir={'x' * 300}"], "File name too long"),
        (["train", *SMALL, "optimizer=none"], "optimizer=none takes no steps"),
        (["train", *SMALL, "callbacks.forecast.steps=-7"], "steps must be >= 2"),
        (["train", *SMALL, "trainer.precision=transformer-engine"], "transformer_engine"),
        (["train", "-m", *SMALL, "seed=range(0,1000000000)"], "at most 10,000 runs"),
        (["search", *SMALL, "optimizer.lr=log(1e-3,1)", "search.storage=nothing://x"], "opened"),
        (["search", *SMALL, "optimizer.lr=log(1e-3,1)", "search.seed=99999999999"], "2^32"),
        (
            [
                "train",
                "-m",
                *SMALL,
                "seed=1,2",
                "sweep.tune=optimizer.lr=log(1e-3,1)",
                "sweep.tune_seed=-1",
            ],
            "tune_seed must be >= 0",
        ),
        (["bench", "output=.", "cells=[gru]", "engines=[eager]"], "output=. is a folder"),
        (["tensorboard", ".", "port=99999"], "port: expected 0"),
        (["replay", "run=.", "num_threads=0"], "num_threads: expected at least 1"),
        (["replay", "run=.", "tolerance=inf"], "tolerance: expected"),
    ],
)
def test_once_these_were_not_refused(words: list[str], said: str, place: Path, capsys: Any) -> None:
    assert_refused(words, said, place, capsys)


def test_a_file_that_holds_itself(place: Path, capsys: Any) -> None:
    (place / "mine/experiment").mkdir(parents=True)
    (place / "mine/experiment/own.yaml").write_text("# @package _global_\nclip: &a [*a]\n")
    words = ["train", *SMALL, "experiment=own", "--config-dir=mine"]
    assert_refused(words, "holds itself", place, capsys)


def test_a_sweep_of_ones_own_that_is_no_text(place: Path, capsys: Any) -> None:
    (place / "mine/sweep").mkdir(parents=True)
    (place / "mine/sweep/own.yaml").write_bytes(b"\xff\xfe\x00")
    assert_refused(["train", "-m", "sweep=own", "--config-dir=mine"], "not YAML", place, capsys)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to "
                      "allocate 9 bytes"), "you tried to allocate 9 bytes"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
        (MemoryError(), "out of memory: choose"),
        (RuntimeError("a defect"), None),
        (ValueError("out of memory"), None),
    ],
)  # fmt: skip
def test_memory_that_is_short_is_no_defect(error: BaseException, said: str | None) -> None:
    found = memory_problem(error)
    assert found is None if said is None else said in str(found)


def test_a_run_that_runs_out_of_memory_fails_with_a_reason(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from seqmodels.training.language import LanguageModelling

    def greedy(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(LanguageModelling, "step", greedy)
    assert main(["train", *SMALL, "run_dir=run"]) == 1
    assert "failed: out of memory" in capsys.readouterr().err
