"""Engines agree with the reference, run where they may, and never run where they may not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cell_cases import (
    CASES,
    HIDDEN,
    INPUT,
    PAIRS,
    Case,
    assert_same,
    each_cell,
    gradients,
    prefix,
    random_state,
    run,
    sequence,
)
from seqmodels.cells import Cell, GRUCell, LSTMCell, RNNCell
from seqmodels.engines import ENGINES, NAMES, EngineError, check_name, choose
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

OTHERS = [(case, engine) for case, engine in PAIRS if engine != "eager"]
each_other = pytest.mark.parametrize(
    ("case", "engine"), OTHERS, ids=[f"{case.name}:{engine}" for case, engine in OTHERS]
)
# T, B, lengths: odd, one step, B = H, one sequence, ends at every step, equal and full lengths.
SHAPES: list[tuple[int, int, list[int] | None]] = [
    (7, 4, None),
    (1, 4, None),
    (6, HIDDEN, None),
    (7, 1, None),
    (7, 4, [7, 1, 4, 4]),
    (7, 4, [2, 3, 5, 1]),
    (6, HIDDEN, [6, 6, 2, 6, 1]),
    (7, 2, [3, 3]),
    (7, 2, [7, 7]),
    (1, 3, [1, 1, 1]),
    (5, 1, [2]),
]


@each_other
@pytest.mark.parametrize("given", [False, True], ids=["initial", "given"])
@pytest.mark.parametrize(("steps", "batch", "lengths"), SHAPES)
def test_agrees_with_the_reference(
    case: Case, engine: str, steps: int, batch: int, lengths: list[int] | None, given: bool
) -> None:
    cell, x = case.make(), sequence(steps, batch)
    state = random_state(cell, batch) if given else None
    keep = None if lengths is None else prefix(lengths, steps)

    def reference(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return scan(cell, x, state, keep=keep)

    def engines(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return run(engine, cell, x, state, keep)

    assert_same(gradients(engines, cell, x, state), gradients(reference, cell, x, state))


@each_other
def test_agrees_where_the_input_is_no_contiguous_tensor(case: Case, engine: str) -> None:
    cell, x = case.make(), sequence(4, 7).transpose(0, 1)
    assert not x.is_contiguous()
    torch.testing.assert_close(run(engine, cell, x)[0], scan(cell, x)[0])


@each_other
def test_agrees_without_gradients_and_in_eval_mode(case: Case, engine: str) -> None:
    cell, x, keep = case.make(), sequence(), prefix([7, 1, 4, 4], 7)
    y, _ = scan(cell, x, keep=keep)
    with torch.no_grad():
        torch.testing.assert_close(run(engine, cell, x, None, keep)[0], y)
    cell.eval()  # gradients must still be there: nothing but dropout depends on the mode
    found = gradients(lambda c, x, s: run(engine, c, x, s, keep), cell, x, None)
    assert_same(found, gradients(lambda c, x, s: scan(c, x, s, keep=keep), cell, x, None))


def native_runs(case: Case) -> bool:
    return case.kind in (LSTMCell, GRUCell) or (
        case.kind is RNNCell and case.arguments["nonlinearity"] != "sigmoid"
    )


@each_cell
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4]], ids=["full", "lengths"])
def test_the_fast_path_fires_where_there_is_one(
    case: Case, lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name and by what is called: the reference loop is not touched."""
    layer = Recurrent(case.make())
    sizes = None if lengths is None else torch.tensor(lengths)
    if native_runs(case) or case.kind.linear is not Cell.linear:
        monkeypatch.setattr("seqmodels.engines.eager.scan", None)
    layer(sequence().transpose(0, 1), None, sizes)
    linear = case.kind.linear is not Cell.linear
    quick = "native" if native_runs(case) else "parallel" if linear else "eager"
    assert layer.engine_used == quick


@each_cell
@pytest.mark.parametrize("engine", list(ENGINES))
def test_a_named_engine_runs_or_raises(case: Case, engine: str) -> None:
    layer = Recurrent(case.make(), engine=engine)
    x = sequence().transpose(0, 1)
    linear = case.kind.linear is not Cell.linear
    if (engine == "native" and not native_runs(case)) or (engine == "parallel" and not linear):
        with pytest.raises(EngineError, match=f"'{engine}' cannot run .*; use 'auto' or .*'eager'"):
            layer(x)
        assert layer.engine_used is None
    else:
        layer(x)
        assert layer.engine_used == engine


def test_the_reason_names_the_nonlinearity() -> None:
    cell = RNNCell(INPUT, HIDDEN, nonlinearity="sigmoid").double()
    with pytest.raises(EngineError, match="no kernel for an RNN with nonlinearity='sigmoid'"):
        choose("native", cell, sequence(), None, None)


def test_native_refuses_masks_that_are_no_prefix() -> None:
    cell = LSTMCell(INPUT, HIDDEN).double()
    for row, reason in (([1, 0, 1], "prefix"), ([0, 1, 1], "first step"), ([0, 0, 0], "first")):
        keep = torch.tensor([row, [1, 1, 1]]).bool().t()  # (T, B)
        x = sequence(3, 2)
        assert choose("auto", cell, x, None, keep).name == "eager"
        with pytest.raises(EngineError, match=reason):
            choose("native", cell, x, None, keep)


class Doubled(GRUCell):
    """Another equation under the name of a kind that has a kernel."""

    def project(self, x: Tensor) -> Tensor:
        return 2 * super().project(x)


def test_a_subclass_runs_its_own_equation() -> None:
    cell = Doubled(INPUT, HIDDEN).double()
    with pytest.raises(EngineError, match="no kernel for the equation of Doubled"):
        choose("native", cell, sequence(), None, None)
    layer = Recurrent(cell)
    y, _ = layer(sequence().transpose(0, 1))
    assert layer.engine_used == "eager"
    torch.testing.assert_close(y.transpose(0, 1), scan(cell, sequence())[0])


@pytest.mark.parametrize("name", ["", "Native", "fast", "cudnn"])
def test_an_unknown_engine_is_refused_when_the_layer_is_made(name: str) -> None:
    names = "out of auto, generated, native, parallel, compiled, eager, got"
    with pytest.raises(ValueError, match=names):
        check_name(name)
    with pytest.raises(ValueError, match=names):
        Recurrent(RNNCell(2, 3), engine=name)


def test_auto_and_every_engine_can_be_named() -> None:
    assert set(NAMES) == {"auto", *ENGINES}
    for name, engine in ENGINES.items():
        assert engine.name == name


@each_cell
def test_misfits_are_reported_before_an_engine_is_sought(case: Case) -> None:
    cell = case.make()
    for name in NAMES:
        with pytest.raises(ValueError, match=r"state\.h of shape") as caught:
            choose(name, cell, sequence(), random_state(cell, 3), None)
        assert not isinstance(caught.value, EngineError)


def test_native_shares_the_parameters_and_copies_nothing() -> None:
    """What the kernel is given are the parameters themselves."""
    cell = LSTMCell(INPUT, HIDDEN)
    pointers = [p.data_ptr() for p in cell.parameters()]
    seen: list[int] = []
    original = torch._VF.lstm

    def spy(x: Tensor, hidden: Any, weights: list[Tensor], *rest: Any) -> Any:
        seen.extend(w.data_ptr() for w in weights)
        return original(x, hidden, weights, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqmodels.engines.native.lstm", spy)
        ENGINES["native"](cell, sequence().float())
    assert seen == pointers


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN needs a GPU")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4]], ids=["full", "lengths"])
def test_cuda_agrees_with_the_reference(case: Case, lengths: list[int] | None) -> None:
    """Warnings are errors, so this also says that the weights lie as cuDNN wants them."""
    cell = case.make().cuda()
    layer = Recurrent(cell)
    x = sequence().transpose(0, 1).cuda()
    sizes = None if lengths is None else torch.tensor(lengths)
    parameters = list(cell.parameters())
    y, last = layer(x, None, sizes)
    assert layer.engine_used == ("native" if native_runs(case) else "eager")
    assert all(a is b for a, b in zip(parameters, cell.parameters(), strict=True))
    found = torch.autograd.grad(y.square().sum() + last[0].sum(), parameters)
    layer.engine = "eager"
    y_eager, last_eager = layer(x, None, sizes)
    expected = torch.autograd.grad(y_eager.square().sum() + last_eager[0].sum(), parameters)
    torch.testing.assert_close((y, *last, *found), (y_eager, *last_eager, *expected))
