"""Schedules: the learning rate at each step is what the docstring's formula says."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from seqmodels.training.schedules import (
    ConstantSchedule,
    CosineSchedule,
    DecaySchedule,
    Horizon,
    PlateauSchedule,
    Schedule,
)


def rates(schedule: Schedule, steps: int, horizon: Horizon) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule.build(optimizer, horizon)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_constant() -> None:
    assert rates(ConstantSchedule(), 3, Horizon(None, 1)) == [2.0] * 3


def test_cosine_warms_up_and_ends_at_its_final_share() -> None:
    found = rates(CosineSchedule(warmup_steps=4, final=0.1), 21, Horizon(20, 5))
    assert found[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert found[4] == pytest.approx(2.0)
    middle = 2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 8 / 16)))
    assert found[12] == pytest.approx(middle)
    assert found[20] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(found[4:]))


def test_cosine_needs_an_end() -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_steps"):
        rates(CosineSchedule(), 1, Horizon(None, 5))
    with pytest.raises(ValueError, match="warmup_steps"):
        rates(CosineSchedule(warmup_steps=5), 1, Horizon(5, 5))


def test_decay_halves_after_the_constant_epochs() -> None:
    # Zaremba et al.: four epochs at 1, then halved at each: epochs of three steps here.
    found = rates(DecaySchedule(constant_epochs=4, factor=0.5), 21, Horizon(39, 3))
    assert found == [2.0] * 12 + [1.0] * 3 + [0.5] * 3 + [0.25] * 3


def test_plateau_divides_when_nothing_improves() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=20.0)
    scheduler = PlateauSchedule(factor=0.25, patience=0).build(optimizer, Horizon(None, 1))
    found = []
    for loss in (5.0, 4.0, 4.0, 3.9, 4.1):
        scheduler.step(loss)  # type: ignore[arg-type]
        found.append(optimizer.param_groups[0]["lr"])
    assert found == [20.0, 20.0, 5.0, 5.0, 1.25]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineSchedule(final=1.5), "final"),
        (lambda: CosineSchedule(warmup_steps=-1), "warmup_steps"),
        (lambda: DecaySchedule(factor=0.0), "factor"),
        (lambda: DecaySchedule(constant_epochs=-1), "constant_epochs"),
        (lambda: PlateauSchedule(factor=1.0), "factor"),
        (lambda: PlateauSchedule(patience=-1), "patience"),
    ],
)
def test_ranges(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
