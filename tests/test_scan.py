"""The contract of every cell on every engine: what running over time means."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from cell_cases import (
    HIDDEN,
    PAIRS,
    Case,
    assert_same,
    each_cell,
    each_pair,
    gradients,
    prefix,
    random_state,
    run,
    sequence,
)
from seqmodels.cells import Cell, Dense, Diagonal, Stage
from seqmodels.scan import scan

LENGTHS = [7, 1, 4, 4]


def same(a: Any, b: Any) -> None:
    torch.testing.assert_close(tuple(a), tuple(b), rtol=1e-10, atol=1e-12)


# By default the reference on all of it, and what has a way back of its own where there is padding.
GRADCHECKS = [
    pytest.param(
        case,
        engine,
        lengths,
        id=f"{'full' if lengths is None else 'lengths'}-{case.name}:{engine}",
        marks=[]
        if engine == "eager" or (lengths is not None and engine != "compiled")
        else [pytest.mark.slow],
    )
    for case, engine in PAIRS
    for lengths in (None, [3, 1, 2])
]


@pytest.mark.parametrize(("case", "engine", "lengths"), GRADCHECKS)
def test_gradcheck(case: Case, engine: str, lengths: list[int] | None) -> None:
    cell = case.make(2, 3)
    x, state = sequence(3, 3, 2), random_state(cell, 3)
    keep = None if lengths is None else prefix(lengths, 3)
    names = [name for name, _ in cell.named_parameters()]

    def call(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        fields, values = rest[: len(state)], rest[len(state) :]
        # Through the parameters in place, so that engines see the cell that they know.
        loaded = case.make(2, 3)
        for name, value in zip(names, values, strict=True):
            path, _, own = name.rpartition(".")
            owner = loaded.get_submodule(path)
            delattr(owner, own)
            setattr(owner, own, value)
        y, last = run(engine, loaded, x, type(state)(*fields), keep)
        return (y, *last)

    inputs = (x, *state, *(p.detach() for p in cell.parameters()))
    assert torch.autograd.gradcheck(call, tuple(i.clone().requires_grad_() for i in inputs))


@each_pair
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_sequence_is_its_parts_with_the_state_carried(case: Case, engine: str, cut: int) -> None:
    cell, x = case.make(), sequence()
    y, last = run(engine, cell, x)
    first, middle = run(engine, cell, x[:cut])
    second, end = run(engine, cell, x[cut:], middle)
    same([torch.cat((first, second)), *end], [y, *last])
    # The state matters: without it the second part differs.
    assert not torch.allclose(run(engine, cell, x[cut:])[0], second)


@each_pair
def test_one_step_at_a_time_is_the_whole_sequence(case: Case, engine: str) -> None:
    cell, x = case.make(), sequence()
    y, last = run(engine, cell, x)
    state, steps = None, []
    for step in x.split(1):
        output, state = run(engine, cell, step, state)
        steps.append(output)
    same([torch.cat(steps), *state], [y, *last])  # type: ignore[misc]


@each_pair
def test_the_output_of_the_last_step_is_in_the_state(case: Case, engine: str) -> None:
    y, last = run(engine, case.make(), sequence())
    assert torch.equal(y[-1], last[0])


@each_pair
@pytest.mark.parametrize("start", [False, True], ids=["initial", "given"])
def test_padding_reaches_nothing(case: Case, engine: str, start: bool) -> None:
    """NaN, and anything else, at padded steps changes no output, state or gradient."""
    cell, keep = case.make(), prefix(LENGTHS, 7)
    state = random_state(cell) if start else None
    padded = ~keep.unsqueeze(-1)

    def call(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return run(engine, cell, x, state, keep)

    clean = gradients(call, cell, sequence().masked_fill(padded, 0.0), state)
    for value in (float("nan"), float("inf"), 1e3):
        found = gradients(call, cell, sequence().masked_fill(padded, value), state)
        for name in clean:
            assert torch.equal(found[name], clean[name]), name
    assert not clean["grad x"].masked_select(padded).any()
    assert not clean["y"].masked_select(padded).any()
    assert all(value.isfinite().all() for value in clean.values())


@each_pair
def test_padded_steps_leave_the_state_bit_for_bit(case: Case, engine: str) -> None:
    cell, x, keep = case.make(), sequence(), prefix([4, 1, 3, 2], 7)
    state = random_state(cell)
    _, short = run(engine, cell, x[:4], state, keep[:4])
    _, padded = run(engine, cell, x, state, keep)
    for a, b in zip(short, padded, strict=True):
        assert torch.equal(a, b)


@each_pair
def test_a_batch_is_its_sequences_one_by_one(case: Case, engine: str) -> None:
    """Padding, lengths and neighbours are of no account to a sequence."""
    cell, x, state = case.make(), sequence(), random_state(case.make())
    y, last = run(engine, cell, x, state, prefix(LENGTHS, 7))
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1)
        own = type(state)(*(field[one] for field in state))
        alone, end = run(engine, cell, x[:length, one], own)
        same([y[:length, one], *(f[one] for f in last)], [alone, *end])


@each_pair
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_the_order_of_a_batch_is_of_no_account(
    case: Case, engine: str, lengths: list[int] | None
) -> None:
    cell, x, state = case.make(), sequence(), random_state(case.make())
    order = torch.tensor([2, 0, 3, 1])
    keep = None if lengths is None else prefix(lengths, 7)
    y, last = run(engine, cell, x, state, keep)
    mixed = type(state)(*(field[order] for field in state))
    found, end = run(engine, cell, x[:, order], mixed, None if keep is None else keep[:, order])
    same([found, *end], [y[:, order], *(f[order] for f in last)])


@each_pair
def test_no_output_depends_on_a_later_input(case: Case, engine: str) -> None:
    cell, t = case.make(), 3
    x = sequence().requires_grad_()
    y, _ = run(engine, cell, x)
    (grad,) = torch.autograd.grad(y[t].square().sum(), x)
    assert not grad[t + 1 :].any()
    # And on every earlier one: the recurrence is there.
    assert (grad[: t + 1].abs().amax((1, 2)) > 0).all()


@each_pair
def test_sequences_do_not_mix(case: Case, engine: str) -> None:
    x = sequence().requires_grad_()
    y, _ = run(engine, case.make(), x)
    (grad,) = torch.autograd.grad(y[:, 1].square().sum(), x)
    assert not grad[:, [0, 2, 3]].any() and grad[:, 1].any()


@each_pair
def test_float32_agrees_with_float64(case: Case, engine: str) -> None:
    cell, x = case.make(), sequence()
    y, _ = run(engine, cell, x)
    single, last = run(engine, cell.float(), x.float())
    assert single.dtype == torch.float32 and all(f.dtype == torch.float32 for f in last)
    torch.testing.assert_close(single.double(), y, rtol=1e-4, atol=1e-5)


@each_pair
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_autocast_runs_in_bfloat16(case: Case, engine: str, lengths: list[int] | None) -> None:
    cell, x = case.make().float(), sequence().float().requires_grad_()
    keep = None if lengths is None else prefix(lengths, 7)
    y, _ = run(engine, cell, x, None, keep)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, last = run(engine, cell, x, None, keep)
        again, _ = run(engine, cell, x, last, keep)  # what comes back can be passed on
    assert low.dtype == again.dtype == torch.float32 and last[0].dtype == torch.float32
    assert not torch.equal(low, y)
    torch.testing.assert_close(low, y, rtol=0.05, atol=0.03)
    low.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    for name, parameter in cell.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@each_cell
def test_a_step_may_be_skipped_anywhere(case: Case) -> None:
    """keep need not be a prefix for the reference: a skipped step is as if it were not there."""
    cell, x, state = case.make(), sequence(6, 1), random_state(case.make(), 1)
    keep = torch.tensor([True, False, False, True, False, True]).unsqueeze(1)
    y, last = scan(cell, x, state, keep=keep)
    expected, end = scan(cell, x[keep.squeeze(1)], state)
    same([y[keep.squeeze(1)], *last], [expected, *end])
    assert not y[~keep.squeeze(1)].any()


@each_cell
def test_double_backward(case: Case) -> None:
    cell, x = case.make(2, 3), sequence(3, 2, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: scan(cell, x)[0], x)


@each_cell
def test_arguments_are_left_as_they_were(case: Case) -> None:
    cell, x, keep = case.make(), sequence(), prefix(LENGTHS, 7)
    state = random_state(cell)
    before = [tensor.clone() for tensor in (x, keep, *state)]
    scan(cell, x, state, keep=keep)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, keep, *state), strict=True))


class PairState(NamedTuple):
    h: Tensor
    v: Tensor


class TwoStages(Cell[PairState]):
    """v moves by a product with (h, v); then h by one with the new v, and a leak."""

    def __init__(self) -> None:
        super().__init__(HIDDEN, HIDDEN)
        self.both = torch.nn.Parameter(torch.randn(HIDDEN, 2 * HIDDEN) / 3)
        self.own = torch.nn.Parameter(torch.randn(HIDDEN))
        self.leak = torch.nn.Parameter(torch.rand(HIDDEN))

    def project(self, x: Tensor) -> Tensor:
        return x

    def prepare(self) -> tuple[Stage[PairState], ...]:
        def move_v(gates_x: Tensor, gates_h: Tensor, state: PairState) -> PairState:
            return state._replace(v=torch.tanh(gates_x + gates_h))

        def move_h(gx: Tensor, gates_h: Tensor, state: PairState, leak: Tensor) -> PairState:
            return state._replace(h=leak * state.h + gates_h)

        return (
            Stage(Dense(self.both), move_v, reads=("h", "v")),
            Stage(Diagonal(self.own), move_h, reads=("v",), params=(self.leak,)),
        )

    def initial_state(self, batch_size: int, like: Tensor) -> PairState:
        zeros = like.new_zeros(batch_size, HIDDEN)
        return PairState(zeros, zeros)


def test_later_stages_see_what_earlier_ones_left() -> None:
    torch.manual_seed(0)
    cell = TwoStages().double()
    x, state = sequence(size=HIDDEN), random_state(cell)
    y, last = scan(cell, x, state)
    h, v = state
    for t in range(len(x)):
        v = torch.tanh(x[t] + torch.cat((h, v), -1) @ cell.both.t())
        h = cell.leak * h + cell.own * v
        torch.testing.assert_close(y[t], h)
    same(last, (h, v))


def test_masked_gradients_of_several_fields() -> None:
    torch.manual_seed(0)
    cell, keep = TwoStages().double(), prefix(LENGTHS, 7)
    x, state = sequence(size=HIDDEN), random_state(cell)

    def masked(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return scan(cell, x, state, keep=keep)

    def one_by_one(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        ys, lasts = [], []
        for row, length in enumerate(LENGTHS):
            own = PairState(*(field[row : row + 1] for field in state))
            y, last = scan(cell, x[:length, row : row + 1], own)
            ys.append(torch.nn.functional.pad(y, (0, 0, 0, 0, 0, 7 - length)))
            lasts.append(last)
        return torch.cat(ys, 1), PairState(*(torch.cat(f) for f in zip(*lasts, strict=True)))

    assert_same(gradients(masked, cell, x, state), gradients(one_by_one, cell, x, state))
