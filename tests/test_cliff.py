"""The loss surface of one unit and the two descents to its wall."""

from __future__ import annotations

import math

import torch

from seqmodels.analysis.cliff import descend, loss, surface


def test_the_surface_is_the_equation() -> None:
    found = surface((4.0, 6.0), (-3.0, -2.0), 3)
    s = 0.5
    for _ in range(50):
        s = 5.0 / (1 + math.exp(-s)) - 2.0
    expected = (1 / (1 + math.exp(-s)) - 0.7) ** 2
    assert math.isclose(float(found.losses[2, 1]), expected, rel_tol=1e-12)
    assert found.weights.tolist() == [4.0, 5.0, 6.0] and found.losses.shape == (3, 3)


def test_a_fixed_point_at_the_target_has_no_loss() -> None:
    start = math.log(0.7 / 0.3)  # sigmoid of it is 0.7
    w = torch.tensor(1.0, dtype=torch.float64)
    assert float(loss(w, w * 0 + start - 0.7, start=start)) < 1e-30


def test_clipping_holds_at_the_wall_what_is_thrown_far_off_without_it() -> None:
    wild = descend(5.2, -2.3, rate=0.1, max_norm=None, updates=60)
    tame = descend(5.2, -2.3, rate=0.1, max_norm=1.0, updates=60)
    assert float(wild[-1, :2].abs().max()) > 20 and float(wild[-1, 2]) > 0.05
    steps = (tame[1:, :2] - tame[:-1, :2]).norm(dim=1)
    assert float(steps.max()) <= 0.1 + 1e-12
    assert float(tame[-1, 2]) < 0.01 < float(tame[0, 2])
