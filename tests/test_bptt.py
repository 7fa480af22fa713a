"""The recursion written out, against autograd and every engine; sharing; truncation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cell_cases import HIDDEN, INPUT, Case, each_trained_cell, random_state, sequence
from seqmodels.analysis.bptt import rnn_bptt, truncation, untied_gradients
from seqmodels.cells import RNNCell
from seqmodels.engines import ENGINES
from seqmodels.scan import scan

OUT = 2


def weighted(y: Tensor) -> Tensor:
    """A number to which every output counts differently, and not in proportion."""
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return (weights * y + 0.3 * y.square()).sum()


@pytest.mark.parametrize("engine", list(ENGINES))
def test_the_recursion_is_what_autograd_and_every_engine_find(engine: str) -> None:
    torch.manual_seed(0)
    cell = RNNCell(INPUT, HIDDEN).double()
    V, c = torch.randn(OUT, HIDDEN).double(), torch.randn(OUT).double()
    x, first = sequence(), random_state(cell)
    if ENGINES[engine].why_not(cell, x, first, None) is not None:
        pytest.skip(f"{engine} does not run an RNN here")
    for tensor in (V, c, first.h):
        tensor.requires_grad_()
    y, _ = ENGINES[engine](cell, x, first)
    outputs = y @ V.T + c
    assert cell.bias_ih is not None and cell.bias_hh is not None
    wanted = (cell.weight_ih, cell.weight_hh, cell.bias_ih, V, c, first.h)
    expected = torch.autograd.grad(weighted(outputs), wanted)

    def grad_outputs(o: Tensor) -> Tensor:
        return torch.func.grad(weighted)(o)

    with torch.no_grad():
        bias = cell.bias_ih + cell.bias_hh
        found_outputs, found = rnn_bptt(
            cell.weight_ih, cell.weight_hh, bias, V, c, x, grad_outputs, first.h
        )
    torch.testing.assert_close(found_outputs, outputs.detach(), rtol=1e-12, atol=1e-13)
    for name, a, b in zip(found._fields[1:], found[1:], expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_the_gradient_of_every_state_is_the_one_that_autograd_hides() -> None:
    cell = RNNCell(INPUT, HIDDEN).double()
    V, c = torch.eye(HIDDEN).double(), torch.zeros(HIDDEN).double()
    x, state = sequence(), None
    states = []
    for step in x.split(1):
        _, state = scan(cell, step, state)
        state.h.retain_grad()
        states.append(state.h)
    weighted(torch.stack(states)).backward()
    assert cell.bias_ih is not None and cell.bias_hh is not None
    bias = (cell.bias_ih + cell.bias_hh).detach()
    with torch.no_grad():
        _, found = rnn_bptt(
            cell.weight_ih, cell.weight_hh, bias, V, c, x, torch.func.grad(weighted)
        )
    torch.testing.assert_close(found.states, torch.stack([s.grad for s in states]))


@each_trained_cell
def test_a_shared_gradient_is_the_sum_of_the_copies(case: Case) -> None:
    cell, x = case.make(), sequence(4, 2)
    state = random_state(cell, 2)
    copies = untied_gradients(cell, x, weighted, state)
    shared = torch.autograd.grad(
        weighted(scan(cell, x, state)[0]), list(cell.parameters()), materialize_grads=True
    )
    assert list(copies) == [name for name, _ in cell.named_parameters()]
    for (name, grads), expected in zip(copies.items(), shared, strict=True):
        assert grads.shape == (4, *expected.shape), name
        torch.testing.assert_close(grads.sum(0), expected, rtol=1e-9, atol=1e-11)


def test_every_copy_counts() -> None:
    """No step's copy is without a part in the gradient of the recurrent weights."""
    copies = untied_gradients(RNNCell(INPUT, HIDDEN).double(), sequence(), weighted)
    assert not copies["weight_hh"][0].any()  # the state before the first step is zero
    assert all(g.any() for g in copies["weight_hh"][1:])


@each_trained_cell
def test_truncation_ends_where_nothing_is_cut(case: Case) -> None:
    cell, x = case.make(), sequence(8, 3)
    found = truncation(cell, x, lambda y: weighted(y[-1]), [1, 2, 4, 8, 100])
    assert [t.horizon for t in found] == [1, 2, 4, 8, 100]
    for whole in found[3:]:
        assert whole.angle < 1e-5
        assert whole.ratio == pytest.approx(1.0, abs=1e-12)
    assert 0.0 <= max(t.angle for t in found) <= 180.0


def test_a_longer_horizon_comes_closer() -> None:
    cell, x = RNNCell(INPUT, HIDDEN).double(), sequence(16, 3)
    angles = [t.angle for t in truncation(cell, x, lambda y: weighted(y[-1]), [1, 2, 4, 8, 16])]
    assert angles == sorted(angles, reverse=True)
    assert angles[0] > 1.0


def test_what_cannot_be_compared_is_refused() -> None:
    cell = RNNCell(INPUT, HIDDEN).double()
    with pytest.raises(ValueError, match="at least 1 step, got 0"):
        truncation(cell, sequence(), weighted, [0])
    with pytest.raises(ValueError, match="gradient is zero"):
        truncation(cell, sequence(), lambda y: 0.0 * y.sum(), [1])
