"""What the oscillators, LEM and the linear cells promise beside their equations."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cell_cases import run, sequence
from seqmodels.cells import CoRNNCell, LEMCell, LRUCell, MinGRUCell, MinLSTMCell
from seqmodels.scan import scan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0.0}, "0 < dt < 1, got 0.0"),
        ({"dt": 1.0}, "0 < dt < 1, got 1.0"),
        ({"dt": math.nan}, "0 < dt < 1, got nan"),
        ({"gamma": 0.0}, "0 < gamma < ∞, got 0.0"),
        ({"gamma": math.inf}, "0 < gamma < ∞, got inf"),
        ({"epsilon": -0.1}, "0 <= epsilon < ∞, got -0.1"),
        ({"epsilon": math.nan}, "0 <= epsilon < ∞, got nan"),
        ({"dt": True}, "dt must be a number, got True"),
        ({"gamma": "1"}, "gamma must be a number, got '1'"),
    ],
)
def test_oscillators_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CoRNNCell(3, 4, **arguments)


@pytest.mark.parametrize(("gamma", "rests"), [(3.0, True), (5.0, False)])
def test_an_oscillator_left_to_itself_rests_up_to_the_stated_bound(
    gamma: float, rests: bool
) -> None:
    """Δt (γ Δt + 2 ε) below 4, or not."""
    cell = CoRNNCell(1, 1, dt=0.9, gamma=gamma, epsilon=0.5, bias=False).double()
    assert (0.9 * (gamma * 0.9 + 2 * 0.5) < 4) is rests
    with torch.no_grad():
        cell.weight_hh.zero_()
    state = type(cell.initial_state(1, torch.zeros(1)))(*(2 * [torch.ones(1, 1).double()]))
    y, _ = scan(cell, torch.zeros(200, 1, 1, dtype=torch.float64), state)
    end = y[-20:].detach().abs().max().item()
    assert end < 1e-6 if rests else end > 1e3


@pytest.mark.parametrize("dt", [0.0, -0.5, 1.1, math.nan, math.inf, True, "1"])
def test_a_step_of_lem_out_of_range_is_refused(dt: Any) -> None:
    with pytest.raises(ValueError, match=f"dt .*got {dt!r}|0 < dt <= 1, got {dt!r}"):
        LEMCell(3, 4, dt=dt)


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
def test_an_unknown_candidate_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"one of linear, positive, got 'tanh'"):
        kind(3, 4, candidate="tanh")


@pytest.mark.parametrize("engine", ["eager", "parallel"])
@pytest.mark.parametrize("size", [1e2, 1e4])
def test_closed_gates_divide_nothing_by_nothing(engine: str, size: float) -> None:
    """Where sigmoid(f) and sigmoid(i) are both 0 in floating point, their shares are not."""
    cell = MinLSTMCell(1, 1)
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[-size], [-size], [1.0]]))
        cell.bias_ih.zero_()  # type: ignore[union-attr]
    y, _ = run(engine, cell, torch.ones(30, 1, 1))
    torch.testing.assert_close(y[:, 0, 0], 1 - 0.5 ** torch.arange(1.0, 31.0))
    (grad,) = torch.autograd.grad(y.sum(), cell.weight_ih)
    assert grad.isfinite().all()


@pytest.mark.parametrize("kind", [MinGRUCell, MinLSTMCell])
def test_positive_candidates_keep_the_state_positive(kind: Any) -> None:
    y, _ = scan(kind(3, 5, candidate="positive").double(), sequence())
    assert (y > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"r_min": -0.1}, "0 <= r_min < r_max <= 1, got r_min=-0.1"),
        ({"r_min": 0.9, "r_max": 0.9}, "0 <= r_min < r_max <= 1"),
        ({"r_max": 1.01}, "r_max=1.01"),
        ({"r_min": math.nan}, "r_min=nan"),
        ({"max_phase": 0.0}, "0 < max_phase <= 2π, got 0.0"),
        ({"max_phase": 6.3}, "0 < max_phase <= 2π, got 6.3"),
        ({"max_phase": math.nan}, "0 < max_phase <= 2π, got nan"),
        ({"r_max": "1"}, "r_max must be a number"),
        ({"r_min": False}, "r_min must be a number"),
    ],
)
def test_rings_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LRUCell(3, 4, **arguments)


@pytest.mark.parametrize(("r_min", "r_max", "phase"), [(0.0, 1.0, math.tau), (0.9, 0.999, 0.3)])
def test_eigenvalues_start_uniformly_in_their_ring(
    r_min: float, r_max: float, phase: float
) -> None:
    torch.manual_seed(0)
    cell = LRUCell(3, 2000, r_min=r_min, r_max=r_max, max_phase=phase).double()
    real, imaginary = cell.prepare()[0].params
    eigenvalues = torch.complex(real, imaginary).detach()
    size, angle = eigenvalues.abs(), eigenvalues.angle() % math.tau
    assert r_min <= size.min() and size.max() <= r_max and size.max() < 1
    assert angle.max() <= phase
    # Uniform over the area of the ring.
    share = (size**2 - r_min**2) / (r_max**2 - r_min**2)
    for uniform in (share, angle / phase):
        levels = torch.quantile(uniform, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
        torch.testing.assert_close(
            levels, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), rtol=0, atol=0.05
        )
    torch.testing.assert_close(cell.gamma_log.exp() ** 2, 1 - size**2, rtol=1e-4, atol=1e-7)


def test_normalised_units_driven_by_noise_are_as_large_as_what_drives_them() -> None:
    torch.manual_seed(0)
    cell = LRUCell(1, 50, r_min=0.5, r_max=0.9).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.eye(1, dtype=torch.float64).expand(100, 1))
    _, state = scan(cell, torch.randn(100, 4000, 1, dtype=torch.float64))
    power = (state.re**2 + state.im**2).mean(0)
    torch.testing.assert_close(power, torch.full_like(power, 2.0), rtol=0.15, atol=0)
