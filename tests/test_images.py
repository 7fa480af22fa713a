"""Images as sequences: files of every kind, what is wrong with them, orders and splits."""

from __future__ import annotations

import gzip
import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from seqmodels.cli import main
from seqmodels.data.base import IGNORE
from seqmodels.data.images import PixelSequences, read_hub, read_idx, read_images


def pictures(count: int = 30, size: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, size, size), np.uint8), np.arange(count) % 3


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder: Path, *, zipped: bool) -> Path:
    folder.mkdir()
    for name, seed in (("train", 0), ("t10k", 1)):
        pixels, labels = pictures(seed=seed)
        for kind, dims, array in (("images", 3, pixels), ("labels", 1, labels.astype(np.uint8))):
            content = gzip.compress(idx(array)) if zipped else idx(array)
            path = folder / f"{name}-{kind}-idx{dims}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(content)
    return folder


def png_folder(folder: Path, *, colour: bool = False) -> Path:
    pixels, labels = pictures()
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        place = folder / "abc"[label]
        place.mkdir(parents=True, exist_ok=True)
        shown = np.stack([picture] * 3, 2) if colour else picture
        Image.fromarray(shown).save(place / f"{number:03}.png")
    return folder


def ready(path: Any = None, **settings: Any) -> PixelSequences:
    data = PixelSequences(None if path is None else str(path), **settings)
    data.setup()
    return data


def test_every_kind_of_file_gives_the_same_images(tmp_path: Path) -> None:
    pixels, labels = pictures()
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=labels)
    np.savez(tmp_path / "b.npz", images=pixels[..., None].astype(np.float64), labels=labels)
    np.save(tmp_path / "c.npy", pixels)
    places = [
        idx_folder(tmp_path / "idx", zipped=False), idx_folder(tmp_path / "gz", zipped=True),
        *(tmp_path / name for name in ("a.npz", "b.npz", "c.npy")),
    ]  # fmt: skip
    for place in places:
        train = read_images(str(place))["train"]
        np.testing.assert_array_equal(train.pixels[..., 0], pixels)
        if place.suffix != ".npy":
            assert train.labels is not None
            np.testing.assert_array_equal(train.labels, labels)
    read = read_images(str(png_folder(tmp_path / "png")))["train"]
    order = np.lexsort((np.arange(30), labels))  # class by class
    np.testing.assert_array_equal(read.pixels[..., 0], pixels[order])
    coloured = read_images(str(png_folder(tmp_path / "colour", colour=True)))["train"]
    assert coloured.pixels.shape == (30, 5, 5, 3)


def test_the_digits_come_with_it() -> None:
    data = ready()
    assert data.sizes() == {"num_inputs": 1, "num_outputs": 10}
    batch = data.draw(0)
    assert batch.inputs.shape == (50, 64, 1)
    assert batch.inputs.min() >= 0 and batch.inputs.max() == 1
    assert (batch.targets[:, :-1] == IGNORE).all() and (batch.targets[:, -1] >= 0).all()
    assert ready(order="rows").draw(0).inputs.shape == (50, 8, 8)


def test_splits_do_not_meet_and_orders_hold_the_same_pixels(tmp_path: Path) -> None:
    path = idx_folder(tmp_path / "idx", zipped=False)
    plain, permuted = ready(path, valid=0.2), ready(path, valid=0.2, order="permuted")
    assert plain.describe()["images"] == {"train": 24, "valid": 6, "test": 30}
    seen = {
        split: {row.numpy().tobytes() for batch in loader for row in batch.inputs}
        for split, loader in (
            ("train", plain.train_loader()),
            ("valid", plain.valid_loader()),
            ("test", plain.test_loader()),
        )
    }
    assert [len(seen[split]) for split in ("train", "valid", "test")] == [24, 6, 30]
    assert not seen["train"] & seen["valid"] and not seen["train"] & seen["test"]
    a, b = plain.draw(0).inputs, permuted.draw(0).inputs
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a.sort(1).values, b.sort(1).values)
    np.testing.assert_array_equal(b[:, np.argsort(permuted._permutation)], a)


def test_an_epoch_is_every_image_once_in_a_new_order() -> None:
    data = ready(batch_size=100, limit=250)
    loader = data.train_loader()
    assert len(loader) == 3
    first, second = ([b.inputs for b in loader] for _ in range(2))
    assert [len(b) for b in first] == [100, 100, 50]
    rows = [{r.numpy().tobytes() for b in epoch for r in b} for epoch in (first, second)]
    assert rows[0] == rows[1] and not np.array_equal(first[0], second[0])


def test_what_is_kept_apart_does_not_depend_on_the_seed() -> None:
    first, second = ready(seed=0), ready(seed=1)
    assert not torch.equal(first.draw(0).inputs, second.draw(0).inputs)
    for one, other in zip(first.test_loader(), second.test_loader(), strict=True):
        assert torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets)
    assert first.describe()["digest"] != second.describe()["digest"]
    assert first.describe()["digest"] == ready().describe()["digest"]


def test_the_baseline_is_the_entropy_of_the_classes(tmp_path: Path) -> None:
    pixels, _ = pictures(90)
    labels = np.where(np.arange(90) % 3 == 0, 1, 0)
    np.savez(tmp_path / "a.npz", x_train=pixels, y_train=labels, x_valid=pixels, y_valid=labels,
             x_test=pixels, y_test=labels)  # fmt: skip
    p = 31 / 92  # each class is counted once more
    (value,) = ready(tmp_path / "a.npz").baselines().values()
    assert value == pytest.approx(-(60 * math.log(1 - p) + 30 * math.log(p)) / 90)


def test_black_and_white_is_not_nearly_black(tmp_path: Path) -> None:
    pixels, labels = pictures()
    np.savez(tmp_path / "a.npz", images=pixels > 127, labels=labels)
    assert set(ready(tmp_path / "a.npz").draw(0).inputs.unique().tolist()) == {0.0, 1.0}


def test_folders_of_train_and_test(tmp_path: Path) -> None:
    for split in ("train", "test"):
        png_folder(tmp_path / "set" / split, colour=True)
    data = ready(tmp_path / "set")
    assert data.describe()["images"] == {"train": 27, "valid": 3, "test": 30}
    assert data.sizes() == {"num_inputs": 3, "num_outputs": 3}
    (tmp_path / "set" / "test" / "c").rename(tmp_path / "set" / "test" / "d")
    with pytest.raises(ValueError, match=r"test: expected the same folders .* c, d"):
        ready(tmp_path / "set")


def hub_set(folder: Path, **columns: Any) -> Path:
    import datasets

    folder.mkdir()
    pixels, labels = pictures()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"]),
         "other": datasets.Value("int64")}
    )  # fmt: skip
    plain = {
        "image": [Image.fromarray(p) for p in pixels], "label": labels, "other": 2 - labels,
    }  # fmt: skip
    table = datasets.Dataset.from_dict({**plain, **columns}, features=features)
    table.to_parquet(str(folder / "train.parquet"))
    table.select(range(12)).to_parquet(str(folder / "test.parquet"))
    return folder


def test_sets_of_the_hub(tmp_path: Path) -> None:
    pixels, labels = pictures()
    settings: dict[str, Any] = {
        "name": str(hub_set(tmp_path / "set")),
        "cache_dir": f"{tmp_path}/c",
    }
    read = read_hub(**settings)
    np.testing.assert_array_equal(read["train"].pixels[..., 0], pixels)
    np.testing.assert_array_equal(read["train"].labels, labels)
    assert ready(**settings).describe()["images"] == {"train": 27, "valid": 3, "test": 12}
    chosen = read_hub(**settings, image_column="image", label_column="other")
    np.testing.assert_array_equal(chosen["test"].labels, 2 - labels[:12])
    for wrong, said in (
        ({"label_column": "colour"}, "no label column 'colour'; it has image, label, other"),
        ({"image_column": "other"}, "no image column 'other'"),
    ):
        with pytest.raises(ValueError, match=said):
            read_hub(**settings, **wrong)


def test_a_set_of_the_hub_with_gaps_or_sizes(tmp_path: Path) -> None:
    pictured = [Image.fromarray(p) for p in pictures()[0]]
    for name, wrong, said in (
        ("gap", None, "row 3: there is no image"),
        ("size", pictured[3].resize((4, 7)), "row 3: expected 5 × 5 pixels, grey .* 7 × 4"),
    ):
        broken = [*pictured[:3], wrong, *pictured[4:]]
        folder = hub_set(tmp_path / name, image=broken)
        with pytest.raises(ValueError, match=said):
            read_hub(str(folder), cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"order": "spiral"}, "data.order"),
        ({"valid": 0.0}, "data.valid, data.test"),
        ({"valid": 0.5, "test": 0.5}, "data.valid, data.test"),
        ({"batch_size": 0}, "data.batch_size must be >= 1"),
        ({"limit": 0}, "data.limit must be >= 1"),
        ({"seed": -1}, "data.seed must be >= 0"),
        ({"path": "x", "name": "y"}, "give one of them"),
        ({"label_column": "y"}, "data.label_column is of a set of the hub"),
    ],
)
def test_bad_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PixelSequences(**settings)


def test_broken_idx_files_are_named(tmp_path: Path) -> None:
    pixels, _ = pictures()
    whole = gzip.compress(idx(pixels))
    broken = {
        "short": (idx(pixels)[:-7], "750 bytes, and 743 are there"),
        "header": (b"\0\0\x08\x03\0\0", "header is cut off"),
        "text": (b"hello there", "not an idx file"),
        "empty": (b"", "not an idx file"),
        "floats": (b"\0\0\x0d\x01\0\0\0\0", "not an idx file of bytes"),
        "huge": (b"\0\0\x08\x04" + b"\xff" * 16, "and 0 are there"),
        "zip.gz": (b"\x1f\x8b nonsense", "not a whole gzip archive"),
        "cut.gz": (whole[:-20], "not a whole gzip archive"),
    }
    for name, (content, said) in broken.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\b.*{said}"):
            read_idx(file)


def test_broken_folders_of_idx_files(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "idx", zipped=True)
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(np.zeros(29, np.uint8)))  # gz by its name only
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte\.gz: expected 30 whole numbers"):
        read_images(str(folder))
    labels.unlink()
    with pytest.raises(ValueError, match="the train images have no labels"):
        ready(folder)
    images = folder / "train-images-idx3-ubyte.gz"
    (folder / "a-train-images-idx3-ubyte").write_bytes(images.read_bytes())
    with pytest.raises(ValueError, match="not clear which are the train images: a-train"):
        read_images(str(folder))
    (folder / "train-images-idx3-ubyte").write_bytes(gzip.decompress(images.read_bytes()))
    (folder / "a-train-images-idx3-ubyte").unlink()
    assert len(read_images(str(folder))["train"].pixels) == 30  # packed and unpacked: either
    for file in folder.glob("train*"):
        file.unlink()
    with pytest.raises(ValueError, match="expected train-images-idx3-ubyte"):
        read_images(str(folder))


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    folder = png_folder(tmp_path / "png")
    bad = folder / "a" / "000.png"
    for content in (b"\x89PNG broken", bad.read_bytes()[:40]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"000\.png: not an image"):
            read_images(str(folder))
    Image.fromarray(pictures()[0][0][:3]).save(bad)
    with pytest.raises(ValueError, match="expected 3 × 5 pixels"):
        read_images(str(folder))
    Image.fromarray(np.full((5, 5), 60000, np.uint16)).save(bad)
    with pytest.raises(ValueError, match=r"000\.png: expected 8 bits a pixel"):
        read_images(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in it"):
        read_images(str(tmp_path / "empty"))


def test_broken_arrays_are_named(tmp_path: Path) -> None:
    pixels, labels = pictures()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_images(str(tmp_path / "nowhere"))
    for name, array, said in (
        ("half", pixels / 255, "whole numbers from 0 to 255"),
        ("nan", np.where(pixels == 0, np.nan, pixels), "whole numbers from 0 to 255"),
        ("signed", pixels.astype(np.int16) - 1, "whole numbers from 0 to 255"),
        ("words", pixels.astype(str), "expected numbers"),
        ("objects", pixels.astype(object), "not arrays of numbers"),
        ("flat", pixels.reshape(30, 25), r"expected images \(N, H, W\)"),
        ("none", pixels[:0], r"expected images \(N, H, W\)"),
    ):
        np.save(tmp_path / f"{name}.npy", array, allow_pickle=True)
        with pytest.raises(ValueError, match=rf"{name}\.npy.*{said}"):
            read_images(str(tmp_path / f"{name}.npy"))
    for name, content in (("bad.npz", b"PK nonsense"), ("bad.npy", b""), ("bad.txt", b"1 2 3")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(name)):
            read_images(str(tmp_path / name))
    for arrays, said in (
        ({"images": pixels}, "no labels"),
        ({"pictures": pixels}, "expected arrays x_train"),
        ({"images": pixels, "labels": labels[:9]}, "expected 30 whole numbers"),
        ({"images": pixels, "labels": labels - 1}, "expected classes from 0"),
        ({"images": pixels, "labels": labels.astype(np.uint64) + 2**63}, "expected classes from 0"),
        ({"images": pixels, "labels": labels / 2}, "expected 30 whole numbers"),
        ({"images": pixels, "labels": labels * 0}, "all training images have the same class"),
        ({"images": pixels[:2], "labels": labels[:2]}, "too few for training"),
        (
            {"x_train": pixels, "y_train": labels, "x_test": pixels[:, :4], "y_test": labels},
            "expected one size",
        ),
    ):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=said):
            ready(tmp_path / "a.npz")


def test_a_broken_file_is_a_message_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = idx_folder(tmp_path / "idx", zipped=False)
    (folder / "t10k-images-idx3-ubyte").write_bytes(b"no")
    status = main(["train", "experiment=smnist", f"data.path={folder}", f"run_dir={tmp_path}/run"])
    assert status == 2
    said = capsys.readouterr().err
    assert "t10k-images-idx3-ubyte: not an idx file" in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_digits_are_told_apart_row_by_row(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert main([
        "train", "model=prediction_real", "data=images", "task=classification", "data.order=rows",
        "model/cell=gru", "model.layers.hidden_size=32", "trainer.max_epochs=6",
        "logger=none", "callbacks=none", "num_threads=1", "trainer.enable_progress_bar=false",
        "optimizer.lr=0.01", f"run_dir={run_dir}",
    ]) == 0  # fmt: skip
    metrics = json.loads((run_dir / "run.json").read_text())["metrics"]
    assert metrics["test/accuracy"] > 0.8
