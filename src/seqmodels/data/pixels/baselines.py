"""Simple models of images, to be compared with: means of −ln p per value."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seqmodels.data.images.files import Array

SMOOTHING = 0.5  # is added to every count
MOST_WEIGHTS = 4_000_000  # of the regression; above it there is none
STEPS, ROWS = 600, 256
LOOKED_AT = 1000  # validation images, while it is trained


def per_pixel_histogram(train: Array, valid: Array, levels: int) -> float:
    """Every value by its own place's distribution: images (N, C, R, W) of levels."""
    a, b = train.reshape(len(train), -1), valid.reshape(len(valid), -1)
    places = np.arange(a.shape[1])
    counts = np.full((len(places), levels), SMOOTHING)
    for image in a:
        counts[places, image] += 1
    logs = np.log(counts / counts.sum(1, keepdims=True))
    return float(-logs[places, b].mean())


def first_order_markov(train: Array, valid: Array, levels: int) -> float:
    """Every value by that of the pixel to its left, in the first column by that above it."""
    counts = np.full((levels, levels), SMOOTHING)
    before, own = _neighbours(train)
    np.add.at(counts, (before, own), 1)
    logs = np.log(counts / counts.sum(1, keepdims=True))
    before, own = _neighbours(valid)
    return float(-logs[before, own].mean())


def _neighbours(images: Array) -> tuple[Array, Array]:
    before = np.zeros_like(images)
    before[..., 1:] = images[..., :-1]
    before[..., 1:, 0] = images[..., :-1, 0]
    return before.ravel(), images.ravel()


def logistic_regression(train: Array, valid: Array, levels: int) -> float | None:
    """Every value by a logistic regression of its own on all values before it.

    Values are in raster order, in each pixel channel by channel. Trained by Adam; of several
    strengths of the penalty on the weights and all moments of training that one counts which is
    best on the validation images themselves, in its favour. None where it has too many weights.
    """
    size = train[0].size
    if size * size * levels > MOST_WEIGHTS:
        return None
    a, b = (_in_order(images) for images in (train, valid))
    return min(_regression(a, b, levels, decay) for decay in (0.0, 0.01, 0.1))


def _in_order(images: Array) -> Tensor:
    ordered = np.moveaxis(images, 1, -1).reshape(len(images), -1)
    return torch.from_numpy(ordered.astype(np.int64))


def _regression(train: Tensor, valid: Tensor, levels: int, decay: float) -> float:
    size = train.shape[1]
    mask = torch.ones(size, size).tril(-1).unsqueeze(1)  # (N, 1, N): value n reads those before it
    weight = torch.zeros(size, levels, size, requires_grad=True)
    counts = torch.stack([(train == level).sum(0) for level in range(levels)], 1)  # (N, L)
    bias = ((counts + SMOOTHING) / len(train)).log().requires_grad_()
    optimiser = torch.optim.AdamW([weight, bias], lr=0.01, weight_decay=decay)
    generator = torch.Generator().manual_seed(0)

    def loss(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        values = rows * (2.0 / (levels - 1)) - 1.0
        scores = functional.linear(values, (weight * mask).flatten(0, 1), bias.flatten())
        return functional.cross_entropy(scores.view(-1, levels), rows.flatten())

    best, kept = float("inf"), (weight.detach(), bias.detach())
    for step in range(STEPS):
        rows = torch.randint(len(train), (min(ROWS, len(train)),), generator=generator)
        optimiser.zero_grad()
        loss(train[rows], weight, bias).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 20 == 19:
            with torch.no_grad():
                now = float(loss(valid[:LOOKED_AT], weight, bias))
            if now < best:
                best, kept = now, (weight.detach().clone(), bias.detach().clone())
    with torch.no_grad():
        return float(loss(valid, *kept))
