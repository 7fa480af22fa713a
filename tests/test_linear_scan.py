"""The scan of linear recurrences, and the engine that runs cells on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cell_cases import CASES, INPUT, Case, assert_same, gradients, random_state, run, sequence
from seqmodels.cells import Cell, LSTMCell, MinGRUCell
from seqmodels.cells.zoneout import Zoneout
from seqmodels.engines import ENGINES, EngineError, choose
from seqmodels.engines import linear_scan as module
from seqmodels.engines.linear_scan import CHUNK, linear_scan
from seqmodels.engines.parallel import pays
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

LINEAR = [case for case in CASES if case.kind.linear is not Cell.linear]
each_linear = pytest.mark.parametrize("case", LINEAR, ids=lambda case: case.name)
# Within a chunk, at its end, chunks alone, a rest, two levels, three.
LENGTHS = [1, 2, CHUNK, CHUNK + 1, 3 * CHUNK, 5 * CHUNK + 7, CHUNK**2, CHUNK**2 + 50, 17**3]
each_kind = pytest.mark.parametrize("kind", [torch.float64, torch.complex128], ids=str)


def drawn(steps: int, kind: torch.dtype = torch.float64, size: int = 3) -> tuple[Tensor, ...]:
    """a inside the unit circle, b and the first state."""
    generator = torch.Generator().manual_seed(steps)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=kind)

    a = numbers(steps, 2, size)
    return a / (1 + a.abs()), numbers(steps, 2, size), numbers(2, size)


def loop(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    states = []
    for a_t, b_t in zip(a, b, strict=True):
        first = a_t * first + b_t
        states.append(first)
    return torch.stack(states)


def test_the_linear_cells_are_found() -> None:
    assert {"min_gru", "min_lstm", "lru"} <= {case.name for case in LINEAR}


@each_kind
@pytest.mark.parametrize("steps", LENGTHS)
def test_the_scan_is_the_loop_with_its_gradients(steps: int, kind: torch.dtype) -> None:
    inputs = [t.requires_grad_() for t in drawn(steps, kind)]
    s, expected = linear_scan(*inputs), loop(*inputs)
    torch.testing.assert_close(s, expected, rtol=1e-12, atol=1e-13)
    weight = torch.randn_like(expected)
    found = torch.autograd.grad(s, inputs, weight)
    torch.testing.assert_close(
        found, torch.autograd.grad(expected, inputs, weight), rtol=1e-10, atol=1e-12
    )


@each_kind
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_first_and_second_gradients_are_those_of_differences(
    steps: int, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)  # three levels in seven steps
    inputs = [t.requires_grad_() for t in drawn(steps, kind, size=1)]
    assert torch.autograd.gradcheck(linear_scan, inputs)
    assert torch.autograd.gradgradcheck(linear_scan, inputs)


def test_the_wide_loop_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [t.requires_grad_() for t in drawn(100)]
    s = linear_scan(*inputs)
    grads = torch.autograd.grad(s.sum(), inputs)
    monkeypatch.setattr(module, "WIDE", 1)
    wide = linear_scan(*inputs)
    torch.testing.assert_close(wide, s)
    torch.testing.assert_close(torch.autograd.grad(wide.sum(), inputs), grads)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1.0, 1.0])
def test_products_that_vanish_or_never_shrink_are_harmless(value: float) -> None:
    a = torch.full((2000, 1, 2), value)
    b = torch.linspace(-1, 1, 4000).reshape(2000, 1, 2)
    first = torch.full((1, 2), 3.0)
    expected = loop(a.double(), b.double(), first.double())
    torch.testing.assert_close(linear_scan(a, b, first).double(), expected, rtol=1e-5, atol=1e-3)


def test_one_is_carried_bit_for_bit() -> None:
    first = drawn(1)[2]
    s = linear_scan(torch.ones(700, 2, 3).double(), torch.zeros(700, 2, 3).double(), first)
    assert torch.equal(s, first.expand(700, 2, 3))


@each_linear
@pytest.mark.parametrize("steps", [CHUNK, 5 * CHUNK + 3, CHUNK**2 + 20])
@pytest.mark.parametrize("masked", [False, True], ids=["full", "gaps"])
def test_long_sequences_agree_with_the_reference(case: Case, steps: int, masked: bool) -> None:
    """Masks with gaps, and a sequence with no step at all."""
    cell, x = case.make(), sequence(steps, 3)
    state = random_state(cell, 3)
    keep = None
    if masked:
        keep = torch.rand(steps, 3, generator=torch.Generator().manual_seed(0)) < 0.6
        keep[:, 1] = False
        x = x.masked_fill(~keep.unsqueeze(-1), float("nan"))

    def found(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return run("parallel", cell, x, state, keep)

    def expected(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return scan(cell, x, state, keep=keep)

    values = gradients(found, cell, x, state)
    assert_same(values, gradients(expected, cell, x, state))
    if masked:
        _, last = found(cell, x, state)
        for a, b in zip(last, state, strict=True):
            assert torch.equal(a[1], b[1])


@each_linear
def test_a_gradient_can_be_differentiated(case: Case) -> None:
    cell, x = case.make(2, 3), sequence(20, 2, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: run("parallel", cell, x)[0], x)


def test_single_precision_is_as_near_as_the_loop() -> None:
    torch.manual_seed(0)
    cell, x = MinGRUCell(64, 64), torch.randn(4096, 1, 64)
    y, _ = run("parallel", cell, x)
    exact, _ = run("parallel", cell.double(), x.double())
    assert (y - exact).abs().max() < 1e-5


def test_the_last_state_does_not_hold_on_to_the_sequence() -> None:
    _, last = run("parallel", MinGRUCell(3, 4), torch.zeros(50, 2, 3))
    assert last.h.untyped_storage().nbytes() == 2 * 4 * 4


def test_other_cells_are_refused() -> None:
    with pytest.raises(EngineError, match="'parallel' cannot run this call of LSTMCell: it runs"):
        choose("parallel", LSTMCell(INPUT, 5).double(), sequence(), None, None)


def test_a_wrapper_is_no_linear_cell() -> None:
    cell = Zoneout(MinGRUCell(INPUT, 5).double(), 0.3)
    assert ENGINES["parallel"].why_not(cell, sequence(), None, None) is not None


class Changed(MinGRUCell):
    """Another equation, and not a word about it."""

    def prepare(self) -> Any:
        (stage,) = super().prepare()
        return (type(stage)(stage.operator, lambda gx, gh, s: type(s)(s.h + gx[..., :5])),)


def test_a_subclass_that_changes_the_equation_is_refused() -> None:
    reason = ENGINES["parallel"].why_not(Changed(INPUT, 5).double(), sequence(), None, None)
    assert reason is not None and "does not say anew" in reason


def test_the_layer_runs_it_by_name_in_both_directions() -> None:
    torch.manual_seed(0)
    cell = MinGRUCell(3, 4).double()
    x, lengths = sequence(40, 2).transpose(0, 1), torch.tensor([40, 13])
    for reverse in (False, True):
        layer = Recurrent(cell, reverse=reverse, engine="parallel")
        y, state = layer(x, lengths=lengths)
        assert layer.engine_used == "parallel"
        expected, last = Recurrent(cell, reverse=reverse, engine="eager")(x, lengths=lengths)
        torch.testing.assert_close((y, *state), (expected, *last))


@pytest.mark.parametrize(
    ("shape", "printed", "mixes", "taken"),
    [
        ((1, 1, 64), False, False, False),  # single steps
        ((4, 1, 64), False, False, True),
        ((4096, 1, 64), False, True, True),
        ((4096, 1, 64), True, False, False),
        ((1024, 1, 256), True, True, True),
        ((1024, 1, 64), True, True, False),
        ((1024, 4, 256), True, True, False),
    ],
)
def test_the_rule_of_auto(
    shape: tuple[int, int, int], printed: bool, mixes: bool, taken: bool
) -> None:
    assert pays(*shape, printed=printed, mixes=mixes) is taken


@each_linear
def test_auto_takes_it_where_no_loop_is_printed(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("parallel", "generated"):
        monkeypatch.setattr(f"seqmodels.engines.{place}.compiler", lambda: None)
    cell = case.make(3, 64)
    for steps in (10, 1000):  # few states, and many
        assert choose("auto", cell, sequence(steps, 2), None, None).name == "parallel"
    assert choose("auto", cell, sequence(1, 2), None, None).name == "eager"
