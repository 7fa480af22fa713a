"""Piano rolls: every way they come, the loss by hand, simple models, and bad files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

import tiny
from seqmodels.cli import main
from seqmodels.data.piano_rolls import PianoRolls, read_piano_rolls

SPLITS = ("train", "valid", "test")


def pieces(seed: int = 0, count: int = 5) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(seed)
    return {
        split: [(random.random((4 + 3 * i, 88)) < 0.05).astype(float) for i in range(count)]
        for split in SPLITS
    }


def write(path: Path, content: dict[str, list[np.ndarray]]) -> Path:
    if path.suffix == ".mat":
        cells = {}
        for split, own in content.items():
            array = np.empty((1, len(own)), dtype=object)
            array[0, :] = own
            cells[f"{split}data"] = array
        savemat(path, cells)
    elif path.suffix == ".npz":
        named = {f"{s}_{i}": piece for s, own in content.items() for i, piece in enumerate(own)}
        np.savez(path, allow_pickle=False, **named)
    else:
        plain = {
            split: [[[int(n) + 21 for n in np.flatnonzero(step)] for step in p] for p in own]
            for split, own in content.items()
        }
        path.write_text(json.dumps(plain), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".mat", ".npz", ".json"])
def test_every_kind_of_file_gives_the_same_pieces(tmp_path: Path, ending: str) -> None:
    content = pieces(count=12)
    found = read_piano_rolls(write(tmp_path / f"a{ending}", content))
    for split in SPLITS:
        for ours, theirs in zip(found[split], content[split], strict=True):  # type: ignore[index]
            np.testing.assert_array_equal(ours, theirs)


def test_each_step_is_asked_for_the_next(tmp_path: Path) -> None:
    content = pieces()
    data = PianoRolls(str(write(tmp_path / "a.npz", content)), eval_batch_size=2)
    data.setup()
    loader = data.valid_loader()
    assert loader is not None
    seen = 0
    for batch in loader:
        assert batch.lengths is not None
        for row, length in enumerate(batch.lengths.tolist()):
            piece = next(p for p in content["valid"] if len(p) == length + 1)
            np.testing.assert_array_equal(batch.inputs[row, :length], piece[:-1])
            np.testing.assert_array_equal(batch.targets[row, :length], piece[1:])
            assert batch.targets[row, length:].isnan().all()
            seen += 1
    assert seen == 5


def test_training_pieces_may_be_cut_and_lose_no_prediction(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.npz", pieces()))
    whole, cut = PianoRolls(path), PianoRolls(path, max_steps=3)
    for data in (whole, cut):
        data.setup()

    def predicted(data: PianoRolls) -> int:
        return sum(int((~b.targets.isnan()).sum()) for b in data.train_loader())

    assert predicted(whole) == predicted(cut)
    assert max(b.inputs.shape[1] for b in cut.train_loader()) == 3


def test_simple_models_know_what_they_can() -> None:
    data = PianoRolls("made")
    held = np.zeros((400, 88), np.float32)
    for start in range(0, 400, 20):  # a note is held for twenty steps, then another
        held[start : start + 20, (start // 20) % 7] = 1.0
    data._pieces = {"train": [held], "valid": [held]}
    found = data.baselines()
    # Each of 7 notes sounds 1/7 of the time; others never, at half a count in 400.
    alone = 7 * (-(1 / 7) * np.log(1 / 7) - (6 / 7) * np.log(6 / 7))
    assert found["each note's frequency"] == pytest.approx(alone, rel=0.05)
    assert found["each note after itself"] < 0.35 * found["each note's frequency"]


BROKEN: list[tuple[str, Any, str]] = [
    ("a.mid", b"", "expected .mat, .npz, .json"),
    ("a.mat", b"nonsense" * 40, r"a\.mat: not a MATLAB file"),
    ("a.npz", b"PK nonsense", r"a\.npz: not arrays"),
    ("a.json", b"[", "not JSON"),
    ("a.json", b"[]", "expected an object with train"),
    ("a.json", b'{"train": [[[60], [61]]]}', "expected pieces for training and for validation"),
    ("a.json", b'{"train": [[[60], [130]]], "test": [[[60], [61]]]}', "train 0, step 1: .*130"),
    ("a.json", b'{"train": [[[60]]], "test": [[[60], [61]]]}', r"train 0: 1 step"),
    ("a.json", b'{"train": [3], "test": [[[60], [61]]]}', "train 0: expected a list of steps"),
    ("a.json", b'{"train": 5, "test": [[[60], [61]]]}', "train: expected a list of pieces, got 5"),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_piano_rolls(tmp_path / name)


def test_broken_pieces_are_named(tmp_path: Path) -> None:
    for wrong, said in (
        (np.zeros((5, 30)), "test_2.*expected 88 notes as in the first, got 30"),
        (np.full((5, 88), 0.5), "test_2.*expected zeros and ones"),
        (np.zeros(88), r"test_2.*expected numbers \(T, N\)"),
    ):
        content = pieces()
        content["test"][2] = wrong
        with pytest.raises(ValueError, match=said):
            read_piano_rolls(write(tmp_path / "a.npz", content))
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_piano_rolls(tmp_path / "none.mat")


def chorales(path: Path, run: Path, *overrides: str) -> int:
    return main([
        "train", "experiment=jsb_chorales", f"data.path={path}", "data.batch_size=3",
        "model.layers.hidden_size=4", "trainer.max_epochs=null", "trainer.max_steps=2",
        "trainer.val_check_interval=1", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1",
        "trainer.enable_progress_bar=false", f"run_dir={run}", *overrides,
    ])  # fmt: skip


def test_chorales_run_and_the_loss_is_that_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = pieces()
    path, run = write(tmp_path / "a.mat", content), tmp_path / "run"
    assert chorales(path, run, "model.head.dropout=0.0") == 0
    assert "each note after itself" in capsys.readouterr().out
    record = tiny.record(run)

    from seqmodels.commands.building import load_run

    _, _, model, _ = load_run(run, "best", lambda cfg: cfg)
    model.eval()
    total, steps = 0.0, 0
    with torch.no_grad():
        for piece in content["test"]:
            x = torch.from_numpy(piece).float()[None]
            p = torch.sigmoid(model(x[:, :-1])[0].double())
            true = x[:, 1:].double()
            total -= float((true * p.log() + (1 - true) * (1 - p).log()).sum())
            steps += len(piece) - 1
    assert record["metrics"]["test/loss"] == pytest.approx(total / steps, rel=1e-5)
    assert 0 <= record["metrics"]["test/frame_accuracy"] <= 1


def test_both_directions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.npz", pieces())
    assert chorales(path, tmp_path / "run", "model/layers=bidirectional") == 2
    assert "Bidirectional" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
