"""One step as a function of a vector: the same step as the loop's, and its true derivative."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from cell_cases import Case, each_cell, random_state, sequence
from seqmodels.analysis.steps import (
    Step,
    flatten,
    jacobian,
    push,
    step,
    step_jacobian,
    unflatten,
)
from seqmodels.cells import LSTMCell, RNNCell
from seqmodels.scan import scan


@each_cell
def test_a_step_is_the_loops(case: Case) -> None:
    cell, x = case.make(), sequence(steps=1)
    state = random_state(cell)
    flat = flatten(state)
    assert flatten(unflatten(flat, state)).equal(flat)
    _, last = scan(cell, x, state)
    own = Step(cell)
    made = own(cell.project(x)[0], flat)
    torch.testing.assert_close(made, flatten(last), rtol=1e-13, atol=1e-14)
    assert made.equal(step(cell, cell.project(x)[0], flat))
    assert own.size == flat.shape[1] and type(own.state(made)) is type(last)
    assert own.initial(4).equal(flatten(cell.initial_state(4, x)))


@each_cell
def test_the_jacobian_is_that_of_differences(case: Case) -> None:
    cell, x = case.make(), sequence(steps=1, batch=2)
    flat, gates_x = flatten(random_state(cell, batch=2)).detach(), cell.project(x)[0].detach()
    with torch.no_grad():
        found, small = step_jacobian(cell, gates_x, flat), 1e-6
        columns = [
            (step(cell, gates_x, flat + small * e) - step(cell, gates_x, flat - small * e))
            / (2 * small)
            for e in torch.eye(flat.shape[1], dtype=torch.float64)
        ]
    torch.testing.assert_close(found, torch.stack(columns, dim=2), rtol=1e-6, atol=1e-8)


def test_the_jacobian_of_a_tanh_network_is_the_formula() -> None:
    torch.manual_seed(0)
    cell = RNNCell(3, 4).double()
    gates_x, s = cell.project(sequence(steps=1, size=3))[0], torch.randn(4, 4).double()
    new = step(cell, gates_x, s)
    expected = (1 - new**2).unsqueeze(2) * cell.weight_hh
    torch.testing.assert_close(step_jacobian(cell, gates_x, s), expected)


def test_directions_and_pieces_agree_with_the_whole() -> None:
    def f(s: Tensor, a: Tensor) -> Tensor:
        return torch.stack((s[:, 0] * s[:, 1] * a[:, 0], s.sin().sum(1), s[:, 2]), 1)

    torch.manual_seed(0)
    s, a, v = torch.randn(5, 3).double(), torch.randn(5, 1).double(), torch.randn(5, 3, 2).double()
    whole = jacobian(f, s, a)
    assert jacobian(f, s, a, rows=1).equal(whole)
    value, pushed = push(f, s, v, a)
    torch.testing.assert_close(value, f(s, a))
    torch.testing.assert_close(pushed, whole @ v)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 8\), the fields h, c"):
        step(LSTMCell(3, 4), torch.zeros(2, 16), torch.zeros(2, 7))

    class Counted(NamedTuple):
        h: Tensor
        count: Tensor

    class Counter(RNNCell):
        def initial_state(self, batch_size: int, like: Tensor) -> Counted:  # type: ignore[override]
            return Counted(like.new_zeros(batch_size, 4), torch.zeros(batch_size, 1).long())

    with pytest.raises(ValueError, match=r"Counter has state\.count of torch\.int64"):
        Step(Counter(3, 4))
