"""More lags: what the state holds, which outputs are read, and what cells may have them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from cell_cases import (
    HIDDEN,
    INPUT,
    assert_same,
    gradients,
    prefix,
    random_state,
    run,
    sequence,
)
from seqmodels.cells import (
    CoRNNCell,
    Delay,
    GRUCell,
    IndRNNCell,
    LEMCell,
    LSTMCell,
    MinGRUCell,
    RNNCell,
    SLSTMCell,
)
from seqmodels.engines.kernels.build import compiler
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

KINDS = [RNNCell, LSTMCell, GRUCell]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
each_engine = pytest.mark.parametrize("engine", ["eager", "compiled"])


def delayed(kind: Any, *lags: int) -> Delay:
    torch.manual_seed(0)
    return Delay(INPUT, HIDDEN, cell=kind, lags=lags).double()


@each_kind
@each_engine
def test_the_lag_of_one_step_is_the_cell_itself(kind: Any, engine: str) -> None:
    cell, state = delayed(kind, 1), random_state(delayed(kind, 1))
    inner: Any = type(random_state(cell.cell))
    ours = gradients(partial(run, engine), cell, sequence(), state)
    theirs = gradients(partial(run, engine), cell.cell, sequence(), inner(*state[:-1]))
    ours = {n.replace("cell.", ""): value for n, value in ours.items() if "past" not in n}
    assert list(ours) == list(theirs)
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        assert torch.equal(a, b)


@each_kind
@each_engine
def test_further_lags_without_weight_change_nothing(kind: Any, engine: str) -> None:
    cell = delayed(kind, 1, 2, 5)
    nn.init.zeros_(cell.weight_hh_2)
    nn.init.zeros_(cell.weight_hh_5)
    y, _ = run(engine, cell, sequence())
    expected, _ = scan(cell.cell, sequence())
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)


@each_kind
@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_the_state_remembers_the_outputs(kind: Any, steps: int) -> None:
    cell = delayed(kind, 1, 4)
    state = random_state(cell)
    y, last = scan(cell, sequence(steps), state)
    outputs = [*reversed(y.unbind(0)), state.h, *state.past.split(HIDDEN, 1)]
    assert torch.equal(last.h, outputs[0])
    assert torch.equal(last.past, torch.cat(outputs[1:4], 1))


class Seen:
    """Counts how much of the past a step is given."""

    def __init__(self, update: Any) -> None:
        self.update, self.widths = update, set[int]()

    def __call__(self, gates_x: Any, gates_h: Any, state: Any, *params: Any) -> Any:
        self.widths.add(state.past.shape[-1])
        return self.update(gates_x, gates_h, state, *params)


@pytest.mark.parametrize("gaps", [False, True])
def test_no_step_copies_the_past_unless_the_mask_has_gaps(gaps: bool) -> None:
    cell = delayed(RNNCell, 1, 4)
    keep = prefix([7, 3, 1, 5], 7)
    keep[2, 0] = not gaps
    (stage,) = cell.prepare()
    seen = Seen(stage.update)
    cell.prepare = lambda: (replace(stage, update=seen),)  # type: ignore[method-assign]
    scan(cell, sequence(), None, keep=keep)
    assert seen.widths == ({3 * HIDDEN} if gaps else {0})


# A kernel is built for one of them.
HELD = [*((kind, engine) for kind in KINDS for engine in ("eager", "compiled"))]
HELD += [(GRUCell, "generated")] if compiler() is not None else []


@pytest.mark.parametrize(("kind", "engine"), HELD)
@pytest.mark.parametrize("lags", [(2, 3), (1, 9)], ids=str)
@pytest.mark.parametrize("lengths", [None, [7, 1, 2, 5]], ids=["full", "lengths"])
def test_what_engines_hold_is_what_the_state_would(
    kind: Any, engine: str, lags: tuple[int, ...], lengths: Any
) -> None:
    cell, keep = delayed(kind, *lags), None if lengths is None else prefix(lengths, 7)

    def call(name: str, *given: Any) -> Any:
        return run(name, *given, keep)

    found = gradients(partial(call, engine), cell, sequence(), random_state(cell))
    cell.past_apart = False
    expected = gradients(partial(call, "eager"), cell, sequence(), random_state(cell))
    assert_same(found, expected)


@pytest.mark.parametrize("engine", ["eager", "compiled", "generated"])
@pytest.mark.parametrize("option", ["zoneout", "weight_drop", "recurrent_dropout"])
def test_regularisers_go_round_it(option: str, engine: str) -> None:
    if engine == "generated" and compiler() is None:
        pytest.skip("no compiler")
    results = []
    for name in ("eager", engine):
        options: Any = {option: 0.4}
        layer = Recurrent(delayed(RNNCell, 1, 3), engine=name, **options)
        torch.manual_seed(1)
        y, last = layer(sequence().transpose(0, 1))
        grads = torch.autograd.grad(y.sum() + last.past.sum(), list(layer.parameters()))
        results.append((y, *last, *grads))
        if option != "recurrent_dropout":
            assert torch.equal(last.past, torch.cat((y[:, -2], y[:, -3]), 1))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


FORMS: dict[str, Any] = {
    "diagonal": IndRNNCell,
    "blocks": partial(SLSTMCell, num_heads=1),
    "two stages": LEMCell,
    "two fields": CoRNNCell,
}


@pytest.mark.parametrize("form", FORMS)
@each_engine
def test_any_cell_with_a_recurrent_map(form: str, engine: str) -> None:
    cell = delayed(FORMS[form], 1, 3)
    found = gradients(partial(run, engine), cell, sequence(), random_state(cell))
    cell.past_apart = False
    expected = gradients(partial(run, "eager"), cell, sequence(), random_state(cell))
    assert_same(found, expected)
    assert expected["grad weight_hh_3"].any()
    nn.init.zeros_(cell.get_parameter("weight_hh_3"))
    torch.testing.assert_close(run(engine, cell, sequence())[0], scan(cell.cell, sequence())[0])


@each_engine
def test_the_outputs_of_the_lags_are_read_and_no_others(engine: str) -> None:
    cell = delayed(RNNCell, 2, 3)
    state = random_state(cell)
    first, _ = run(engine, cell, sequence(1), state)
    for lag, read in {1: False, 2: True, 3: True}.items():
        h, past = state.h.clone(), state.past.clone()
        (h if lag == 1 else past.split(HIDDEN, 1)[lag - 2]).add_(1)
        other = state._replace(h=h, past=past)
        assert torch.equal(run(engine, cell, sequence(1), other)[0], first) != read


def test_a_gradient_takes_the_short_way() -> None:
    """Through a lag of 4 the first input reaches the fifth output although W is zero."""
    cell, x = delayed(RNNCell, 1, 4), sequence(6).requires_grad_()
    nn.init.zeros_(cell.weight_hh)
    for t, reached in enumerate([True, False, False, False, True, False]):
        (grad,) = torch.autograd.grad(scan(cell, x)[0][t].sum(), x)
        assert bool(grad[0].any()) == reached


@pytest.mark.parametrize(
    ("kind", "lags", "reason"),
    [
        (MinGRUCell, (1, 2), "MinGRUCell has no recurrent map: give its layer a dilation"),
        (CoRNNCell, (2, 3), "CoRNNCell reads h, z of the last step: begin lags with 1"),
        (partial(Delay, cell=RNNCell), (1, 2), "Delay reads h, past instead of h"),
    ],
)
def test_cells_of_another_form_are_refused(kind: Any, lags: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        delayed(kind, *lags)


@pytest.mark.parametrize("lags", [(), (0, 1), (-1,), (2, 1), (1, 1), (1, 4097), (1.0, 2), (True,)])
def test_lags_that_make_no_sense_are_refused(lags: Any) -> None:
    with pytest.raises(ValueError, match=r"lags must be distinct steps from 1 to 4096"):
        delayed(RNNCell, *lags)


def test_a_state_of_other_lags_is_refused() -> None:
    with pytest.raises(ValueError, match=r"state.past of shape \(4, 5\)"):
        Recurrent(delayed(RNNCell, 1, 2))(
            sequence().transpose(0, 1), random_state(delayed(RNNCell, 1, 3))
        )
