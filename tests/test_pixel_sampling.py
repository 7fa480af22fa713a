"""Sampling pixel by pixel: the same images as by computing everything anew, and completion."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pixel_cases import each_kind, pixel_model
from seqmodels.models.pixel_masks import keep_mask
from seqmodels.models.pixel_sampling import _Pixels, draw, sample_images

pytestmark = pytest.mark.usefixtures("one_thread")
COLOUR: dict[str, Any] = {"num_classes": 3, "conditional": True}


@each_kind
@pytest.mark.parametrize(
    ("shape", "levels", "more"),
    [((1, 5, 6), 4, {}), ((3, 4, 3), 3, COLOUR), ((1, 3, 4), 2, {"likelihood": "bernoulli"})],
    ids=["grey", "colour", "bernoulli"],
)
def test_incremental_samples_are_the_naive_ones(
    kind: str, shape: tuple[int, int, int], levels: int, more: dict[str, Any]
) -> None:
    model = pixel_model(kind, shape, levels, **more)
    labels = torch.arange(5) % 3 if more.get("conditional") else None
    quick, slow = (
        sample_images(model, 5, seed=3, labels=labels, incremental=fast) for fast in (True, False)
    )
    assert torch.equal(quick, slow)
    assert len(torch.unique(quick.flatten(1), dim=0)) > 1


@each_kind
@pytest.mark.parametrize(
    "shape", [(1, 5, 4), (3, 3, 4), (1, 28, 28)], ids=["grey", "colour", "large"]
)
@torch.no_grad()
def test_their_logits_are_those_of_the_whole_image(kind: str, shape: tuple[int, int, int]) -> None:
    model = pixel_model(kind, shape, 4)
    images = torch.randint(4, (3, *shape), generator=torch.Generator().manual_seed(1))
    whole = model(images)
    steps = _Pixels(model, 3, None)
    for row in range(shape[1]):
        steps.row(model.values(images[:, :, row - 1 : row]) if row else None)
        for column in range(shape[2]):
            known = torch.zeros(3, shape[0], dtype=torch.int64)
            for channel in range(shape[0]):
                found = steps.pixel(column, known)[:, channel]
                expected = whole[:, channel, row, column]
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
                known[:, channel] = images[:, channel, row, column]
            steps.done(column, known)


@each_kind
@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3, 3)], ids=["grey", "colour"])
def test_completion_keeps_what_is_given_and_draws_the_rest(
    kind: str, shape: tuple[int, int, int]
) -> None:
    model = pixel_model(kind, shape, 4)
    _, height, width = shape
    given = torch.randint(4, (6, *shape), generator=torch.Generator().manual_seed(0))
    for name in ("top_half", "centre", "random"):
        keep = keep_mask(name, height, width)
        of_each = keep.expand(6, height, width).clone()
        of_each[0], of_each[1] = True, False
        for mask in (keep, of_each):
            quick, slow = (
                sample_images(
                    model, 6, given=given, keep=mask, incremental=fast, temperature=0.7, seed=2
                )
                for fast in (True, False)
            )
            assert torch.equal(quick, slow)
            kept = mask.expand(6, height, width).unsqueeze(1).expand_as(given)
            assert torch.equal(quick[kept], given[kept])
            assert not torch.equal(quick, given)
    assert torch.equal(quick[0], given[0])


@each_kind
def test_what_is_drawn_depends_on_what_was_given_before_it_only(kind: str) -> None:
    model = pixel_model(kind, (1, 4, 4), 4)
    given = torch.randint(4, (2, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    keep = keep_mask("bottom_half", 4, 4)
    found = sample_images(model, 2, given=given, keep=keep)
    other = sample_images(model, 2, given=(given + 1) % 4, keep=keep)
    assert torch.equal(found[:, :, :2], other[:, :, :2])
    assert torch.equal(found[:, :, :2], sample_images(model, 2)[:, :, :2])


def test_samples_are_those_of_the_model() -> None:
    model = pixel_model("row_lstm", (1, 2, 2), 2)
    found = sample_images(model, 4000, seed=1)
    numbers = (found.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
    counted = torch.bincount(numbers, minlength=16) / 4000
    images = torch.tensor([[n >> 3 & 1, n >> 2 & 1, n >> 1 & 1, n & 1] for n in range(16)])
    with torch.no_grad():
        exact = model.log_likelihood(images.view(-1, 1, 2, 2)).exp()
    assert float((counted - exact).abs().max()) < 0.03


def test_levels_are_drawn_by_their_probability() -> None:
    logits = torch.tensor([[0.1, 0.6, 0.3]]).log().repeat(5, 1)
    uniform = torch.tensor([0.0, 0.0999, 0.1001, 0.6999, 0.9999])
    assert draw(logits, uniform, 1.0).tolist() == [0, 0, 1, 1, 2]
    assert draw(logits, uniform, 0.0).tolist() == [1] * 5
    assert draw(torch.zeros(1, 3), torch.tensor([1.0]), 1.0).tolist() == [2]  # a sum below 1


def test_sampling_leaves_the_model_and_the_generator_alone() -> None:
    model = pixel_model("mixed", (1, 3, 3)).train()
    before = torch.get_rng_state()
    first = sample_images(model, 2, seed=5)
    assert model.training and torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, sample_images(model, 2, seed=5))


def test_what_does_not_fit_is_refused() -> None:
    model = pixel_model("pixelcnn", (1, 3, 3))
    given = torch.zeros(2, 1, 3, 3, dtype=torch.int64)
    keep = torch.ones(3, 3, dtype=torch.bool)
    for settings, message in (
        ({"count": 0}, "at least one"),
        ({"temperature": -1.0}, "temperature"),
        ({"given": given}, "together"),
        ({"given": given[..., :2], "keep": keep}, "3 × 3 pixels"),
        ({"given": given, "keep": keep[:2]}, r"mask of shape \(3, 3\) or \(2, 3, 3\)"),
        ({"given": given[:1], "keep": keep}, "expected 2 images"),
    ):
        with pytest.raises(ValueError, match=message):
            sample_images(model, **{"count": 2, **settings})  # type: ignore[arg-type]
