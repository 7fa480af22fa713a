"""Runs that are killed, asked to stop, out of disk, or whose checkpoints were damaged."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmodels.cli import main
from seqmodels.runs import write_atomically
from seqmodels.training import checkpoint_io
from seqmodels.training.callbacks.checkpoint import Checkpoint
from seqmodels.training.checkpoints import DamagedCheckpointError, load, load_newest, save
from test_resume import SETTINGS, assert_same_run
from tiny import checkpoint, record, rows, train, write_text

ROOT = Path(__file__).parents[1]


# --- kills ---------------------------------------------------------------------------------------


def kill_runs(count: int) -> str:
    """benchmarks/kills.py says whether killed and resumed runs equal one that was left alone."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "benchmarks/kills.py"), str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(count: int) -> None:
    said = kill_runs(count)
    assert f"{count} bit-identical, 0 not" in said
    found = re.search(r"(\d+) kills", said)
    assert found is not None and int(found[1]) > 0


# --- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda n: n.name)
def test_a_signal_saves_first(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a step that would not have been saved; then as if nothing had been."""
    text, whole, cut = write_text(tmp_path), tmp_path / "whole", tmp_path / "cut"
    settings = (*SETTINGS, "callbacks.checkpoint.every_n_steps=null")
    assert train(text, whole, *settings) == 0
    original = Checkpoint.on_train_batch_start

    def hook(self: Checkpoint, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == 7:
            os.kill(os.getpid(), number)
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_start", hook)
        assert train(text, cut, *settings) == 130
    assert record(cut)["status"] == "interrupted"
    assert record(cut)["reason"] == f"{number.name} after step 8"
    assert checkpoint(cut)["global_step"] == 8
    assert train(text, cut, *settings, "resume=true") == 0
    assert_same_run(whole, cut)


# --- before and after the steps ------------------------------------------------------------------


def test_a_run_that_was_killed_before_it_had_a_record_starts_again(tmp_path: Path) -> None:
    text, run = write_text(tmp_path), tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", ".probe.123", ".run.json.77.tmp"):
        (run / name).touch()
    assert train(text, run) == 2  # not unasked
    (run / "notes.txt").touch()
    assert train(text, run, "resume=true") == 2  # not where there is something else
    (run / "notes.txt").unlink()
    assert train(text, run, "resume=true") == 0
    assert not list(run.glob(".*"))  # nothing that was begun is left lying about


def test_a_run_that_was_killed_after_its_last_step_is_finished(tmp_path: Path) -> None:
    """Tested, its last row written once, and its last checkpoint left as it is."""
    text, whole, cut = write_text(tmp_path), tmp_path / "whole", tmp_path / "cut"
    for run in (whole, cut):
        assert train(text, run, *SETTINGS) == 0
    # As the kill would have left it: everything done but the last word.
    write_atomically(
        cut / "run.json",
        (cut / "run.json").read_text().replace('"status": "finished"', '"status": "running"'),
    )
    written = (cut / "checkpoints/last.ckpt").read_bytes()
    assert train(text, cut, *SETTINGS, "resume=true") == 0
    assert record(cut)["status"] == "finished"
    assert (cut / "checkpoints/last.ckpt").read_bytes() == written
    assert_same_run(whole, cut)


# --- damage --------------------------------------------------------------------------------------


def small(folder: Path, step: int, name: str = "last.ckpt") -> Path:
    path = folder / name
    weights = {"w": torch.arange(1000.0) + step}
    save({"state_dict": weights, "global_step": step}, path)
    return path


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    """torch reads changed numbers without a word."""
    path = small(tmp_path, 3)
    raw = path.read_bytes()
    assert load(path)["global_step"] == 3
    assert torch.load(path, weights_only=True)["global_step"] == 3  # as any other
    for place in range(0, len(raw) - 100, 97):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(DamagedCheckpointError, match=r"SHA-256|cannot be read"):
            load(path)


@pytest.mark.parametrize("length", [0, 1, 10, 500, -1, -50, -90, -3000])
def test_a_truncated_file_is_found(tmp_path: Path, length: int) -> None:
    path = small(tmp_path, 3)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        load(path)


@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_the_one_before_is_used_and_the_loss_told(tmp_path: Path, damage: str) -> None:
    small(tmp_path, 3, "previous.ckpt")
    path = small(tmp_path, 6)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 8
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(raw if damage == "changed" else raw[:1000])
    told: list[str] = []
    found = load_newest(tmp_path, told.append)
    assert found is not None and found[1]["global_step"] == 3
    assert "what came after step 3 is lost" in told[-1]
    assert len(told) == 1 + (damage != "missing")


class Trap:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("trapped"),)


def test_a_malicious_last_checkpoint_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, whole, cut = write_text(tmp_path), tmp_path / "whole", tmp_path / "cut"
    assert train(text, whole, *SETTINGS) == 0
    assert train(text, cut, *SETTINGS, "trainer.max_steps=10", "scheduler=none") == 0
    monkeypatch.chdir(tmp_path)
    last = cut / "checkpoints" / "last.ckpt"
    for content in (pickle.dumps(Trap()), None):
        if content is None:
            torch.save({"state_dict": {}, "task": Trap()}, last)
        else:
            last.write_bytes(content)
        more = ("trainer.max_steps=24", "scheduler=none", "resume=true")
        assert train(text, cut, *SETTINGS, *more) == 0
        said = capsys.readouterr().err
        assert "last.ckpt cannot be read" in said and "what came after step" in said
        assert not (tmp_path / "trapped").exists()
        write_atomically(
            cut / "run.json",
            (cut / "run.json").read_text().replace('"status": "finished"', '"status": "running"'),
        )


def test_a_full_disk_loses_one_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, whole, cut = write_text(tmp_path), tmp_path / "whole", tmp_path / "cut"
    assert train(text, whole, *SETTINGS) == 0
    calls = 0

    def full(content: Any, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise OSError(28, "No space left on device", str(path))
        save(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io, "save", full)
        assert train(text, cut, *SETTINGS) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert train(text, cut, *SETTINGS, "resume=true") == 0
    assert_same_run(whole, cut)
    assert [row["step"] for row in rows(cut)] == [row["step"] for row in rows(whole)]


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    """No other way to a pickle in the package than weights_only=True."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls = re.findall(r"torch\.load\(.*", text)
        found += [path.name for call in calls if "weights_only=True" not in call]
        found += [path.name for _ in re.findall(r"allow_pickle=True", text)]
    assert found == []
    assert main(["eval", f"run={tmp_path}"]) == 2
