"""Models of images from the command line: training, likelihoods, pictures, resuming, refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pixel_cases import KINDS, each_kind, pixel_model
from seqmodels.cli import main
from seqmodels.training.pixels import refuse_leaks
from tiny import record, rows

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny_images(run_dir: Path, *overrides: str) -> list[str]:
    return [
        "train",
        "experiment=pixelrnn_digits",
        "data.limit=60",
        "data.valid=0.02",
        "data.test=0.02",
        "model.layers.hidden_size=4",
        "model.layers.num_layers=2",
        "trainer.max_steps=4",
        "trainer.val_check_interval=2",
        "trainer.log_every_n_steps=2",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "callbacks.images.num_images=4",
        "~callbacks.curves",
        "logger=none",
        f"run_dir={run_dir}",
        *overrides,
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "digits"
    assert main(tiny_images(run_dir, "model.conditional=true", "logger=tensorboard")) == 0
    return run_dir


def test_a_run_reports_exact_likelihoods_and_simple_models(finished: Path) -> None:
    told = record(finished)
    metrics = told["metrics"]
    assert metrics["test/bits_per_dim"] == pytest.approx(metrics["test/loss"] / math.log(2))
    assert metrics["test/nats_per_image"] == pytest.approx(metrics["test/loss"] * 64)
    assert set(told["baselines"]) == {
        "per-pixel histogram", "first-order Markov", "logistic regression on earlier pixels"
    }  # fmt: skip
    assert told["data"]["sizes"]["num_classes"] == 10
    for name in ("samples", "completions"):
        with Image.open(finished / f"{name}.png") as picture:
            assert picture.size[0] > 100


def test_tensorboard_shows_images(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    assert {"samples", "completions"} <= set(events.Tags()["images"])
    assert [e.step for e in events.Images("samples")] == [2, 4]


def test_images_are_drawn_and_completed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", f"run={finished}", "num_images=5", "label=3"]) == 0
    assert f"5 images: {finished / 'sampled.png'}" in capsys.readouterr().out
    assert main(["complete", f"run={finished}", "num_images=3", "completions=2"]) == 0
    said = capsys.readouterr().out
    assert "3 images, top_half kept" in said and "nats per image (16 levels): " in said
    more = ["num_images=30", "completions=1", "data.eval_batch_size=8"]  # several batches of them
    assert main(["complete", f"run={finished}", *more, f"output={tmp_path / 'many.png'}"]) == 0
    assert "30 images" in capsys.readouterr().out
    with Image.open(finished / "completed.png") as picture:
        width, height = picture.size
    assert abs(height / width - 4 / 3) < 0.02  # as they are, what is given, two completions


def test_other_images_are_completed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, mask = tmp_path / "two.npz", tmp_path / "mask.png"
    pixels = np.full((2, 8, 8), 7, np.uint8)
    pixels[0, 0, 0] = 15
    np.savez(path, images=pixels, labels=np.array([1, 2]))
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(mask)
    words = ["complete", f"run={finished}", f"data.path={path}", "completions=1"]
    assert main(words) == 0  # they are the run's levels
    assert "taken together" not in capsys.readouterr().out
    np.savez(path, images=pixels // 15, labels=np.array([1, 2]))
    output = tmp_path / "out.png"
    assert main([*words, f"keep={mask}", f"output={output}"]) == 0
    with Image.open(output) as opened:
        picture = np.asarray(opened)
    side = picture.shape[0] // 3
    assert np.array_equal(picture[1 : side - 1], picture[2 * side + 1 : 3 * side - 1])
    Image.fromarray(np.full((8, 7), 255, np.uint8)).save(mask)
    assert main([*words, f"keep={mask}"]) == 2
    assert "expected a mask of 8 × 8 pixels, got 8 × 7" in capsys.readouterr().err
    np.savez(path, images=pixels[:, :6] // 15)
    assert main(words) == 2
    assert "expected images of 8 × 8 pixels and 1 channel(s)" in capsys.readouterr().err


def test_pictures_of_more_levels_than_the_runs_are_completed(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    levels = np.random.default_rng(0).integers(0, 16, (3, 8, 8))
    folder, output = tmp_path / "png", tmp_path / "out.png"
    (folder / "4").mkdir(parents=True)
    for n, image in enumerate(levels):
        Image.fromarray((image * 16 + 9).astype(np.uint8)).save(folder / "4" / f"{n}.png")
    words = ["complete", f"run={finished}", f"data.path={folder}", f"output={output}"]
    assert main(words) == 0
    assert "16 levels are taken together to one of the run's 16" in capsys.readouterr().out
    with Image.open(output) as opened:
        shown = np.asarray(opened)[4:57:7, 4:170, 0]  # the middles of a row of pixels each
    columns = np.concatenate([np.arange(8) * 7 + 57 * n for n in range(3)])
    expected = np.concatenate(list(levels), 1) * 17
    assert np.array_equal(shown[:8, columns], expected)
    for file in (folder / "4").iterdir():
        file.rename(folder / file.name)
    (folder / "4").rmdir()
    assert main(words) == 2
    assert "the images have no classes" in capsys.readouterr().err


def test_commands_that_do_not_fit_say_so(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"run={finished}"]) == 2
    assert "use format=safetensors" in capsys.readouterr().err
    assert main(["eval", f"run={finished}"]) == 0
    said = capsys.readouterr().out
    assert "16 levels" in said and "test/bits_per_dim" in said


def test_layers_of_several_kinds_are_configured(tmp_path: Path) -> None:
    words = [w for w in tiny_images(tmp_path / "run") if "num_layers" not in w]
    more = ["model/layers=mixed_pixel_layers", "model.layers.layer.1.kernel_size=5"]
    assert main([*words, *more]) == 0
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    shapes = {n: tuple(w.shape) for n, w in content["state_dict"].items()}
    kinds = ["0.across.weight", "1.lstm.", "2.left.", "3.conv.weight"]
    assert all(any(f"stack.layers.{k}" in name for name in shapes) for k in kinds)
    assert main(["sample", f"run={tmp_path / 'run'}", "num_images=2"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "mixed"])
def test_a_resumed_run_is_the_uninterrupted_one(kind: str, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch, with images drawn at every validation."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = [f"model/layers={kind}", "data.binarisation=dynamic", "model.conditional=true"]
    more += ["scheduler=none", "callbacks.checkpoint.every_n_steps=1"]
    assert main(tiny_images(whole, *more, "trainer.max_steps=8")) == 0
    assert main(tiny_images(parts, *more, "trainer.max_steps=3")) == 0
    assert main(tiny_images(parts, *more, "trainer.max_steps=8", "resume=true")) == 0
    assert rows(whole)[-1] == rows(parts)[-1]
    ends = [
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (whole, parts)
    ]
    for name, weight in ends[0]["state_dict"].items():
        assert torch.equal(weight, ends[1]["state_dict"][name]), name
    assert (whole / "samples.png").read_bytes() == (parts / "samples.png").read_bytes()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model/layers=plain"], "takes layers over images"),
        (["data.levels=10"], "16 levels, which cannot be taken together to 10"),
        (["model.likelihood=bernoulli"], "likelihood=bernoulli takes images of 2 levels"),
        (["model=sequence"], "images (data=pixels) with model=pixelrnn"),
        (["model.layers.hidden_size=1", "data.built_in=photographs"], "cannot be divided among 3"),
    ],
)
def test_mistakes_are_told_before_the_run(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        w
        for w in tiny_images(tmp_path / "run")
        if "plain" not in overrides[0] or "model.l" not in w
    ]
    if "model=sequence" in overrides:
        words = [w for w in words if not w.startswith("model.")]
        overrides = [*overrides, "model/layers=plain"]
    assert main([*words, *overrides]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_settings_of_the_other_kind_of_model_are_refused(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", f"run={finished}", "length=9"]) == 2
    assert "length is for models of text" in capsys.readouterr().err
    assert main(["sample", f"run={finished}", "label=10"]) == 2
    assert "expected classes 0 … 9" in capsys.readouterr().err
    assert main(["complete", f"run={finished}", "keep=upper"]) == 2
    assert "keep: expected one of top_half" in capsys.readouterr().err
    assert main(["complete", f"run={finished}", "completions=0"]) == 2


@each_kind
def test_models_that_let_the_future_through_are_refused(kind: str) -> None:
    model = pixel_model(kind, (1, 4, 5), 3).float()
    image = torch.randint(3, (1, 1, 4, 5), generator=torch.Generator().manual_seed(0))
    refuse_leaks(model, image, torch.zeros(1, dtype=torch.int64))
    layer: Any = model.stack.layers[0]

    def leaky(maps: Any) -> Any:
        found = type(layer).forward(layer, maps)
        return found._replace(x=found.x + found.x.roll(-1, 2))

    layer.forward = leaky
    with pytest.raises(ValueError, match="a layer lets them through"):
        refuse_leaks(model, image, torch.zeros(1, dtype=torch.int64))
    assert isinstance(model, nn.Module)
