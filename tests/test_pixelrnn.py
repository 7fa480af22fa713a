"""Pixel models: exact likelihoods, no sight of later pixels, and all of the earlier ones."""

from __future__ import annotations

import doctest
import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import seqmodels.models.pixelrnn
from pixel_cases import KINDS, each_kind, pixel_model
from seqmodels.layers.pixel import (
    DiagonalBiLSTM,
    GatedPixelCNN,
    PixelCNN,
    PixelStack,
    RowLSTM,
    channel_groups,
)
from seqmodels.layers.pixel.base import Maps
from seqmodels.models import PixelRNN

pytestmark = pytest.mark.usefixtures("one_thread")


def all_images(shape: tuple[int, int, int], levels: int) -> Tensor:
    values = itertools.product(range(levels), repeat=int(np.prod(shape)))
    return torch.tensor(list(values)).view(-1, *shape)


def in_order(model: PixelRNN, seed: int = 0, labels: Tensor | None = None) -> Tensor:
    """(N, N): how much value j moves the scores of value i, in raster and channel order."""
    channels, height, width = model.shape
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(1, height, width, channels, generator=generator, dtype=torch.float64)

    mixed = torch.randn(
        model.logits(values, labels).shape[-1], generator=generator, dtype=torch.float64
    )

    def scores(v: Tensor) -> Tensor:
        logits = model.logits(v, labels).permute(0, 2, 3, 1, 4)  # (1, R, W, C, L)
        return (logits @ mixed).flatten()

    moved: Any = torch.autograd.functional.jacobian(scores, values)  # (N, 1, R, W, C)
    count = channels * height * width
    found: Tensor = moved.reshape(count, count).abs()
    return found


SHAPES = [((1, 3, 3), 2, {}), ((3, 2, 2), 2, {}), ((2, 1, 3), 3, {"independent_channels": True})]


@each_kind
@pytest.mark.parametrize(("shape", "levels", "more"), SHAPES, ids=["grey", "colour", "independent"])
def test_the_likelihoods_of_all_images_sum_to_one(
    kind: str, shape: tuple[int, int, int], levels: int, more: dict[str, Any]
) -> None:
    model = pixel_model(kind, shape, levels, **more)
    with torch.no_grad():
        total = model.log_likelihood(all_images(shape, levels)).exp().sum()
    assert abs(float(total) - 1.0) < 1e-9


@each_kind
@pytest.mark.parametrize(
    ("shape", "more"),
    [((1, 2, 3), {"likelihood": "bernoulli"}), ((3, 2, 1), {})],
    ids=["bernoulli", "colour"],
)
def test_they_do_given_a_class(
    kind: str, shape: tuple[int, int, int], more: dict[str, Any]
) -> None:
    model = pixel_model(kind, shape, 2, num_classes=3, conditional=True, **more)
    images = all_images(shape, 2)
    found = []
    for label in range(3):
        with torch.no_grad():
            found.append(model.log_likelihood(images, torch.full((len(images),), label)))
        assert abs(float(found[-1].exp().sum()) - 1.0) < 1e-9
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[0], found[2])


@each_kind
@pytest.mark.parametrize(
    "shape", [(1, 4, 5), (3, 3, 2), (3, 3, 3)], ids=["grey", "colour", "square"]
)
@pytest.mark.parametrize("residual", [True, False])
def test_no_score_depends_on_its_own_or_a_later_value(
    kind: str, shape: tuple[int, int, int], residual: bool
) -> None:
    given = {} if residual else {"conditional": True, "num_classes": 2}
    model = pixel_model(kind, shape, 3, 12, residual=residual, skip=residual, **given)
    labels = torch.ones(1, dtype=torch.int64) if given else None
    # Of two images: a rectifier may hide a value at one.
    moved = in_order(model, 0, labels) + in_order(model, 1, labels)
    assert float(moved.triu().max()) == 0.0
    assert float(moved.max()) > 0.0
    for a, b in ((1, 0), (2, 0), (2, 1)) if shape[0] == 3 else ():
        assert float(moved[a::3, b::3].diagonal().max()) > 0.0  # p(G | R), p(B | R, G)


@each_kind
def test_independent_channels_do_not_see_each_other(kind: str) -> None:
    moved = in_order(pixel_model(kind, (3, 2, 3), 2, independent_channels=True))
    pixels = moved.view(6, 3, 6, 3)
    assert all(float(pixels[n, :, n].max()) == 0.0 for n in range(6))
    assert float(pixels[4, 0, 3, 2]) > 0.0  # of the pixel before it sees all channels


def seen_by(layer: Any, kernel_size: int = 3, size: int = 9, layers: int = 1) -> Tensor:
    """(R, W) bool: which pixels the one in the middle of the lowest row sees."""
    torch.manual_seed(0)
    stack = partial(PixelStack, layer=layer, hidden_size=8, num_layers=layers)
    model = PixelRNN(1, size, size, 2, layers=stack, kernel_size=kernel_size).double()
    reached = torch.zeros(size, size, dtype=torch.bool)
    for seed in range(4):  # a rectifier may hide a pixel at one point
        values = torch.randn(
            1, size, size, 1, dtype=torch.float64,
            generator=torch.Generator().manual_seed(seed),
        ).requires_grad_()  # fmt: skip
        model.logits(values)[0, 0, -1, size // 2].square().sum().backward()
        assert values.grad is not None
        reached |= values.grad[0, :, :, 0] != 0.0
    return reached


def pixels_before(size: int = 9) -> Tensor:
    order = torch.arange(size * size).view(size, size)
    return order < order[-1, size // 2]


def test_a_diagonal_layer_sees_every_earlier_pixel() -> None:
    assert torch.equal(seen_by(DiagonalBiLSTM), pixels_before())


@pytest.mark.parametrize("layers", [1, 4])
def test_a_row_layer_sees_a_triangle(layers: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    above, aside = 8 - rows, columns - 4
    # To the right a pixel a row, however many layers; to the left a layer reaches one further.
    triangle = torch.where(aside >= 0, aside <= above, -aside <= above + 1 + layers)
    assert torch.equal(seen_by(RowLSTM, layers=layers), triangle & pixels_before())


def test_pixelcnn_has_a_blind_spot_and_the_gated_one_has_none() -> None:
    blind = seen_by(PixelCNN, size=7, layers=6)
    assert not bool(blind[5, 6]) and bool(pixels_before(7)[5, 6])
    assert torch.equal(seen_by(GatedPixelCNN, size=7, layers=6), pixels_before(7))


def by_hand(x: Tensor, line: Any, diagonal: bool) -> Tensor:
    """The equations of Row LSTM and of one direction of Diagonal BiLSTM, pixel by pixel."""
    cell = line.cell
    batch, height, width, _ = x.shape
    hidden = cell.hidden_size
    U, W = cell.input_weight(), cell.weight_hh.unflatten(1, (-1, hidden))
    zero = torch.zeros(batch, hidden, dtype=x.dtype)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    for r in range(height):
        for w in range(width):
            if diagonal:
                beside, before = [(r - 1, w), (r, w - 1)], (r, w - 1)
            else:
                beside, before = [(r - 1, w - 1), (r - 1, w), (r - 1, w + 1)], (r - 1, w)
            a = cell.bias + x[:, r, w] @ U.T
            for k, place in enumerate(beside):
                a = a + h.get(place, zero) @ W[:, k].T
            i, f, g, o = a.chunk(4, -1)
            c[r, w] = f.sigmoid() * c.get(before, zero) + i.sigmoid() * g.tanh()
            h[r, w] = o.sigmoid() * c[r, w].tanh()
    return torch.stack([h[r, w] for r in range(height) for w in range(width)], 1).view(
        batch, height, width, hidden
    )


@pytest.mark.parametrize("engine", ["eager", "generated", "compiled"])
@pytest.mark.parametrize("kind", ["row_lstm", "diagonal_bilstm"])
@pytest.mark.parametrize("threads", [1, 2])
def test_lines_follow_the_equations_on_every_engine(
    kind: str, engine: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqmodels.engines import ENGINES

    if engine == "compiled":
        monkeypatch.setattr(ENGINES[engine], "backend", "none")
    torch.manual_seed(0)
    layer = KINDS[kind](5, 1, engine=engine).double()
    diagonal = kind == "diagonal_bilstm"
    line = layer.left if diagonal else layer.lstm
    features = line.cell.input_size - 1
    x = torch.randn(3, 4, 6, features, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 4, 6, 5, dtype=torch.float64)
    wanted = (x, *line.cell.parameters())
    expected = by_hand(x, line, diagonal)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = line(x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        grads = torch.autograd.grad((found * weights).sum(), wanted)
    finally:
        torch.set_num_threads(before)
    assert line.recurrent.engine_used == engine
    right = torch.autograd.grad((expected * weights).sum(), wanted)
    for own, other in zip(grads, right, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=1e-11)


def test_the_right_map_of_a_diagonal_layer_is_the_mirror_image_shifted_down() -> None:
    torch.manual_seed(0)
    layer = DiagonalBiLSTM(3, 1).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    right = by_hand(x.flip(2), layer.right, diagonal=True).flip(2)
    joined = by_hand(x, layer.left, diagonal=True)
    joined[:, 1:] += right[:, :-1]
    torch.testing.assert_close(layer(Maps(x, None)).x, layer.expand(joined))


def test_a_gated_layer_gives_the_row_below_what_it_sees_of_whole_rows() -> None:
    torch.manual_seed(0)
    layer = GatedPixelCNN(4, 1).double()
    v = torch.zeros(1, 3, 3, 4, dtype=torch.float64)
    v[0, 1, 2] = 1.0  # to the right in the second row
    x = torch.zeros(1, 3, 3, 8, dtype=torch.float64)
    changed = layer(Maps(x, v)).x - layer(Maps(x, torch.zeros_like(v))).x
    assert float(changed[0, :2].detach().abs().max()) == 0.0
    assert float(changed[0, 2, 1].detach().abs().max()) > 0.0


def test_features_are_shared_out_evenly_among_channels() -> None:
    assert channel_groups(8, 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="2 features cannot be divided among 3"):
        channel_groups(2, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pixel_model("row_lstm", (1, 2, 2), 1), "levels must lie in 2 … 256, got 1"),
        (lambda: pixel_model("row_lstm", (1, 2, 2), 3, likelihood="bernoulli"), "not of 3"),
        (lambda: pixel_model("row_lstm", (1, 2, 2), conditional=True), "these have none"),
        (lambda: pixel_model("row_lstm", (1, 2, 2), kernel_size=4), "kernel_size must be an odd"),
        (lambda: RowLSTM(4, 1, kernel_size=2), "RowLSTM: kernel_size must be an odd number"),
        (
            lambda: PixelStack(1, layer=[PixelCNN, RowLSTM], num_layers=3),
            "layer gives 2 layers and num_layers is 3",
        ),
        (
            lambda: PixelRNN(1, 2, 2, 2, layers=lambda groups: torch.nn.Linear(1, 1)),  # type: ignore
            "takes layers over images",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_images_that_do_not_fit_are_refused() -> None:
    model = pixel_model("pixelcnn", (1, 4, 4), 2, num_classes=3, conditional=True)
    right, labels = torch.zeros(2, 1, 4, 4, dtype=torch.int64), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="expected images of 4 × 4 pixels and 1 channel"):
        model(right[..., :3], labels)
    with pytest.raises(ValueError, match="levels 0 … 1, got levels from 0 to 2"):
        model(right + torch.eye(4, dtype=torch.int64) * 2, labels)
    with pytest.raises(ValueError, match="pass labels"):
        model(right)
    with pytest.raises(ValueError, match="expected classes 0 … 2, got 1 to 3"):
        model(right, torch.tensor([1, 3]))


def test_the_example_of_the_model_runs() -> None:
    assert doctest.testmod(seqmodels.models.pixelrnn).failed == 0
