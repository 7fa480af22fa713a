"""A run that stops anywhere and is resumed ends as if it had never stopped, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from seqmodels.training.callbacks.checkpoint import Checkpoint
from seqmodels.training.interruption import StopRequest
from tiny import checkpoint, record, rows, train, write_text

# 3 updates between validations, 4.. a short last chunk, several epochs; dropout and momentum, so
# that random numbers and the optimiser's state matter; steps that log, validate, both, neither.
SETTINGS = (
    "trainer.max_steps=24",
    "trainer.val_check_interval=5",
    "trainer.log_every_n_steps=4",
    "data.seq_len=40",
    "model/cell=gru",
    "model.layers.num_layers=2",
    "model.layers.dropout=0.3",
    "callbacks.checkpoint.every_n_steps=1",
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def assert_same_run(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    a, b = checkpoint(one), checkpoint(other)
    assert same(a["state_dict"], b["state_dict"])
    assert same(a["optimizer_states"], b["optimizer_states"])
    assert same(a["task"], b["task"])
    assert same(checkpoint(one, "best")["state_dict"], checkpoint(other, "best")["state_dict"])
    timeless = [
        {k: v for k, v in record(run)["metrics"].items() if not k.startswith("time/")}
        for run in (one, other)
    ]
    assert timeless[0] == timeless[1]
    assert record(one)["best"] == record(other)["best"]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the run stop as on Ctrl-C once `step` updates are done."""

    def arrange(step: int) -> None:
        original = Checkpoint.on_train_batch_end

        def hook(self: Checkpoint, trainer: Any, *arguments: Any) -> None:
            if trainer.global_step >= step:
                assert isinstance(self.stop, StopRequest)
                self.stop.requested = "SIGINT"
            original(self, trainer, *arguments)

        monkeypatch.setattr(Checkpoint, "on_train_batch_end", hook)

    return arrange


def check_stop(
    tmp_path: Path,
    stop_after: Any,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    extra: tuple[str, ...] = (),
) -> None:
    text = write_text(tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(text, whole, *SETTINGS, *extra) == 0
    with monkeypatch.context():
        stop_after(step)
        assert train(text, cut, *SETTINGS, *extra) == 130
    monkeypatch.undo()
    assert record(cut)["status"] == "interrupted"
    assert train(text, cut, *SETTINGS, *extra, "resume=true") == 0
    assert record(cut)["status"] == "finished"
    assert_same_run(whole, cut)


# An epoch has 12 batches: 5 and 10 end with a validation, 12 ends an epoch, 4 and 8 log.
@pytest.mark.parametrize("step", [5, 13])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, stop_after: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    check_stop(tmp_path, stop_after, monkeypatch, step)


@pytest.mark.parametrize(
    "extra",
    [
        ("clip=auto", "clip.quantile=0.4", "clip.window=7"),
        ("clip=skip", "clip.max_norm=0.3", "task.omega=0.5"),
    ],
    ids=["auto", "skip"],
)
def test_what_clipping_remembers_is_part_of_the_checkpoint(
    tmp_path: Path, stop_after: Any, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    check_stop(tmp_path, stop_after, monkeypatch, 10, extra)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 24))
@pytest.mark.parametrize(
    "extra",
    [
        ("scheduler=plateau", "optimizer=sgd"),
        ("trainer.val_check_interval=0.5", "trainer.max_steps=-1", "trainer.max_epochs=2"),
        ("trainer.accumulate_grad_batches=3", "trainer.max_steps=9"),
    ],
    ids=["plateau", "epochs", "accumulation"],
)
def test_resumed_equals_uninterrupted_at_every_step(
    tmp_path: Path,
    stop_after: Any,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    extra: tuple[str, ...],
) -> None:
    if "trainer.max_steps=9" in extra and step > 8:
        pytest.skip("the run has nine steps")
    check_stop(tmp_path, stop_after, monkeypatch, step, extra)
