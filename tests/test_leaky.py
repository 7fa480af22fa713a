"""What the leaky network promises beside its equation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cell_cases import HIDDEN, INPUT, Case, able, gradients, prefix, random_state, run, sequence
from seqmodels.cells import LeakyCell, RNNCell
from seqmodels.scan import scan

PLAIN = {"nonlinearity": "tanh", "bias": True}
ENGINES = sorted(
    set(able(Case("rnn", RNNCell, PLAIN))) & set(able(Case("leaky", LeakyCell, PLAIN)))
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("nonlinearity", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4]], ids=["full", "lengths"])
@pytest.mark.parametrize("time", ["fixed", "per_unit"])
def test_a_time_constant_of_one_is_the_plain_network_bit_for_bit(
    engine: str, nonlinearity: Any, lengths: list[int] | None, time: Any
) -> None:
    most = 1.0 if time == "per_unit" else None
    leaky = LeakyCell(
        INPUT, HIDDEN, tau=1, time=time, tau_max=most, nonlinearity=nonlinearity
    ).double()
    plain = RNNCell(INPUT, HIDDEN, nonlinearity=nonlinearity).double()
    leaky.load_state_dict(plain.state_dict(), strict=False)
    keep = None if lengths is None else prefix(lengths, 7)
    state = random_state(plain)

    def call(cell: Any, x: Any, state: Any) -> Any:
        return run(engine, cell, x, state, keep)

    found = gradients(call, leaky, sequence(), state)
    expected = gradients(call, plain, sequence(), state)
    assert found.keys() == expected.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize("tau", [1.0, 4.0, 25.0])
def test_a_constant_drive_is_approached_with_the_time_constant(tau: float) -> None:
    cell = LeakyCell(1, 1, tau=tau).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_ih.fill_(1.0)
    y, _ = scan(cell, torch.full((6, 1, 1), 0.5, dtype=torch.float64))
    expected = [math.tanh(0.5) * (1 - (1 - 1 / tau) ** t) for t in range(1, 7)]
    torch.testing.assert_close(y.flatten(), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("tau", [1.0001, 2.0, 1000.0])
@pytest.mark.parametrize("time", ["learned", "input"])
def test_what_is_learned_starts_at_tau(tau: float, time: Any) -> None:
    cell = LeakyCell(INPUT, HIDDEN, tau=tau, time=time).double()
    found = 1 + torch.nn.functional.softplus(cell.theta)
    torch.testing.assert_close(found, torch.full_like(found, tau), rtol=1e-6, atol=0)
    fixed = LeakyCell(INPUT, HIDDEN, tau=tau).double()
    fixed.load_state_dict(cell.state_dict(), strict=False)
    if time == "input":
        torch.nn.init.zeros_(cell.weight_time)
    torch.testing.assert_close(
        scan(cell, sequence())[0], scan(fixed, sequence())[0], rtol=1e-5, atol=1e-8
    )


@pytest.mark.parametrize(("tau", "most"), [(1.0, 100.0), (3.0, 3.0), (2.0, None)])
def test_time_constants_are_spread_evenly_in_their_logarithm(tau: float, most: Any) -> None:
    cell = LeakyCell(INPUT, 9, tau=tau, time="per_unit", tau_max=most)
    times = cell.time_constants.double()
    last = 10 * tau if most is None else most
    torch.testing.assert_close(times[[0, -1]].tolist(), [tau, last], rtol=1e-6, atol=0)
    steps = times.log().diff()
    torch.testing.assert_close(steps, steps.mean().expand(8), rtol=1e-4, atol=1e-6)
    assert times.min() >= 1 and "time_constants" not in dict(cell.named_parameters())


def test_time_chosen_by_the_input_is_chosen_at_each_step() -> None:
    """An input that closes a unit leaves it as it was."""
    cell = LeakyCell(1, 1, tau=1.5, time="input").double()
    torch.nn.init.constant_(cell.weight_time, 1e9)
    x = torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64).reshape(3, 1, 1)
    y, _ = scan(cell, x)
    assert y[1].item() == pytest.approx(y[0].item(), abs=1e-8) and y[0].item() != y[2].item()


@pytest.mark.parametrize("tau", [0.99, 0, -1.0, math.inf, math.nan, True, "2", None])
def test_a_time_constant_out_of_range_is_refused(tau: Any) -> None:
    with pytest.raises(ValueError, match=rf"1 <= tau < ∞ .*, got {tau!r}"):
        LeakyCell(3, 4, tau=tau)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 1, "time": "learned"}, "above 1 always, so tau must be > 1, got 1"),
        ({"tau": 1.0, "time": "input"}, "time='input' is above 1 always"),
        ({"time": "random"}, "fixed, per_unit, learned, input, got 'random'"),
        ({"nonlinearity": "gelu"}, "one of tanh, sigmoid, relu, got 'gelu'"),
        ({"tau_max": 5.0}, "tau_max is for time='per_unit' alone"),
        ({"time": "per_unit", "tau": 5.0, "tau_max": 4.0}, r"tau_max >= tau = 5.0, got 4.0"),
        ({"time": "per_unit", "tau_max": math.inf}, "1 <= tau_max < ∞"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LeakyCell(3, 4, **arguments)
