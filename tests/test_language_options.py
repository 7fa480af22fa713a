"""Options of large language models: dropped words, chunks of random length, averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from seqmodels.cli import main
from seqmodels.data import IGNORE, StreamLoader
from seqmodels.models import TokenEmbedding, TokenHead
from seqmodels.training.averaging import Averaging


def test_a_dropped_word_is_dropped_everywhere_and_the_others_are_scaled() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(40, size=3, token_dropout=0.5)
    ids = torch.arange(40).repeat(2, 3)  # every word six times
    vectors, whole = embedding(ids), embedding.weight[ids]
    factors = (vectors / whole)[..., 0]
    assert set(factors.detach().round(decimals=4).unique().tolist()) == {0.0, 2.0}
    by_word = factors.reshape(-1, 40)
    assert (by_word == by_word[0]).all()
    torch.testing.assert_close(vectors, whole * factors.unsqueeze(-1))
    assert torch.equal(embedding.eval()(ids), whole)


def test_one_mask_for_a_sequence_at_both_ends_of_the_model() -> None:
    torch.manual_seed(0)
    embedding = TokenEmbedding(5, size=6, dropout=0.5, same_mask=True)
    kept = embedding(torch.arange(4).repeat(3, 1)) != 0  # (3, 4, 6)
    assert (kept == kept[:, :1]).all() and not (kept == kept[:1]).all()
    with pytest.raises(ValueError, match="set dropout, or same_mask"):
        TokenHead(6, embedding, same_mask=True)
    with pytest.raises(ValueError, match="token_dropout must lie in"):
        TokenEmbedding(5, token_dropout=1.0)


@pytest.mark.parametrize("drop", [False, True])
def test_chunks_of_random_length_are_the_text_and_as_many(drop: bool) -> None:
    tokens = np.arange(4 * 1003, dtype=np.int32)
    loader = StreamLoader(tokens, 4, 20, drop_remainder=drop, random_lengths=3)
    plain = StreamLoader(tokens, 4, 20, drop_remainder=drop)
    assert len(loader) == len(plain)
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(plain)
        inputs = torch.cat([batch.inputs for batch in batches], 1)
        assert torch.equal(inputs, torch.cat([batch.inputs for batch in plain], 1))
        targets = torch.cat([batch.targets for batch in batches], 1)
        assert torch.equal(targets[targets != IGNORE], (inputs + 1)[targets != IGNORE])
        epochs.append([batch.inputs.shape[1] for batch in batches])
    assert epochs[0] != epochs[1] and min(map(min, epochs)) >= 1
    assert 3 < np.std(epochs[0]) < 9  # deviation 5, and now and then a half
    again = StreamLoader(tokens, 4, 20, drop_remainder=drop, random_lengths=3)
    again.load_state_dict({"position": 7, "epoch": 1})
    assert [batch.inputs.shape[1] for batch in again] == epochs[1][7:]


@pytest.mark.parametrize("columns", [1, 2, 3, 6, 11])
def test_even_the_shortest_text_has_a_column_in_every_chunk(columns: int) -> None:
    loader = StreamLoader(np.arange(columns + 1), 1, 2, random_lengths=0)
    for epoch in range(20):
        lengths = loader.lengths(epoch)
        assert lengths.min() >= 1 and lengths.sum() == columns and len(lengths) == len(loader)


def test_averaging_begins_at_the_trigger_and_is_the_mean_of_the_steps() -> None:
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    averaging = Averaging([weight], patience=2)
    # The fifth is worse than the best of all but the last two before it: 3, 2.
    for loss in (3.0, 2.0, 1.9, 1.95, 2.1):
        averaging.after_step()
        assert not averaging.active
        averaging.after_validation(loss)
    assert averaging.active
    values = [1.0, 4.0, 7.0]
    for value in values:
        with torch.no_grad():
            weight.fill_(value)
        averaging.after_step()
    averaging.put_in()
    averaging.put_in()
    assert weight.tolist() == pytest.approx([4.0, 4.0])
    saved = averaging.state_dict()
    averaging.take_out()
    assert weight.tolist() == [7.0, 7.0]
    other = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    resumed = Averaging([other], patience=2)
    resumed.load_state_dict(saved)
    assert other.tolist() == [7.0, 7.0]  # training goes on with its own weights
    resumed.put_in()
    assert other.tolist() == pytest.approx([4.0, 4.0])


@pytest.mark.parametrize("patience", [1, 2, 3, 5])
def test_averaging_waits_for_validations_old_enough(patience: int) -> None:
    averaging = Averaging([nn.Parameter(torch.zeros(1))], patience=patience)
    losses = [9.0, 1.0, *[5.0 + n for n in range(8)]]
    triggered = None
    for number, loss in enumerate(losses):
        averaging.after_validation(loss)
        if averaging.active and triggered is None:
            triggered = number
    # The best, number 1, is old enough once `patience` others lie between it and the one at hand.
    assert triggered == patience + 2


OPTIONS = (
    "data.random_seq_len=true", "model.embedding.token_dropout=0.2", "model.embedding.dropout=0.2",
    "model.embedding.same_mask=true", "model.head.dropout=0.2", "model.head.same_mask=true",
    "task.average_after=1", "optimizer=sgd", "optimizer.lr=20.0", "scheduler=none",
    "trainer.max_steps=24", "trainer.val_check_interval=3", "num_threads=1",
)  # fmt: skip


def test_a_resumed_run_is_the_uninterrupted_one_with_all_of_it(tmp_path: Path) -> None:
    text = tiny.write_text(tmp_path)
    assert tiny.train(text, tmp_path / "whole", *OPTIONS) == 0
    part = [o for o in OPTIONS if "max_steps" not in o]
    assert tiny.train(text, tmp_path / "cut", *part, "trainer.max_steps=17") == 0
    assert tiny.train(text, tmp_path / "cut", *OPTIONS, "resume=true") == 0
    one, other = (tiny.checkpoint(tmp_path / name) for name in ("whole", "cut"))
    assert one["task"]["averaging"]["active"] and one["task"]["averaging"]["steps"] > 0
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name])
    pairs = zip(one["task"]["averaging"]["own"], other["task"]["averaging"]["own"], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    # What a checkpoint of a validation holds is the average, and not the weights of the step.
    assert not torch.equal(
        one["state_dict"]["model.embedding.weight"], one["task"]["averaging"]["own"][0]
    )


def test_the_rate_follows_the_length_of_the_chunk(tmp_path: Path) -> None:
    text, run = tiny.write_text(tmp_path), tmp_path / "run"
    extra = ("data.random_seq_len=true", "optimizer=sgd", "optimizer.lr=0.5", "scheduler=none",
             "trainer.log_every_n_steps=1")  # fmt: skip
    assert tiny.train(text, run, *extra) == 0
    rates = [row["train/learning_rate"] for row in tiny.rows(run) if "train/learning_rate" in row]
    tokens = [rate * 7 / 0.5 for rate in rates]
    assert tokens == pytest.approx([round(count) for count in tokens]) and len(set(tokens)) > 1


def test_a_schedule_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    assert tiny.train(tiny.write_text(tmp_path), run, "scheduler.warmup_steps=100") == 2
    assert "warmup_steps (100) must be below the run's 6 steps" in capsys.readouterr().err
    assert not run.exists()


def write_words(folder: Path) -> Path:
    folder.mkdir()
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(tiny.TEXT, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("experiment", "own"),
    [
        ("wikitext2_lstm", ("model.layers.hidden_size=4",)),
        ("awd_lstm", ("model.layers.hidden_size=[6,6,4]",)),
        ("tinyshakespeare_min_gru", ("model.layers.hidden_size=4", "scheduler.warmup_steps=0")),
    ],
)
def test_experiments_run(
    tmp_path: Path, experiment: str, own: tuple[str, ...], capsys: Any
) -> None:
    place = tiny.write_text(tmp_path) if "shake" in experiment else write_words(tmp_path / "words")
    assert main([
        "train", f"experiment={experiment}", f"data.path={place}", "data.batch_size=4",
        "data.seq_len=5", "data.eval_batch_size=2", "model.embedding.size=4", *own,
        "trainer.max_epochs=null", "trainer.max_steps=2", "trainer.val_check_interval=1",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
        "callbacks.samples.length=5", f"run_dir={tmp_path / 'run'}",
    ]) == 0  # fmt: skip
    assert tiny.record(tmp_path / "run")["status"] == "finished"
