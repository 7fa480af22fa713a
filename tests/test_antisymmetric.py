"""What the antisymmetric network promises beside its equation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cell_cases import HIDDEN, INPUT, random_state, sequence
from seqmodels.cells import AntisymmetricCell
from seqmodels.scan import scan


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_the_recurrent_map_has_the_damping_as_its_only_real_part(gamma: float) -> None:
    (stage,) = AntisymmetricCell(3, 6, gamma=gamma).double().prepare()
    eigenvalues = torch.linalg.eigvals(stage.operator.weights[0])
    torch.testing.assert_close(eigenvalues.real, torch.full_like(eigenvalues.real, -gamma))
    assert eigenvalues.imag.abs().max() > 0.1


@pytest.mark.parametrize(("epsilon", "gamma"), [(None, None), (0.5, 0.9)])
@pytest.mark.parametrize("hidden", [50, 300])
def test_a_state_carried_for_long_does_not_grow(
    epsilon: float | None, gamma: float | None, hidden: int
) -> None:
    torch.manual_seed(0)
    settings = {} if epsilon is None else {"epsilon": epsilon, "gamma": gamma}
    cell = AntisymmetricCell(4, hidden, **settings).double()  # type: ignore[arg-type]
    (stage,) = cell.prepare()
    step = torch.eye(hidden) + cell.epsilon * stage.operator.weights[0]
    assert torch.linalg.eigvals(step).abs().max() <= 1.0
    with torch.no_grad():
        y, _ = scan(cell, torch.randn(2000, 2, 4, dtype=torch.float64))
    early, late = (part.pow(2).mean().sqrt() for part in (y[200:400], y[-200:]))
    assert late < 1.1 * early


@pytest.mark.parametrize("gate", [100.0, -100.0])
def test_an_open_gate_is_the_plain_form_and_a_shut_one_keeps_the_state(gate: float) -> None:
    cell = AntisymmetricCell(INPUT, HIDDEN, gated=True).double()
    with torch.no_grad():
        cell.bias_gate.fill_(gate)  # type: ignore[union-attr]
    plain = AntisymmetricCell(INPUT, HIDDEN).double()
    plain.load_state_dict({k: v for k, v in cell.state_dict().items() if "gate" not in k})
    state = random_state(cell)
    y, last = scan(cell, sequence(), state)
    torch.testing.assert_close(last.h, y[-1])
    torch.testing.assert_close(
        y[-1], scan(plain, sequence(), state)[0][-1] if gate > 0 else state.h
    )


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.5, math.nan, math.inf])
def test_a_step_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=f"0 < epsilon <= 1, got {epsilon!r}"):
        AntisymmetricCell(3, 4, epsilon=epsilon)


@pytest.mark.parametrize("gamma", [-0.1, math.nan, math.inf])
def test_a_damping_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"0 <= gamma < ∞, got {gamma!r}"):
        AntisymmetricCell(3, 4, gamma=gamma)


@pytest.mark.parametrize("value", [True, "0.1", None])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="gamma must be a number"):
        AntisymmetricCell(3, 4, gamma=value)
