"""What the sLSTM promises beside its equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cell_cases import INPUT, Case, able, assert_same, gradients, prefix, random_state, run
from cell_cases import sequence as inputs
from seqmodels.cells import SLSTMCell
from seqmodels.initialisers import Chrono, Orthogonal
from seqmodels.scan import scan
from twins_indrnn import slstm_twin
from twins_leaky import arrays, sigmoid

UNITS = 6
PLAIN = {"num_heads": 1, "forget": "sigmoid", "bias": True}
ENGINES = [name for name in able(Case("slstm-heads", SLSTMCell, PLAIN)) if name != "eager"]
FORGET = ["sigmoid", "exp"]


def make(num_heads: int = 1, forget: Any = "sigmoid", scale: float = 1.0) -> SLSTMCell:
    torch.manual_seed(0)
    cell = SLSTMCell(INPUT, UNITS, num_heads=num_heads, forget=forget).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.mul_(scale)
    return cell


@pytest.mark.parametrize("forget", FORGET)
@pytest.mark.parametrize("given", [False, True], ids=["initial", "given"])
@pytest.mark.parametrize("num_heads", [2, 3, 6])
def test_heads_equal_their_numpy_twin(num_heads: int, given: bool, forget: str) -> None:
    cell, x = make(num_heads, forget), inputs()
    state = random_state(cell) if given else cell.initial_state(4, x)
    y, last = scan(cell, x, state)
    fields = tuple(field.numpy() for field in state)
    for t in range(len(x)):
        h, fields = slstm_twin(cell, x[t].numpy(), *fields)
        np.testing.assert_allclose(y[t].detach().numpy(), h, rtol=1e-12, atol=1e-14)
    for found, expected in zip(last, fields, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4]], ids=["full", "lengths"])
@pytest.mark.parametrize("num_heads", [2, 6])
def test_heads_agree_on_every_engine(engine: str, num_heads: int, lengths: Any) -> None:
    cell, keep = make(num_heads, "exp"), None if lengths is None else prefix(lengths, 7)
    state = random_state(cell)
    found = gradients(lambda c, x, s: run(engine, c, x, s, keep), cell, inputs(), state)
    expected = gradients(lambda c, x, s: scan(c, x, s, keep=keep), cell, inputs(), state)
    assert_same(found, expected)


@pytest.mark.parametrize("forget", FORGET)
def test_the_scale_cancels(forget: str) -> None:
    """The equation with its exponentials as they stand, from the beginning."""
    cell, x = make(1, forget), inputs()
    y, _ = scan(cell, x)
    p = arrays(cell)
    h = memory = normaliser = np.zeros((4, UNITS))
    for t in range(len(x)):
        a = x[t].numpy() @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias_ih"] + p["bias_hh"]
        i, f, z, o = np.split(a, 4, axis=-1)
        retain, write = (sigmoid(f) if forget == "sigmoid" else np.exp(f)), np.exp(i)
        memory = retain * memory + write * np.tanh(z)
        normaliser = retain * normaliser + write
        h = sigmoid(o) * memory / normaliser
        np.testing.assert_allclose(y[t].detach().numpy(), h, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("forget", FORGET)
def test_nothing_overflows_and_the_normaliser_is_at_least_one(forget: str) -> None:
    cell = make(2, forget, scale=1000.0).float()  # gates of many hundreds, of either sign
    x, state = inputs(20).float().requires_grad_(), None
    for row in x.split(1):
        y, state = scan(cell, row, state)
        assert (state.n >= 1).all() and (y.abs() <= 1).all()
    assert state is not None and all(field.isfinite().all() for field in state)
    y, _ = scan(cell, x)
    grads = torch.autograd.grad(y.sum(), [x, *cell.parameters()])
    assert all(grad.isfinite().all() for grad in grads)


def test_an_input_gate_can_replace_all_that_was_kept() -> None:
    """What a sigmoid gate cannot do: one strong input outweighs a long past."""
    cell = SLSTMCell(1, 1).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_ih[0] = 10.0  # i
        cell.weight_ih[2] = 1.0  # z
        cell.bias_ih[1] = 20.0  # type: ignore[index]  # f: everything is retained
    x = torch.cat([torch.full((50, 1, 1), -1.0), torch.full((1, 1, 1), 2.0)]).double()
    y, _ = scan(cell, x)
    torch.testing.assert_close(y[49], 0.5 * torch.tanh(x[49]))
    torch.testing.assert_close(y[50], 0.5 * torch.tanh(x[50]))


def test_heads_do_not_read_one_another() -> None:
    cell = make(3)
    state = random_state(cell)
    h = state.h.clone().requires_grad_()
    y, _ = scan(cell, inputs(1), state._replace(h=h))
    for head in range(3):
        units = slice(2 * head, 2 * head + 2)
        (grad,) = torch.autograd.grad(y[..., units].sum(), h, retain_graph=True)
        assert grad[:, units].all()
        grad[:, units] = 0
        assert not grad.any()


def test_initialisers() -> None:
    cell = make()
    Chrono(50.0)(cell)
    assert cell.bias_ih is not None
    i, f, _, _ = cell.bias_ih.detach().chunk(4)
    assert (f >= 0).all() and torch.equal(i, -f)
    with pytest.raises(ValueError, match=r"no weight_hh of shape \(24, 6\)"):
        Orthogonal()(make(num_heads=2))


@pytest.mark.parametrize("num_heads", [0, -1, 4, 7, True, 2.0, "2"])
def test_heads_that_do_not_divide_the_units_are_refused(num_heads: Any) -> None:
    message = rf"must divide hidden_size = 6 \(1, 2, 3, 6\), got {num_heads!r}"
    with pytest.raises(ValueError, match=message):
        SLSTMCell(INPUT, UNITS, num_heads=num_heads)


def test_an_unknown_forget_gate_is_refused() -> None:
    with pytest.raises(ValueError, match="one of sigmoid, exp, got 'tanh'"):
        SLSTMCell(3, 4, forget="tanh")  # type: ignore[arg-type]
