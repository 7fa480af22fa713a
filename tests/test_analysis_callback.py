"""The analysis that goes along with training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from seqmodels.analysis.piece import cut_piece
from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.training.callbacks.analysis import LayerAnalysis


def analysis_rows(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "analysis.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_with_it_is_the_run_without_it(tmp_path: Path) -> None:
    text = tiny.write_text(tmp_path)
    drops = ("model.layers.dropout=0.4", "model.layers.num_layers=2", "model/cell=lstm")
    assert (
        tiny.train(
            text,
            tmp_path / "with",
            *drops,
            "callbacks.analysis.every_n_steps=2",
            "callbacks.analysis.steps=5",
        )
        == 0
    )
    assert tiny.train(text, tmp_path / "without", *drops, "~callbacks.analysis") == 0
    assert tiny.rows(tmp_path / "with") == tiny.rows(tmp_path / "without")
    first, second = (tiny.checkpoint(tmp_path / n)["state_dict"] for n in ("with", "without"))
    assert all(first[name].equal(second[name]) for name in first)
    found = analysis_rows(tmp_path / "with")
    assert [row["step"] for row in found] == [0, 2, 4, 6]
    assert not (tmp_path / "without" / "analysis.jsonl").exists()
    layer = found[-1]["layers"]["backbone.layers.0"]
    assert len(layer["norm_by_lag"]) == 5 and set(layer["gates"]) == set("ifgo")
    assert found[0]["layers"] != found[-1]["layers"]


@pytest.mark.parametrize(
    "own",
    [
        ("task.omega=0.5", "task.ar=1.0", "task.tar=1.0"),
        ("clip=step", "clip.max_norm=0.001"),
        ("clip=auto", "init=forget_bias", "model/cell=lstm"),
    ],
    ids=["penalties", "clipped_steps", "quantile"],
)
def test_nor_does_it_touch_what_watches_the_training(tmp_path: Path, own: tuple[str, ...]) -> None:
    text, every = tiny.write_text(tmp_path), ("trainer.log_every_n_steps=1",)
    measured = "callbacks.analysis.every_n_steps=1"
    assert tiny.train(text, tmp_path / "with", *own, *every, measured) == 0
    assert tiny.train(text, tmp_path / "without", *own, *every, "~callbacks.analysis") == 0
    assert tiny.rows(tmp_path / "with") == tiny.rows(tmp_path / "without")
    assert len(analysis_rows(tmp_path / "with")) == 7


def test_tensorboard_gets_numbers_and_distributions(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    text, run_dir = tiny.write_text(tmp_path), tmp_path / "run"
    own = ("model/cell=gru", "logger=tensorboard", "callbacks.analysis.every_n_steps=3")
    assert tiny.train(text, run_dir, *own) == 0
    board = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"histograms": 0})
    board.Reload()
    name = "analysis/backbone.layers.0"
    shown = board.Histograms(f"{name}/gate_z")
    assert [event.step for event in shown] == [0, 3, 6]
    row = analysis_rows(run_dir)[-1]["layers"]["backbone.layers.0"]["gates"]["z"]
    value = shown[-1].histogram_value
    assert sum(value.bucket) == pytest.approx(1.0, abs=1e-3) and value.sum == row["mean"]
    assert [event.step for event in board.Scalars(f"{name}/effective_rank")] == [0, 3, 6]


def test_a_run_that_diverges_fails_as_it_would_without_it(tmp_path: Path) -> None:
    text = tiny.write_text(tmp_path)
    wild = ("optimizer=sgd", "optimizer.lr=1e6", "clip=none", "model/cell=rnn")
    wild += ("model.cell.nonlinearity=relu", "logger=tensorboard")
    measured = "callbacks.analysis.every_n_steps=1"
    assert tiny.train(text, tmp_path / "with", *wild, measured) != 0
    assert tiny.train(text, tmp_path / "without", *wild, "~callbacks.analysis") != 0
    reasons = [tiny.record(tmp_path / name)["reason"] for name in ("with", "without")]
    found, expected = (reason.partition("The batch is in")[0] for reason in reasons)
    assert "the loss became" in expected and found == expected


def test_a_resumed_run_writes_each_step_once(tmp_path: Path) -> None:
    text, own = tiny.write_text(tmp_path), ("callbacks.analysis.every_n_steps=1", "scheduler=none")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert tiny.train(text, whole, *own) == 0
    assert tiny.train(text, cut, *own, "trainer.max_steps=4") == 0
    assert tiny.train(text, cut, *own, "resume=true") == 0
    assert analysis_rows(cut) == analysis_rows(whole)


def test_bidirectional_classification_and_regression(tmp_path: Path) -> None:
    for name, kind, problem, task in (
        ("a", "prediction", "temporal_order", "classification"),
        ("b", "prediction_real", "adding", "regression"),
    ):
        run_dir = tmp_path / name
        wanted = [
            *(f"model={kind}", f"data={problem}", f"task={task}", "data.length=12"),
            *("data.batches=4", "data.batch_size=4", "data.valid_sequences=8"),
            "data.test_sequences=4",
            *("model/layers=bidirectional", "model.layers.hidden_size=5", "trainer.max_steps=2"),
            *("logger=none", "trainer.enable_progress_bar=false", "~callbacks.curves"),
        ]
        assert tiny.main(["train", *wanted, f"run_dir={run_dir}"]) == 0
        layers = analysis_rows(run_dir)[-1]["layers"]
        lags = {layer["reverse"]: len(layer["norm_by_lag"]) for layer in layers.values()}
        assert lags[False] > 1 and lags[True] == 0


def test_pieces_of_batches() -> None:
    inputs = torch.arange(24).reshape(4, 6)
    whole = cut_piece(SequenceBatch(inputs, inputs + 1), sequences=2, steps=4)
    assert whole.inputs.tolist() == inputs[:2, :4].tolist() and whole.step == 3
    assert whole.targets.tolist() == [4, 10]
    last = torch.full((4, 6), IGNORE)
    last[:, 5] = 1
    kept = cut_piece(SequenceBatch(inputs, last), sequences=9, steps=4)
    assert kept.inputs.shape == (4, 6) and kept.step == 5
    lengths = torch.tensor([6, 3, 3, 5])
    ends = torch.full((4, 6), IGNORE)
    ends[torch.arange(4), lengths - 1] = 2
    same = cut_piece(SequenceBatch(inputs, ends, lengths), sequences=9, steps=4)
    assert same.inputs.tolist() == inputs[1:3, :3].tolist() and same.step == 2
    numbers = torch.full((2, 5, 1), torch.nan)
    numbers[:, 2] = 1.5
    real = cut_piece(SequenceBatch(torch.zeros(2, 5, 3), numbers), sequences=1, steps=9)
    assert real.step == 2 and real.targets.tolist() == [[1.5]]
    with pytest.raises(ValueError, match="no step"):
        cut_piece(SequenceBatch(inputs, torch.full((4, 6), IGNORE)), sequences=1, steps=4)


@pytest.mark.parametrize("name", ["every_n_steps", "sequences", "steps"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"callbacks.analysis.{name} must be a positive integer"):
        LayerAnalysis(**{name: 0})  # type: ignore[arg-type]
