"""Images as data: levels, binarisation, splits, simple models of them, masks and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmodels.analysis.image_grid import UNKNOWN, grid
from seqmodels.data.base import IGNORE
from seqmodels.data.images import read_picture
from seqmodels.data.pixels import PixelImages
from seqmodels.data.pixels.baselines import (
    first_order_markov,
    logistic_regression,
    per_pixel_histogram,
)
from seqmodels.models.pixel_masks import KEEPS, keep_mask


def made(**settings: Any) -> PixelImages:
    data = PixelImages(**settings)
    data.setup()
    return data


def stored(folder: Path, pixels: np.ndarray, labels: np.ndarray | None = None) -> str:
    path = folder / "images.npz"
    more = {} if labels is None else {"labels": labels}
    np.savez(path, images=pixels, **more)
    return str(path)


def test_the_digits_come_in_sixteen_levels_with_their_classes() -> None:
    data = made(batch_size=7)
    assert data.sizes() == {
        "channels": 1, "height": 8, "width": 8, "levels": 16, "num_classes": 10
    }  # fmt: skip
    batch = next(iter(data.train_loader()))
    assert batch.inputs.shape == (7, 1, 8, 8) and batch.inputs.dtype == torch.int64
    assert int(batch.inputs.max()) == 15 and batch.targets.shape == (7,)
    assert len(data.train_loader()) == -(-1437 // 7)


def test_every_epoch_has_all_images_in_a_new_order() -> None:
    data = made(limit=40, batch_size=16)
    loader = data.train_loader()
    epochs = [torch.cat([batch.inputs for batch in loader]).flatten(1) for _ in range(2)]
    assert not torch.equal(*epochs)
    for a in epochs:
        assert len(torch.unique(torch.cat([a, epochs[0]]), dim=0)) == len(torch.unique(a, dim=0))


def test_levels_are_taken_together_a_whole_number_at_a_time(tmp_path: Path) -> None:
    pixels = np.arange(240, dtype=np.uint8).reshape(15, 4, 4)
    pixels[0, 0, 0] = 255
    path = stored(tmp_path, pixels)
    data = made(path=path, levels=8, valid=0.3)
    every = np.concatenate([data._images[s] for s in ("train", "valid", "test")])
    assert every.max() == 7
    assert sorted(every.ravel()) == sorted((pixels // 32).ravel())
    with pytest.raises(ValueError, match="256 levels, which cannot be taken together to 10"):
        made(path=path, levels=10)
    assert data.classes == 0
    assert next(iter(data.valid_loader())).targets.tolist() == [IGNORE] * 4


def test_the_binarisations_are_three_problems(tmp_path: Path) -> None:
    pixels = np.full((400, 5, 5), 64, np.uint8)
    path = stored(tmp_path, pixels, np.arange(400) % 3)
    threshold = made(path=path, binarisation="threshold")
    assert threshold.levels == 2 and threshold._images["train"].max() == 0
    static = made(path=path, binarisation="static", seed=0)
    assert abs(static._images["train"].mean() - 64 / 255) < 0.02
    again = made(path=path, binarisation="static", seed=1)
    assert np.array_equal(static._images["test"], again._images["test"])
    other = made(path=path, binarisation="static", binarisation_seed=1)
    assert not np.array_equal(static._images["test"], other._images["test"])
    dynamic = made(path=path, binarisation="dynamic", batch_size=400)
    loader = dynamic.train_loader()
    first, second = next(iter(loader)).inputs, next(iter(loader)).inputs
    assert float((first != second).double().mean()) > 0.2
    assert np.array_equal(dynamic._images["test"], static._images["test"])
    assert {d.describe()["binarisation"] for d in (threshold, static, dynamic)} == {
        "black and white at 127.5 of 255",
        "static binarisation, seed 0",
        "dynamic binarisation, seed 0",
    }


def test_photographs_are_cut_into_squares() -> None:
    data = made(built_in="photographs", patch=16, levels=4)
    assert data.shape == (3, 16, 16) and data.levels == 4
    assert sum(data.describe()["images"].values()) == 2 * 26 * 40


def test_blue_is_red_but_for_one_pixel_in_ten_and_green_is_the_digit() -> None:
    images = made(built_in="coloured_digits")._images["train"]
    red, green, blue = images.swapaxes(0, 1).reshape(3, -1).astype(np.int64)
    assert abs(red.mean() - 0.5) < 0.01 and abs((red != blue).mean() - 0.1) < 0.01
    assert abs(np.corrcoef(red, green)[0, 1]) < 0.01 and 0.1 < green.mean() < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"binarisation": "half"}, "data.binarisation: expected one of none, threshold"),
        ({"binarisation": "static", "levels": 4}, "leaves 2 levels, and data.levels is 4"),
        ({"valid": 0.7, "test": 0.4}, "shares in"),
        ({"batch_size": 0}, "data.batch_size must be >= 1"),
        ({"path": "a", "name": "b"}, "give one of them"),
        ({"path": "a", "image_column": "b"}, "data.image_column is of a set of the hub"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelImages(**settings)


def test_a_square_that_does_not_fit_the_photographs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.patch must lie in 2 … 427, got 500"):
        made(built_in="photographs", patch=500)


def test_a_broken_picture_among_good_ones_is_named(tmp_path: Path) -> None:
    from PIL import Image

    for n in range(3):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / f"{n}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"1\.png"):
        made(path=str(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="no images in it"):
        made(path=str(empty))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (np.zeros((4, 5), np.uint8), r"1\.png: expected 4 × 4 pixels, grey as .*0\.png, got 4 × 5"),
        (
            np.zeros((4, 4, 3), np.uint8),
            r"1\.png: expected 4 × 4 pixels, grey as .*, got .* colour",
        ),
        (np.zeros((4, 4), np.uint16), r"1\.png: expected 8 bits a pixel"),
    ],
    ids=["size", "mode", "depth"],
)
def test_a_picture_of_another_size_or_mode_is_named(
    tmp_path: Path, other: np.ndarray, said: str
) -> None:
    from PIL import Image

    for n, pixels in enumerate([np.zeros((4, 4), np.uint8), other, np.zeros((4, 4), np.uint8)]):
        Image.fromarray(pixels).save(tmp_path / f"{n}.png")
    with pytest.raises(ValueError, match=said):
        made(path=str(tmp_path))


def test_a_picture_broken_anywhere_is_named_or_read(tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "a.png"
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).save(file)
    whole = file.read_bytes()
    refused = 0
    for _ in range(300):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), 3):
            broken[place] = random.integers(256)
        file.write_bytes(broken[: random.integers(1, len(whole) + 1)])
        try:
            assert read_picture(file).dtype == np.uint8
        except ValueError as error:
            assert str(file) in str(error)
            refused += 1
    assert refused > 200


def test_sets_of_the_hub_need_no_classes(tmp_path: Path) -> None:
    import datasets
    from PIL import Image

    random = np.random.default_rng(0)
    pictures = [Image.fromarray(p) for p in random.integers(0, 256, (12, 4, 4, 3), np.uint8)]
    classes = datasets.ClassLabel(names=["a", "b"])
    features = {"image": datasets.Image(), "fine": classes, "coarse": classes}
    columns = {"image": pictures, "fine": [0, 1] * 6, "coarse": [1, 1] * 6}
    for names, chosen, expected in (
        (["image"], None, 0),
        (["image", "fine"], None, 2),
        (["image", "fine", "coarse"], None, 0),
        (["image", "fine", "coarse"], "fine", 2),
    ):
        folder = tmp_path / f"{len(names)}{chosen}"
        folder.mkdir()
        table = datasets.Dataset.from_dict(
            {n: columns[n] for n in names},
            features=datasets.Features({n: features[n] for n in names}),
        )
        table.to_parquet(str(folder / "train.parquet"))
        data = made(name=str(folder), label_column=chosen, cache_dir=str(tmp_path / "cache"))
        assert data.classes == expected and data.shape == (3, 4, 4) and data.levels == 256


def test_simple_models_find_what_they_can_know() -> None:
    random = np.random.default_rng(0)
    # Rows alternate from a random start: the pixel to the left tells all but the first column.
    start = random.integers(0, 2, (600, 1, 4, 1))
    images = ((start + np.arange(4)) % 2).astype(np.uint8)
    train, valid = images[:500], images[500:]
    assert per_pixel_histogram(train, valid, 2) == pytest.approx(np.log(2), abs=0.01)
    first = first_order_markov(train, valid, 2)
    regression = logistic_regression(train, valid, 2)
    assert regression is not None
    # The first column is a coin; a regression of its own finds the rest of the row.
    assert regression == pytest.approx(np.log(2) / 4, abs=0.03)
    assert regression < first < np.log(2)
    assert logistic_regression(np.zeros((3, 3, 32, 32), np.uint8), train, 256) is None


@pytest.mark.parametrize("name", KEEPS)
def test_masks_keep_half_or_the_middle(name: str) -> None:
    keep = keep_mask(name, 8, 6, seed=1)
    assert keep.shape == (8, 6)
    expected = {"centre": 16, "border": 32}.get(name, 24)
    assert int(keep.sum()) == expected
    if name == "top_half":
        assert bool(keep[:4].all())
    if name == "random":
        assert not torch.equal(keep, keep_mask(name, 8, 6, seed=2))


def test_a_mask_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="keep: expected one of top_half"):
        keep_mask("upper", 4, 4)


def test_a_picture_shows_levels_as_brightness_and_what_is_missing() -> None:
    images = torch.tensor([[[[0, 3], [1, 2]]]] * 3)
    missing = torch.zeros(3, 2, 2, dtype=torch.bool)
    missing[2, 1, 1] = True
    picture = grid(images, 4, columns=2, missing=missing)
    side = (picture.shape[1] - 3) // 2
    assert picture.shape == (2 * side + 3, 2 * side + 3, 3)
    assert picture[2, 2].tolist() == [0, 0, 0] and picture[2, side - 1].tolist() == [255] * 3
    assert picture[2 * side, side - 1].tolist() == list(UNKNOWN)
