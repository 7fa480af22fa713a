"""`seqmodels analyse`: pictures and numbers of a finished run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from seqmodels.analysis.gradients import norms_by_lag
from seqmodels.analysis.piece import cut_piece
from seqmodels.cli import main
from seqmodels.commands import building


def analysed(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "analysis" / "analysis.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("analyse")
    run_dir = folder / "run"
    options = ("model/cell=lstm", "model.layers.num_layers=2", "logger=tensorboard")
    assert tiny.train(tiny.write_text(folder), run_dir, *options) == 0
    return run_dir


def test_pictures_and_numbers(trained: Path, capsys: Any) -> None:
    before = len(list((trained / "tensorboard").iterdir()))
    arguments = ["analyse", f"run={trained}", "sequences=2", "steps=12", "lags=[1,5]", "points=3"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    names = sorted(path.stem for path in (trained / "analysis").glob("*.png"))
    assert names == [
        "clipping", "gates", "gradient_by_lag", "gradient_over_training", "jacobian_spectra",
        "states",
    ]  # fmt: skip
    for name in names:
        assert f"{name}.png" in out
        pixels = np.asarray(Image.open(trained / "analysis" / f"{name}.png").convert("L"))
        assert pixels.shape[0] > 200 and pixels.std() > 5
    found = analysed(trained)
    assert (found["sequences"], found["steps"], found["loss_at_step"]) == (2, 12, 11)
    _, data, model, _ = building.load_run(trained, "best", lambda c: c)
    loader = data.valid_loader()
    assert loader is not None
    piece = cut_piece(next(iter(loader)), sequences=2, steps=12)

    def term(outputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs, piece.targets, reduction="sum")

    norms = norms_by_lag(model.eval(), piece.inputs, term, step=11)
    for name, layer in found["layers"].items():
        torch.testing.assert_close(
            torch.tensor(layer["norm_by_lag"]).double(), norms[name], rtol=1e-3, atol=1e-9
        )
        assert layer["spectrum"]["lags"] == [1, 5]
        assert len(layer["spectrum"]["eigenvalues"]) == 3 * 16
    assert len(list((trained / "tensorboard").iterdir())) == before + 1
    (trained / "analysis" / "old.png").write_bytes(b"")
    assert main([*arguments, "spectra=false"]) == 0
    assert "(replaced)" in capsys.readouterr().out
    assert not (trained / "analysis" / "jacobian_spectra.png").exists()
    assert analysed(trained)["layers"]["backbone.layers.0"]["spectrum"] is None


def test_a_bidirectional_run_of_answers(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    wanted = [
        *("model=prediction", "data=temporal_order", "task=classification", "data.length=12"),
        *("data.batches=4", "data.batch_size=4", "data.valid_sequences=8", "model/cell=rnn"),
        *("data.test_sequences=4", "model/layers=bidirectional", "model.layers.hidden_size=5"),
        *("trainer.max_steps=2", "logger=none", "trainer.enable_progress_bar=false"),
        *("~callbacks.curves", "~callbacks.analysis", f"run_dir={run_dir}"),
    ]
    assert main(["train", *wanted]) == 0
    assert main(["analyse", f"run={run_dir}", "checkpoint=last", "lags=[1,3]"]) == 0
    names = {path.stem for path in (run_dir / "analysis").glob("*.png")}
    assert "gradient_over_training" not in names and "gradient_by_lag" in names
    assert not (run_dir / "tensorboard").exists()
    layers = analysed(run_dir)["layers"].values()
    assert [bool(layer["norm_by_lag"]) for layer in layers] == [True, False]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run=nowhere"], "nowhere"),
        ([], "run"),
        (["run={run}", "split=valdi"], "valid"),
        (["run={run}", "sequences=0"], "sequences"),
        (["run={run}", "lags=[0]"], "lags must be a list of positive integers"),
        (["run={run}", "checkpoint=newest"], "best"),
        (["run={run}", "stepz=3"], "steps"),
    ],
)
def test_mistakes_are_said_in_a_line(
    trained: Path, capsys: Any, words: list[str], said: str
) -> None:
    assert main(["analyse", *(word.format(run=trained) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
