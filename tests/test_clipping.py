"""Clipping: what comes out is bounded, what was within bounds is untouched, the report is true."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seqmodels.training.clipping import Clip, NoClip, NormClip, ValueClip


def parameters(*gradients: list[float] | None) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(2 if gradient is None else len(gradient)).double())
        if gradient is not None:
            parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        made.append(parameter)
    return made


def total_norm(made: list[nn.Parameter]) -> float:
    return float(sum((p.grad**2).sum() for p in made if p.grad is not None) ** 0.5)


def test_norm_scales_the_whole_gradient_and_keeps_its_direction() -> None:
    made = parameters([3.0, 0.0], None, [0.0, 4.0])
    clipped = NormClip(1.0)(made)
    assert float(clipped.norm) == pytest.approx(5.0)
    assert bool(clipped.engaged)
    assert total_norm(made) == pytest.approx(1.0)
    assert made[0].grad is not None and made[0].grad.tolist() == pytest.approx([0.6, 0.0])
    assert made[1].grad is None


def test_norm_leaves_a_short_gradient_bit_for_bit() -> None:
    made = parameters([0.3, -0.1], [0.7])
    before = [p.grad.clone() for p in made if p.grad is not None]
    clipped = NormClip(1.0)(made)
    assert not bool(clipped.engaged)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, made, strict=True))


@pytest.mark.parametrize("max_norm", [1e-3, 0.25, 7.0])
def test_norm_after_is_never_above_the_bound(max_norm: float) -> None:
    torch.manual_seed(0)
    made = parameters(*[(torch.randn(50) * 10**k).tolist() for k in range(-3, 4)])
    NormClip(max_norm)(made)
    assert total_norm(made) <= max_norm * (1 + 1e-12)


def test_a_zero_gradient_stays_zero() -> None:
    made = parameters([0.0, 0.0])
    clipped = NormClip(1.0)(made)
    assert made[0].grad is not None and made[0].grad.tolist() == [0.0, 0.0]
    assert float(clipped.norm) == 0.0 and not bool(clipped.engaged)


def test_value_cuts_elements() -> None:
    made = parameters([3.0, -0.5], [-2.0])
    clipped = ValueClip(1.0)(made)
    assert [p.grad.tolist() for p in made if p.grad is not None] == [[1.0, -0.5], [-1.0]]
    assert bool(clipped.engaged)
    assert float(clipped.norm) == pytest.approx((9 + 0.25 + 4) ** 0.5)
    assert not bool(ValueClip(1.0)(made).engaged)


def test_none_measures_only() -> None:
    made = parameters([3.0, 4.0])
    clipped = NoClip()(made)
    assert float(clipped.norm) == pytest.approx(5.0) and not bool(clipped.engaged)
    assert made[0].grad is not None and made[0].grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("clip", [NoClip(), NormClip(1.0), ValueClip(1.0)])
def test_a_nan_is_reported_as_the_norm(clip: Clip) -> None:
    assert clip(parameters([float("nan"), 1.0])).norm.isnan()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_bounds_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match="max_norm must be positive"):
        NormClip(value)
    with pytest.raises(ValueError, match="max_value must be positive"):
        ValueClip(value)
