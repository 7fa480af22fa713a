"""Several processes that share each batch equal one that has it whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmodels.cli import main
from seqmodels.commands.processes import ALONE, Place, place_of
from seqmodels.config import compose
from seqmodels.data.base import SequenceBatch
from seqmodels.errors import UserError
from seqmodels.training.parallel import SharedLoader, SpareBatch
from test_resume import same
from tiny import checkpoint, record, rows, tiny, train, write_text

ROOT = Path(__file__).parents[1]
TWO = ("trainer.strategy=ddp", "trainer.devices=2")
EXACT = ("trainer.precision=64-true", "num_threads=1")


@pytest.fixture(autouse=True)
def package_for_children(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


# --- parts of a batch ----------------------------------------------------------------------------


class Batches:
    batch_size = 5

    def __init__(self, *sizes: int) -> None:
        self.all = [
            SequenceBatch(
                torch.randint(9, (n, 3)), torch.randint(9, (n, 3)), torch.arange(n) % 3 + 1
            )
            for n in sizes
        ]

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Any:
        return iter(self.all)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_parts_are_the_batch(size: int) -> None:
    whole = Batches(5, 3, 1)
    parts = [list(SharedLoader(whole, rank, size)) for rank in range(size)]
    for number, batch in enumerate(whole):
        mine = [p[number] for p in parts if not isinstance(p[number], SpareBatch)]
        for field in range(3):
            assert torch.equal(torch.cat([m[field] for m in mine]), batch[field])
        spare = [p[number] for p in parts if isinstance(p[number], SpareBatch)]
        assert len(spare) == max(0, size - len(batch.inputs))
        assert all(len(each.inputs) == 1 for each in spare)


def test_more_processes_than_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match=r"6 processes cannot share batches of 5"):
        SharedLoader(Batches(5), 0, 6)


# --- places --------------------------------------------------------------------------------------

LAUNCHED = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_NTASKS",
            "SLURM_JOB_NAME", "SLURM_PROCID", "SLURM_LOCALID")  # fmt: skip


@pytest.mark.parametrize(
    ("env", "settings", "expected"),
    [
        ({}, (), ALONE),
        ({}, ("trainer.strategy=ddp",), ALONE),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"},
            (),
            ALONE,
        ),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"},
            (*TWO, "trainer.num_nodes=2"),
            Place(3, 4, 2, 1),
        ),
        (
            {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "x"},
            TWO,
            Place(1, 2, 2, 1),
        ),
    ],
)
def test_place(
    env: dict[str, str],
    settings: tuple[str, ...],
    expected: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert place_of(compose("train", list(settings)).trainer) == expected


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        ({}, (*TWO, "trainer.num_nodes=2"), "torchrun or srun"),
        (
            {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"},
            TWO,
            "4 processes were started",
        ),
    ],
)
def test_a_place_that_cannot_be(
    env: dict[str, str],
    settings: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        place_of(compose("train", list(settings)).trainer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("task.omega=1",), "omega is a ratio of sums over the whole batch"),
        (("data.batch_size=1",), "2 processes cannot share batches of 1"),
    ],
)
def test_what_several_processes_cannot_do(
    settings: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(write_text(tmp_path), tmp_path / "run", *TWO, *settings) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_closed_form_is_no_matter_of_several_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "experiment=narma10_esn",
        *TWO,
        "trainer.accelerator=cpu",
    ]
    assert main([*words, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "task=ridge solves for its readout in one process" in capsys.readouterr().err


# --- runs ----------------------------------------------------------------------------------------


def assert_equal_to_rounding(one: Path, several: Path) -> None:
    for mine, theirs in zip(rows(one), rows(several), strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            assert theirs[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    a, b = checkpoint(one)["state_dict"], checkpoint(several)["state_dict"]
    for name, weight in a.items():
        assert torch.allclose(weight, b[name], rtol=1e-9, atol=1e-11), name


@pytest.mark.parametrize(
    "settings",
    [
        ("data.batch_size=7", "model/cell=gru", "model.layers.num_layers=2"),
        pytest.param(
            ("clip=step", "clip.max_norm=1e-3", "trainer.accumulate_grad_batches=2"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (
                "model/head=adaptive",
                "model.head.cutoffs=[5,12]",
                "model.head.div_value=2",
                "task.ar=1",
                "task.tar=1",
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["streams", "step-clip", "adaptive"],
)
def test_two_processes_equal_one(settings: tuple[str, ...], tmp_path: Path) -> None:
    """Streams of a text, whose states are carried from batch to batch."""
    text = write_text(tmp_path)
    assert train(text, tmp_path / "one", *EXACT, *settings) == 0
    assert train(text, tmp_path / "two", *EXACT, *settings, *TWO) == 0
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")
    kept = checkpoint(tmp_path / "two")["task"]["processes"]
    whole = checkpoint(tmp_path / "one")["task"]["processes"][0]["carried"]
    while not isinstance(whole, torch.Tensor):  # the first layer's
        whole, kept = whole[0], [k["carried"] if isinstance(k, dict) else k[0] for k in kept]
        kept = [k[0] if isinstance(k, tuple) and not isinstance(whole, tuple) else k for k in kept]
    assert torch.allclose(torch.cat(kept), whole, rtol=1e-9, atol=1e-11)


def test_unequal_parts_weigh_as_much_as_they_predict(tmp_path: Path) -> None:
    """Texts of many lengths, and a last batch of one, of which one process has nothing."""
    path = tmp_path / "texts.csv"
    texts = [
        f"{'word ' * (1 + 3 * i % 7)}{'good' if i % 2 else 'bad'} {i},{i % 2}" for i in range(26)
    ]
    path.write_text("text,label\n" + "\n".join(texts), encoding="utf-8")
    words = [
        "train", "experiment=sentiment_lstm", f"data.path={path}", "data.batch_size=3",
        "model.layers.hidden_size=6", "model.inputs.size=5", "trainer.max_epochs=2",
        "trainer.val_check_interval=1.0", "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false", "logger=none", "callbacks=none",
        "+callbacks.checkpoint._target_=seqmodels.training.callbacks.checkpoint.Checkpoint",
        "model.layers.dropout=0", "model.inputs.dropout=0", "model.head.dropout=0", *EXACT,
    ]  # fmt: skip
    assert main([*words, f"run_dir={tmp_path / 'one'}"]) == 0
    assert main([*words, *TWO, f"run_dir={tmp_path / 'two'}"]) == 0
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    """With dropout, of which each has masks of its own."""
    text, settings = write_text(tmp_path), ("model.embedding.dropout=0.4", "scheduler=none", *TWO)
    assert train(text, tmp_path / "whole", *settings) == 0
    assert train(text, tmp_path / "cut", *settings, "trainer.max_steps=4") == 0
    processes = checkpoint(tmp_path / "cut")["task"]["processes"]
    assert not torch.equal(processes[0]["random"]["torch"], processes[1]["random"]["torch"])
    path = tmp_path / "cut"
    assert train(text, path, *settings, "resume=true") == 0
    whole = {row["step"]: row for row in rows(tmp_path / "whole")}
    assert rows(path)[-1] == whole[6]
    a, b = (checkpoint(tmp_path / name)["state_dict"] for name in ("whole", "cut"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def started(text: Path, run_dir: Path, *settings: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-W", "ignore", "-m", "seqmodels", *tiny(text, run_dir, *settings)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (run_dir / "checkpoints/last.ckpt").exists():
        assert process.poll() is None, process.communicate()
        signal.sigtimedwait([], 0.1)
    return process


LONG = (
    "scheduler=none",
    "trainer.max_steps=100000",
    "callbacks.checkpoint.every_n_steps=5",
    "data.batch_size=4",
)


@pytest.mark.slow
def test_a_signal_to_the_first_stops_all_after_the_same_step(tmp_path: Path) -> None:
    text, run_dir = write_text(tmp_path), tmp_path / "run"
    process = started(text, run_dir, *LONG, *TWO)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert record(run_dir)["status"] == "interrupted"
    assert "Traceback" not in error
    steps = record(run_dir)["steps"]
    assert checkpoint(run_dir)["global_step"] == steps
    more = (LONG[0], *LONG[2:], f"trainer.max_steps={steps + 5}")
    assert train(text, run_dir, *more, *TWO, "resume=true") == 0
    assert train(text, tmp_path / "whole", *more, *TWO) == 0
    assert rows(run_dir) == rows(tmp_path / "whole")
    a, b = checkpoint(run_dir), checkpoint(tmp_path / "whole")
    assert same(a["state_dict"], b["state_dict"])
    assert same(a["optimizer_states"], b["optimizer_states"])


@pytest.mark.slow
def test_a_lost_process_is_named(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = started(write_text(tmp_path), run_dir, *LONG, *TWO)
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "seqmodels.commands.follow"],
        capture_output=True,
        text=True,
        check=True,
    )
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
    _, error = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "process 1 of 2 ended with status -9; the same command with resume=true" in error
    assert "Traceback" not in error
    assert record(run_dir)["status"] == "failed"


@pytest.mark.slow
def test_torchrun(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    words = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node=2"]
    words += ["--standalone", "-m", "seqmodels", *tiny(text, tmp_path / "two", *TWO, *EXACT)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished in") == 1
    assert train(text, tmp_path / "one", *EXACT) == 0
    assert_equal_to_rounding(tmp_path / "one", tmp_path / "two")
