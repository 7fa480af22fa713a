"""Series with a class each: every way they come, batches by length, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmodels.cli import main
from seqmodels.data.labelled import SeriesClassification, read_labelled_series
from tiny import record


def waves(count: int, seed: int = 0) -> list[tuple[str, list[float]]]:
    """Rising and falling ramps of 4 to 9 steps: their means and ranges are alike."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        ramp = np.sort(random.normal(size=4 + number % 6)).round(4)
        rows.append(("up", ramp.tolist()) if number % 2 else ("down", ramp[::-1].tolist()))
    return rows


def write_lines(path: Path, rows: list[tuple[str, list[float]]], separator: str = "\t") -> Path:
    lines = [separator.join([label, *map(str, values)]) for label, values in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_arrays(path: Path, rows: list[tuple[str, list[float]]]) -> Path:
    longest = max(len(values) for _, values in rows)
    values = np.full((len(rows), longest), np.nan)
    for number, (_, own) in enumerate(rows):
        values[number, : len(own)] = own
    np.savez(path, x=values, y=np.array([label for label, _ in rows]))
    return path


def ready(path: Path, **settings: Any) -> SeriesClassification:
    settings = {"batch_size": 4, "valid": 0.2, "test": 0.2, **settings}
    data = SeriesClassification(str(path), **settings)
    data.setup()
    return data


@pytest.mark.parametrize("kind", ["a.tsv", "a.csv", "a.txt", "a.npz"])
def test_every_kind_of_file_gives_the_same_series(kind: str, tmp_path: Path) -> None:
    rows, separators = waves(12), {".tsv": "\t", ".csv": ",", ".txt": "  "}
    path = tmp_path / kind
    if path.suffix == ".npz":
        write_arrays(path, rows)
    else:
        write_lines(path, rows, separators[path.suffix])
    (found,) = read_labelled_series(str(path)).values()
    assert [(s.label, s.values[:, 0].tolist()) for s in found] == [
        (label, np.float32(values).tolist()) for label, values in rows
    ]


def test_splits_by_name_and_by_share(tmp_path: Path) -> None:
    folder = tmp_path / "Ramps"
    folder.mkdir()
    write_lines(folder / "Ramps_TRAIN.tsv", waves(20))
    write_lines(folder / "Ramps_TEST.tsv", waves(6, 1))
    (folder / "README.txt").write_text("about\n")
    assert ready(folder).describe()["series"] == {"train": 16, "valid": 4, "test": 6}
    one = write_lines(tmp_path / "a.tsv", waves(20))
    assert ready(one).describe()["series"] == {"train": 13, "valid": 3, "test": 4}
    folds = [ready(one, fold=k, folds=5).describe()["series"]["test"] for k in range(5)]
    assert folds == [4] * 5
    many = np.zeros((9, 5, 3))
    labels = np.arange(9) % 3
    np.savez(tmp_path / "b.npz", x_train=many, y_train=labels, x_test=many[:3], y_test=labels[:3])
    data = ready(tmp_path / "b.npz")
    assert data.sizes() == {"num_inputs": 3, "num_outputs": 3}
    assert data.class_names == ["0", "1", "2"]


def test_batches_are_padded_scaled_and_ask_at_the_last_step(tmp_path: Path) -> None:
    data = ready(write_lines(tmp_path / "a.tsv", waves(40)))
    values, seen = [], 0
    for inputs, targets, lengths in data.train_loader():
        assert lengths is not None and inputs.shape[1] == int(lengths.max())
        for row, target, length in zip(inputs, targets, lengths.tolist(), strict=True):
            assert (target >= 0).nonzero().flatten().tolist() == [length - 1]
            rising = bool((row[1:length] >= row[: length - 1]).all())
            assert data.class_names[int(target[length - 1])] == ("up" if rising else "down")
            assert not row[length:].any()
            values.append(row[:length])
            seen += 1
    assert seen == data.describe()["series"]["train"]
    whole = torch.cat(values)
    assert float(whole.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whole.std(unbiased=False)) == pytest.approx(1, abs=1e-6)


def test_a_summary_without_order_is_no_better_than_chance(tmp_path: Path) -> None:
    shares, summary = ready(write_lines(tmp_path / "a.tsv", waves(200))).baselines().values()
    assert shares == pytest.approx(np.log(2), abs=0.01)
    assert summary > 0.6


BROKEN: list[tuple[str, str, dict[str, Any], str]] = [
    ("a.tsv", "1\t0.5\n2\tx\n", {}, r"a\.tsv, line 2: expected a class and numbers: .*'x'"),
    ("a.tsv", "1\t0.5\n2\t\n", {}, r"a\.tsv, line 2: the series is empty"),
    ("a.tsv", "1\t0.5\tnan\t1\n", {}, r"a\.tsv, line 1: step 1 is nan, expected a number"),
    ("a.csv", ",1,2\n", {}, r"a\.csv, line 1: there is no class"),
    ("a.csv", "", {}, r"a\.csv: there is nothing in it"),
    ("a.csv", "1,2\n1,3\n", {}, "all examples have the label '1'"),
    ("a.csv", "1,2\n2,3\n", {}, "2 examples leave none for"),
    ("a.csv", "1,2\n2,3\n" * 9, {"classes": ["1", "3"]}, r"line \d+: the label '2' is none of"),
    ("a.csv", "1,2\n2,3\n" * 9, {"classes": ["1", "2", "3"]}, "class '3' has no example"),
    ("a.npz", "no archive", {}, r"a\.npz: "),
    ("a.mat", "x", {}, r"a\.mat: expected \.tsv"),
    ("a.csv", "1,2\n", {"scale": "range"}, "data.scale: expected standard or none"),
    ("a.csv", "1,2\n", {"fold": 10}, "data.fold must lie in 0 … 9"),
]


@pytest.mark.parametrize(("name", "content", "settings", "message"), BROKEN)
def test_a_mistake_is_said_with_its_place(
    name: str, content: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        ready(tmp_path / name, **settings)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 3))}, "there is no array 'y'; it has x"),
        ({"a": np.zeros((4, 3))}, "there is no array 'x_train'; it has a"),
        ({"x": np.zeros(4), "y": np.arange(4)}, r"expected numbers \(N, T\) or"),
        ({"x": np.zeros((4, 3)), "y": np.arange(3)}, "a class for each of 4 series"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(4)}, "whole numbers or words, got .* float64"),
        ({"x": np.full((4, 3), np.nan), "y": np.arange(4)}, "x, series 0: the series is empty"),
    ],
)
def test_wrong_arrays_are_named(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        ready(tmp_path / "a.npz")


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_pooled_model_of_both_directions_trains_on_series(pooling: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.tsv", waves(30))
    run = tmp_path / "run"
    assert main([
        "train", "data=series_classification", f"data.path={path}", "model=prediction_real",
        "model/layers=bidirectional", f"model.pooling={pooling}", "task=classification",
        "model.layers.hidden_size=3", "trainer.max_steps=2", "trainer.val_check_interval=1",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none",
        "num_threads=1", f"run_dir={run}",
    ]) == 0  # fmt: skip
    assert {"test/accuracy", "test/macro_f1"} <= set(record(run)["metrics"])
    assert (run / "confusion.png").exists()
