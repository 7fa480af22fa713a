"""`seqmodels analyse`: pictures and numbers of a finished run."""

from __future__ import annotations

import io
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from seqmodels.analysis.describe import describe_layers
from seqmodels.analysis.gradients import norms_by_lag, recurrent_layers
from seqmodels.analysis.piece import cut_piece
from seqmodels.cli import main
from seqmodels.commands import building
from seqmodels.commands.analyse_subject import read_rows
from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic import SyntheticData
from seqmodels.errors import UserError

SMALL = ["sequences=2", "steps=12", "lags=[1,5]", "points=3"]


def analysed(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "analysis" / "analysis.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def names_of(run_dir: Path) -> set[str]:
    return {path.stem for path in (run_dir / "analysis").glob("*.png")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model."""
    folder = tmp_path_factory.mktemp("analyse")
    run_dir = folder / "run"
    options = ("model/cell=gru", "logger=tensorboard")
    assert tiny.train(tiny.write_text(folder), run_dir, *options) == 0
    return run_dir


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both directions, one answer a sequence, no analysis while it trained, no TensorBoard."""
    run_dir = tmp_path_factory.mktemp("analyse") / "run"
    wanted = [
        *("model=prediction", "data=temporal_order", "task=classification", "data.length=12"),
        *("data.batches=4", "data.batch_size=4", "data.valid_sequences=8", "model/cell=rnn"),
        *("data.test_sequences=4", "model/layers=bidirectional", "model.layers.hidden_size=5"),
        *("trainer.max_steps=2", "logger=none", "trainer.enable_progress_bar=false"),
        *("~callbacks.curves", "~callbacks.analysis", f"run_dir={run_dir}"),
    ]
    assert main(["train", *wanted]) == 0
    return run_dir


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds: a grey picture stands for each."""
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 128).save(buffer, format="png")
    monkeypatch.setattr("seqmodels.commands.analyse._png", lambda figure: buffer.getvalue())


def test_pictures_and_numbers(trained: Path, capsys: Any) -> None:
    before = len(list((trained / "tensorboard").iterdir()))
    assert main(["analyse", f"run={trained}", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "2 sequences of 12 steps, loss of step 12" in out and "replaces" not in out
    found = analysed(trained)
    assert set(found["pictures"]) == names_of(trained) == {
        "cliff", "clipping", "gates", "gradient_by_lag", "gradient_over_training",
        "jacobian_spectra", "states",
    }  # fmt: skip
    for name in found["pictures"]:
        assert f"{name}.png" in out
        pixels = np.asarray(Image.open(trained / "analysis" / f"{name}.png").convert("L"))
        assert pixels.shape[0] > 200 and pixels.std() > 5
    assert len(list((trained / "tensorboard").iterdir())) == before + 1
    assert (found["sequences"], found["steps"], found["loss_at_step"]) == (2, 12, 11)
    # The numbers are those of the functions that measure.
    _, data, model, _ = building.load_run(trained, "best", lambda c: c)
    loader = data.valid_loader()
    assert loader is not None
    piece = cut_piece(next(iter(loader)), sequences=2, steps=12)

    def term(outputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs, piece.targets, reduction="sum")

    reports = describe_layers(
        model, piece.inputs, loss=term, step=11, spectra=True, points=3, lags=(1, 5)
    )
    as_read = {name: json.loads(json.dumps(r.as_dict())) for name, r in reports.items()}
    assert found["layers"] == as_read
    spectrum = found["layers"]["backbone.layers.0"]["spectrum"]
    assert spectrum["times"] == [0, 6, 11] and len(spectrum["eigenvalues"]) == 3 * 8
    # As training went on, from what the run has written.
    over = found["gradient_over_training"]
    rows = read_rows(trained / "analysis.jsonl")
    assert over["source"] == "analysis.jsonl" and over["steps"] == [r["step"] for r in rows]
    assert over["norm_by_lag"]["backbone.layers.0"] == [
        row["layers"]["backbone.layers.0"]["norm_by_lag"] for row in rows
    ]


def test_what_an_earlier_call_left_is_replaced_and_said(
    trained: Path, capsys: Any, undrawn: None
) -> None:
    assert main(["analyse", f"run={trained}", *SMALL]) == 0
    foreign = trained / "analysis" / "mine.png"
    foreign.write_bytes(b"not ours")
    capsys.readouterr()
    assert main(["analyse", f"run={trained}", *SMALL, "spectra=false"]) == 0
    out = capsys.readouterr().out
    assert "replaces the analysis of 20" in out and "removed jacobian_spectra.png" in out
    assert foreign.read_bytes() == b"not ours"
    assert "jacobian_spectra" not in names_of(trained)
    assert analysed(trained)["layers"]["backbone.layers.0"]["spectrum"] is None


def test_checkpoints_tell_of_the_training_where_nothing_was_written(
    answering: Path, capsys: Any, undrawn: None
) -> None:
    assert main(["analyse", f"run={answering}", "lags=[1,3]", "checkpoint=last"]) == 0
    assert "this run has not written for it" in capsys.readouterr().out
    assert not (answering / "tensorboard").exists()
    found = analysed(answering)
    layers = found["layers"]
    assert [layer["reverse"] for layer in layers.values()] == [False, True]
    assert [bool(layer["norm_by_lag"]) for layer in layers.values()] == [True, False]
    over = found["gradient_over_training"]
    assert (over["source"], over["steps"]) == ("checkpoints", [0, 2])
    (name,) = over["norm_by_lag"]
    assert over["norm_by_lag"][name][1] == layers[name]["norm_by_lag"]
    # Step 0 are the first weights, which the seed tells.
    cfg, data, _, _ = building.load_run(answering, "last", lambda c: c)
    first = building.build_model(cfg, data).eval()
    for layer, _ in recurrent_layers(first).values():
        layer.engine = "eager"
    loader = data.valid_loader()
    assert loader is not None
    piece = cut_piece(next(iter(loader)), sequences=16, steps=200)
    term = partial(torch.nn.functional.cross_entropy, target=piece.targets, reduction="sum")
    norms = norms_by_lag(first, piece.inputs, term, step=piece.step)[name]
    torch.testing.assert_close(torch.tensor(over["norm_by_lag"][name][0]).double(), norms)


def test_a_run_without_a_best_checkpoint(
    answering: Path, tmp_path: Path, capsys: Any, undrawn: None
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(answering, run_dir)
    (run_dir / "checkpoints" / "best.ckpt").unlink()
    assert main(["analyse", f"run={run_dir}", "spectra=false", "sequences=1"]) == 0
    assert "last checkpoint (step 2)" in capsys.readouterr().out
    assert main(["analyse", f"run={run_dir}", "checkpoint=best"]) == 2
    shutil.rmtree(run_dir / "checkpoints")
    capsys.readouterr()
    assert main(["analyse", f"run={run_dir}"]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err


def test_batches_with_lengths(
    answering: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(answering, run_dir)
    lengths = torch.tensor([9, 5, 9])
    targets = torch.full((3, 9), IGNORE)
    targets[torch.arange(3), lengths - 1] = torch.tensor([0, 1, 2])
    batch = SequenceBatch(torch.randint(0, 4, (3, 9)), targets, lengths)
    monkeypatch.setattr(SyntheticData, "valid_loader", lambda self: [batch])
    assert main(["analyse", f"run={run_dir}", "spectra=false"]) == 0
    found = analysed(run_dir)
    assert (found["sequences"], found["steps"], found["loss_at_step"]) == (2, 9, 8)


def test_weights_that_are_no_numbers_and_models_without_recurrence(
    answering: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(answering, run_dir)
    path = run_dir / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    name = next(n for n in content["state_dict"] if n.endswith("weight_hh"))
    content["state_dict"][name][0, 0] = torch.nan
    torch.save(content, path)
    assert main(["analyse", f"run={run_dir}", "checkpoint=last"]) == 2
    error = capsys.readouterr().err
    assert "weight_hh holds NaN" in error and "checkpoint=best" in error

    def linear(model: Any) -> dict[str, Any]:
        return {}

    monkeypatch.setattr("seqmodels.commands.analyse_subject.recurrent_layers", linear)
    assert main(["analyse", f"run={run_dir}"]) == 2
    assert "no recurrent layer" in capsys.readouterr().err


COMMON = [
    *("trainer.max_steps=2", "trainer.val_check_interval=2", "logger=none"),
    *("trainer.enable_progress_bar=false", "callbacks.analysis.every_n_steps=1"),
    *("~callbacks.curves", "~callbacks.images", "~callbacks.attention"),
]


def test_a_model_that_reads_one_sequence_and_writes_another(
    tmp_path: Path, capsys: Any, undrawn: None
) -> None:
    run_dir = tmp_path / "run"
    wanted = [
        *("model=seq2seq", "data=sort", "task=seq2seq", "model.encoder.hidden_size=5"),
        *("model.decoder.hidden_size=5", "model.source.size=4", "model.target.size=4"),
        *("data.valid_lengths=[1,6]", "data.valid_sequences=8", "data.test_sequences=8"),
        *("data.batch_size=4", "model/layers@model.encoder=bidirectional"),
    ]
    assert main(["train", *wanted, *COMMON, f"run_dir={run_dir}"]) == 0
    assert main(["analyse", f"run={run_dir}", "lags=[1,3]"]) == 0
    out = capsys.readouterr().out
    # Not of the sequences of one symbol, which come first.
    assert "8 sequences of 6 steps, loss of step 7" in out and "last step with a gradient" in out
    found = analysed(run_dir)
    lags = {n: len(layer["norm_by_lag"]) for n, layer in found["layers"].items()}
    encoder = [n for n in lags if n.startswith("encoder")]
    assert sorted(lags[n] for n in encoder) == [0, 6] and lags["decoder.layers.0"] == 7
    over = found["gradient_over_training"]
    assert (over["source"], over["steps"]) == ("analysis.jsonl", [0, 1, 2])
    assert {"gradient_over_training", "jacobian_spectra", "gates"} <= names_of(run_dir)
    norms = [layer["norm_by_lag"] for layer in found["layers"].values() if layer["norm_by_lag"]]
    assert all(min(by_lag) > 0 for by_lag in norms)


@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
def test_a_model_of_images(tmp_path: Path, capsys: Any, undrawn: None, kind: str) -> None:
    run_dir = tmp_path / "run"
    wanted = [
        *("experiment=pixelrnn_digits", f"model/layers={kind}", "data.limit=20", "data.valid=0.01"),
        *("data.test=0.01", "model.layers.hidden_size=3", "model.layers.num_layers=2"),
    ]
    assert main(["train", *wanted, *COMMON, f"run_dir={run_dir}"]) == 0
    assert main(["analyse", f"run={run_dir}", "sequences=2", "lags=[1,3]", "points=2"]) == 0
    assert "2 images of 8 × 8 pixels, loss of pixel 64" in capsys.readouterr().out
    layers = analysed(run_dir)["layers"]
    steps = {"row_lstm": 8, "diagonal_bilstm": 15}[kind]
    assert max(len(layer["norm_by_lag"]) for layer in layers.values()) == steps
    assert len(layers) == (2 if kind == "row_lstm" else 4)
    for layer in layers.values():
        # Places outside the image, whose gates are shut for good, do not count.
        assert set(layer["gates"]) == set("ifgo") and layer["gates"]["o"]["closed"] == 0.0
        assert len(layer["spectrum"]["eigenvalues"]) == 2 * 9 * 2 * 3  # points · places · (h, c)


def test_a_run_in_double_precision(tmp_path: Path, undrawn: None) -> None:
    run_dir = tmp_path / "run"
    wanted = [
        *("model=echo_state", "task=ridge", "data=sines", "data.double=true", "data.train=300"),
        *("data.valid=100", "data.test=100", "trainer.precision=64-true", "scheduler=none"),
        *("clip=none", "optimizer=none", "model.layers.hidden_size=20", "model.cell.density=0.5"),
        *("~callbacks.curves", "~callbacks.forecast", "logger=none"),
        "trainer.enable_progress_bar=false",
    ]
    assert main(["train", *wanted, f"run_dir={run_dir}"]) == 0
    assert main(["analyse", f"run={run_dir}", "spectra=false"]) == 0
    assert "states" in names_of(run_dir)


def test_layers_over_images_without_a_recurrence(tmp_path: Path, capsys: Any) -> None:
    run_dir = tmp_path / "run"
    wanted = ("experiment=pixelrnn_digits", "model/layers=pixelcnn", "data.limit=20")
    small = ("model.layers.hidden_size=3", "model.layers.num_layers=2", "data.valid=0.01")
    assert main(["train", *wanted, *small, *COMMON, f"run_dir={run_dir}"]) == 0
    told = "no recurrent layer: there is nothing to analyse"
    assert capsys.readouterr().err.count(told) == 1
    assert main(["analyse", f"run={run_dir}"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run=nowhere"], "there is no such directory"),
        (["run={run}/checkpoints"], "holds no run.json"),
        ([], "run is missing"),
        (["run={run}", "split=valdi"], "did you mean 'valid'"),
        (["run={run}", "split=test"], "has no test split"),
        (["run={run}", "sequences=0"], "sequences: expected at least 1"),
        (["run={run}", "lags=[0]"], "lags must be a list of positive integers"),
        (["run={run}", "checkpoint=newest"], "expected one of 'best', 'last'"),
        (["run={run}", "stepz=3"], "did you mean 'steps'"),
    ],
)
def test_mistakes_are_said_in_a_line(
    trained: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr("seqmodels.data.text.TextData.test_loader", lambda self: None)
    assert main(["analyse", *(word.format(run=trained) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_place_that_cannot_be_written(
    answering: Path, tmp_path: Path, capsys: Any, undrawn: None
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(answering, run_dir, ignore=shutil.ignore_patterns("analysis"))
    (run_dir / "analysis").write_text("a file")
    assert main(["analyse", f"run={run_dir}", "spectra=false", "sequences=1"]) == 2
    assert f"{run_dir}/analysis: File exists" in capsys.readouterr().err


def test_logs_of_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_rows(path) == [{"step": 1}]
    path.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(UserError, match="line 1"):
        read_rows(path)
