"""What the Legendre memory and the clockwork network promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from cell_cases import INPUT, gradients, run, sequence
from seqmodels.cells import ClockworkCell, LMUCell, RNNCell
from seqmodels.cells.lmu import legendre, legendre_readout
from seqmodels.cells.zoneout import Zoneout
from seqmodels.layers import Recurrent
from seqmodels.scan import scan


@pytest.mark.parametrize(("order", "theta"), [(1, 1.0), (6, 20.0), (16, 100.0), (32, 784.0)])
def test_the_discretisation_is_that_of_scipy(order: int, theta: float) -> None:
    signal = pytest.importorskip("scipy.signal")
    i = np.arange(order)
    a = np.array([[-1.0 if m < n else (-1.0) ** (m - n + 1) for n in i] for m in i]) * (
        2 * i[:, None] + 1
    )
    b = (2 * i + 1) * (-1.0) ** i
    system = (a / theta, b[:, None] / theta, np.eye(order), np.zeros((order, 1)))
    expected_a, expected_b, *_ = signal.cont2discrete(system, 1.0, method="zoh")
    found_a, found_b = legendre(order, theta)
    np.testing.assert_allclose(found_a.numpy(), expected_a, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found_b.numpy(), expected_b[:, 0], rtol=1e-8, atol=1e-10)


def memory(x: torch.Tensor, order: int, theta: float) -> torch.Tensor:
    """m_t (T, d) of an LMU that writes its input x (T) and nothing else."""
    cell = LMUCell(1, 1, order=order, theta=theta).double()
    a, b = legendre(order, theta)
    with torch.no_grad():
        cell.memory_a.copy_(a)
        cell.memory_b.copy_(b)
        for parameter in cell.parameters():
            parameter.zero_()
        cell.encoder_x.fill_(1.0)
    state, path = None, []
    for value in x:
        _, state = scan(cell, value.reshape(1, 1, 1), state)
        path.append(state.m[0])
    return torch.stack(path).detach()


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_the_memory_decodes_a_delayed_input(fraction: float) -> None:
    theta, order = 60.0, 12
    t = torch.arange(400, dtype=torch.float64)
    x = torch.sin(2 * math.pi * t / 90) + 0.5 * torch.cos(2 * math.pi * t / 55)
    decoded = memory(x, order, theta) @ legendre_readout(order, fraction)
    # What is held over a step stands for its middle.
    delay = fraction * theta - 0.5
    wanted = torch.sin(2 * math.pi * (t - delay) / 90)
    wanted += 0.5 * torch.cos(2 * math.pi * (t - delay) / 55)
    assert (decoded - wanted)[150:].abs().max() < 0.03


def test_a_window_of_a_constant_is_that_constant_and_then_forgotten() -> None:
    x = torch.cat((torch.ones(200), torch.zeros(200))).double()
    m = memory(x, 8, 50.0)
    torch.testing.assert_close(m[199], torch.eye(8, dtype=torch.float64)[0], rtol=0, atol=1e-3)
    assert m[399].abs().max() < 1e-3


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_a_place_outside_the_window_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        legendre_readout(4, fraction)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_period_one_alone_is_the_plain_network(engine: str) -> None:
    clocked = ClockworkCell(INPUT, 5, periods=[1]).double()
    plain = RNNCell(INPUT, 5).double()
    plain.load_state_dict(clocked.state_dict())

    def call(cell: Any, x: Any, state: Any) -> Any:
        y, last = run(engine, cell, x, state)
        return y, type(plain.initial_state(1, x))(last.h)

    found = gradients(call, clocked, sequence(), None)
    expected = gradients(call, plain, sequence(), None)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-12, atol=1e-14)


def test_modules_move_at_their_periods_and_a_chunk_goes_on_with_the_count() -> None:
    torch.manual_seed(0)
    cell = ClockworkCell(INPUT, 6, periods=[1, 3, 6]).double()
    x = sequence(14)
    y, last = scan(cell, x)
    for t in range(1, 14):
        moved = (y[t] != y[t - 1]).all(0)
        assert moved.tolist() == [True] * 2 + [t % 3 == 0] * 2 + [t % 6 == 0] * 2
    first, state = scan(cell, x[:5])
    rest, end = scan(cell, x[5:], state)
    assert torch.equal(torch.cat((first, rest)), y)
    assert torch.equal(end.t, last.t) and last.t[0].item() == 14 % 6


def test_a_fast_module_does_not_reach_a_slow_one() -> None:
    """Gradients from slow units at the end to fast ones at the start are zero, not the reverse."""
    cell = ClockworkCell(INPUT, 6, periods=[1, 2]).double()
    h = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    state = cell.initial_state(1, h)._replace(h=h)
    y, _ = scan(cell, sequence(4, 1), state)
    (slow,) = torch.autograd.grad(y[-1, 0, 3:].sum(), h, retain_graph=True)
    (fast,) = torch.autograd.grad(y[-1, 0, :3].sum(), h)
    assert not slow[0, :3].any() and slow[0, 3:].all() and fast[0, 3:].all()


def test_the_clock_is_neither_zoned_out_nor_learned() -> None:
    cell = ClockworkCell(INPUT, 5).double()
    for training in (True, False):
        _, last = scan(Zoneout(cell, 0.5).train(training), sequence(7))
        assert (last.t == 7.0).all()
    layer = Recurrent(cell, learned_state=True)
    assert [n for n, _ in layer.named_parameters() if n.startswith("initial")] == ["initial_h"]
    with pytest.raises(ValueError, match="zoneout names 't'"):
        Zoneout(cell, {"t": 0.5})


@pytest.mark.parametrize(
    ("periods", "message"),
    [
        ((), "distinct whole numbers"),
        ((2, 1), "ascending order"),
        ((0, 1), "distinct whole numbers"),
        ((1, 1), "distinct"),
        ((1.0, 2), "whole numbers"),
        ((1, 3000), "least common multiple of periods must be at most 2048, got 3000"),
        ((1, 2, 3, 4, 5, 6), "6 periods need as many units, got hidden_size=5"),
    ],
)
def test_periods_that_make_no_clock_are_refused(periods: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClockworkCell(INPUT, 5, periods=periods)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"order": 0}, "order must be"), ({"order": 2.0}, "order must be"), ({"theta": 0.5}, "1 <= ")],
)
def test_windows_that_make_no_sense_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LMUCell(INPUT, 5, **arguments)
