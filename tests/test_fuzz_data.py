"""Damaged data files are read or refused: never a traceback, never the code of a pickle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SEED, COUNT = 3, 15


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sample_of_damaged_files(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The whole of them: benchmarks/fuzz_data.py."""
    from forked import content_of, judge
    from fuzz_data import complaints, generate
    from seqmodels.cli import main
    from seqmodels.commands.one_run import Run

    monkeypatch.setattr(Run, "execute", lambda self: 0)
    found = []
    for number, case in enumerate(generate(SEED, COUNT)):
        folder = place / str(number)
        folder.mkdir()
        case.write(folder)
        monkeypatch.chdir(folder)
        before = content_of(folder)
        status = main(list(case.argv))
        outcome = judge(case, folder, before, status, *capsys.readouterr(), 0.0)
        found.append((case.kind, complaints(outcome), outcome.err, outcome.status))
    assert [each for each in found if each[1]] == []
    assert {each[3] for each in found} == {0, 2}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.npy", ("model=prediction_real", "data=series", "task=regression")),
        ("a.npz", ("model=prediction_real", "data=series", "task=regression")),
        ("a.npz", ("model=prediction_real", "data=series_classification", "task=classification")),
        ("a.npz", ("model=prediction_real", "data=images", "task=classification")),
        ("a.npy", ("experiment=pixelrnn_digits",)),
        ("a.npz", ("model=prediction_real", "data=piano_roll", "task=notes")),
        ("a.json", ("model=prediction_real", "data=piano_roll", "task=notes")),
        ("a.mat", ("model=prediction_real", "data=piano_roll", "task=notes")),
    ],
)
def test_no_pickle_is_opened(name: str, words: tuple[str, ...], place: Path, capsys: Any) -> None:
    from fuzz_data import NOTE, pickled
    from seqmodels.cli import main

    content = pickled(name)
    assert content is not None
    (place / name).write_bytes(content)
    assert main(["train", *words, f"data.path={name}", "run_dir=run"]) == 2
    assert name in capsys.readouterr().err
    assert NOTE not in [path.name for path in place.iterdir()]


def test_files_that_once_were_not_refused(place: Path, tmp_path: Path) -> None:
    from fuzz_data import formats, saved
    from seqmodels.data.labelled.series_files import read_labelled_series
    from seqmodels.data.labelled.tables import read_table
    from seqmodels.data.piano_rolls import read_piano_rolls

    one = tmp_path / "a.npz"
    one.write_bytes(saved(np.save, np.zeros(3)))  # one array where an archive is said to be
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_labelled_series(str(one))
    one.write_bytes(saved(np.savez, train_0=np.float64(1), test_0=np.zeros((3, 4))))
    with pytest.raises(ValueError, match=r"expected numbers \(T, N\)"):
        read_piano_rolls(one)
    # What is wrong is said, but not at any length, and with the file's name.
    raw = saved(np.savez, train_0=np.zeros((30, 40)))
    one.write_bytes(raw[:26] + b"\xff\x7f" + raw[28:])
    with pytest.raises(ValueError, match=r"a\.npz") as error:
        read_piano_rolls(one)
    assert len(str(error.value)) < 400 + len(str(one))
    table = tmp_path / "a.csv"
    table.write_text("[," * 10_000)
    with pytest.raises(ValueError, match="has no column 'text'") as error:
        read_table(table, "text", "label", [])
    assert len(str(error.value)) < 800
    files, _ = formats()["parquet"]
    damaged = tmp_path / "a.parquet"
    damaged.write_bytes(b"PAR1" + b"\x7f" * 40 + files["a.parquet"][44:])
    with pytest.raises(ValueError, match=r"a\.parquet"):
        read_table(damaged, "text", "label", [])
    notes = tmp_path / "a.json"
    notes.write_text('{"train": [[[60], [61]]], "test": 3}')
    with pytest.raises(ValueError, match="expected a list of pieces, got 3"):
        read_piano_rolls(notes)


@pytest.mark.slow
def test_many_damaged_files() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "fuzz_data.py"), "100", "--seed", "9"],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
