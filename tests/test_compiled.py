"""The general engine beyond what every engine is held to: state, stages, closures, compiling."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.registry import _BACKENDS, _COMPILER_FNS

from cell_cases import HIDDEN, INPUT, Case, assert_same, each_cell, gradients, prefix, sequence
from cell_cases import random_state as given
from seqmodels.cells import Cell, Dense, Diagonal, GRUCell, LSTMCell, RNNCell, Stage
from seqmodels.engines import ENGINES, Compiled, EngineError, choose, steps
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

GAPS = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 1, 1]]).bool()


@pytest.fixture
def engine() -> Compiled:
    return Compiled("none")


def agree(engine: Compiled, cell: Cell[Any], x: Tensor, state: Any, keep: Tensor | None) -> None:
    found = gradients(lambda c, x, s: engine(c, x, s, keep=keep), cell, x, state)
    assert_same(found, gradients(lambda c, x, s: scan(c, x, s, keep=keep), cell, x, state))


@each_cell
@pytest.mark.parametrize("start", [False, True], ids=["initial", "given"])
def test_steps_may_be_skipped_anywhere(case: Case, start: bool, engine: Compiled) -> None:
    cell, x = case.make(), sequence(5)
    state = given(cell) if start else None
    agree(engine, cell, x, state, GAPS)
    x = x.masked_fill(~GAPS.unsqueeze(-1), float("nan"))
    assert engine(cell, x, state, keep=GAPS)[0].isfinite().all()
    if state is not None:  # the second sequence has no step at all
        _, last = engine(cell, x, state, keep=GAPS)
        assert all(torch.equal(a[1], b[1]) for a, b in zip(last, state, strict=True))


class Count(NamedTuple):
    h: Tensor
    v: Tensor
    step: Tensor  # int64


def move_v(gates_x: Tensor, gates_h: Tensor, state: Count) -> Count:
    return state._replace(v=torch.tanh(gates_x + gates_h))


def move_h(
    gates_x: Tensor, gates_h: Tensor, state: Count, leak: Tensor, on: Tensor, *, scale: float
) -> Count:
    h = leak * state.h + torch.where(on, gates_h, -gates_h) + scale * gates_x / (1 + state.step)
    return Count(h, state.v, state.step + 1)


class TwoStages(Cell[Count]):
    """Two products, one of two fields; params, one of them a mask; a counter in the state."""

    def __init__(self, input_size: int = HIDDEN, hidden_size: int = HIDDEN) -> None:
        super().__init__(HIDDEN, HIDDEN)
        self.both = torch.nn.Parameter(torch.randn(HIDDEN, 2 * HIDDEN) / 3)
        self.own = torch.nn.Parameter(torch.randn(HIDDEN))
        self.leak = torch.nn.Parameter(torch.rand(HIDDEN))
        self.shift = torch.nn.Parameter(torch.randn(HIDDEN))

    def project(self, x: Tensor) -> Tensor:
        return x

    def prepare(self) -> tuple[Stage[Count], ...]:
        on = torch.arange(HIDDEN) % 2 == 0
        return (
            Stage(Dense(self.both, self.shift), move_v, reads=("h", "v")),
            Stage(
                Diagonal(self.own),
                functools.partial(move_h, scale=0.5),
                reads=("v",),
                params=(self.leak, on),
            ),
        )

    def initial_state(self, batch_size: int, like: Tensor) -> Count:
        zeros = like.new_zeros(batch_size, HIDDEN)
        return Count(zeros, zeros, torch.zeros(batch_size, 1, dtype=torch.int64))


def floats(call: Any, cell: Cell[Any], x: Tensor, state: Count) -> dict[str, Tensor]:
    """`gradients` for a state with a counter in it."""
    x, h, v = (t.detach().requires_grad_() for t in (x, state.h, state.v))
    y, last = call(cell, x, Count(h, v, state.step))
    loss = (y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum() + (last.v**2 - last.h).sum()
    names = ["x", "h", "v", *(n for n, _ in cell.named_parameters())]
    grads = torch.autograd.grad(loss, (x, h, v, *cell.parameters()))
    return {"y": y, **last._asdict(), **dict(zip((f"grad {n}" for n in names), grads, strict=True))}


@pytest.mark.parametrize("keep", [None, GAPS], ids=["full", "gaps"])
@pytest.mark.parametrize("backend", ["none", "aot_eager"])
def test_stages_fields_params_and_counters(keep: Tensor | None, backend: str) -> None:
    torch.manual_seed(0)
    cell, x, engine = TwoStages().double(), sequence(5, size=HIDDEN), Compiled(backend)
    zeros = cell.initial_state(4, x)
    state = Count(zeros.h + 0.3, zeros.v - 0.2, zeros.step + 2)
    found = floats(lambda c, x, s: engine(c, x, s, keep=keep), cell, x, state)
    assert_same(found, floats(lambda c, x, s: scan(c, x, s, keep=keep), cell, x, state))
    assert engine.why_not(cell, x, state, keep) is None


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the functions that torch.compile compiled."""
    seen: list[str] = []

    def note(graph: Any, inputs: Any) -> Any:
        seen.append("graph")
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setitem(_BACKENDS, "counting", None)
    monkeypatch.setitem(_COMPILER_FNS, "counting", note)
    steps._MADE.clear()
    yield seen
    steps._MADE.clear()
    torch._dynamo.reset()


def train(engine: Compiled, cell: Cell[Any], x: Tensor, keep: Tensor | None = None) -> None:
    engine(cell, x, None, keep=keep)[0].square().sum().backward()


@pytest.mark.parametrize("kind", [RNNCell, LSTMCell, GRUCell])
def test_an_equation_compiles_once(kind: Any, compilations: list[str]) -> None:
    """Whatever the length, the layer and its input width; forward alone needs nothing more."""
    engine = Compiled("counting")
    train(engine, kind(3, 5), torch.randn(6, 4, 3))
    assert len(compilations) == 2  # a step and its gradient
    train(engine, kind(3, 5), torch.randn(9, 4, 3))
    train(engine, kind(2, 5), torch.randn(1, 4, 2))
    with torch.no_grad():
        engine(kind(3, 5), torch.randn(2, 4, 3))
    assert len(compilations) == 2


@pytest.mark.slow
def test_many_equations_do_not_run_into_a_limit(compilations: list[str]) -> None:
    """torch.compile gives up a piece of code after eight recompilations."""
    for number in range(12):
        torch.manual_seed(0)
        cell = Scaled(float(number)).double()
        agree(Compiled("counting"), cell, sequence(3), None, None)
    assert len(compilations) == 24


class Scaled(RNNCell):
    """An update with a number closed over, made anew at each call."""

    def __init__(self, scale: Any = 0.5) -> None:
        super().__init__(INPUT, HIDDEN)
        self.scale = scale

    def prepare(self) -> Any:
        scale = self.scale

        def update(gates_x: Tensor, gates_h: Tensor, state: Any) -> Any:
            return type(state)(torch.tanh(gates_x + scale * gates_h))

        return (Stage(Dense(self.weight_hh), update),)


class Method(RNNCell):
    """An update that finds a parameter by itself: its gradient would be lost."""

    def __init__(self) -> None:
        super().__init__(INPUT, HIDDEN)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def update(self, gates_x: Tensor, gates_h: Tensor, state: Any) -> Any:
        return type(state)(torch.tanh(gates_x + self.scale * gates_h))

    def prepare(self) -> Any:
        return (Stage(Dense(self.weight_hh), self.update),)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [(Scaled(torch.ones(())), "closes over a tensor"), (Method(), "requires a gradient")],
    ids=["closure", "method"],
)
def test_tensors_that_bypass_the_params_are_refused(cell: Cell[Any], reason: str) -> None:
    with pytest.raises(EngineError, match=reason) as caught:
        choose("compiled", cell.double(), sequence(), None, None)
    assert "use 'auto' or 'eager'" in str(caught.value)


def test_double_backward_says_what_to_use(engine: Compiled) -> None:
    cell, x = LSTMCell(INPUT, HIDDEN).double(), sequence().requires_grad_()
    y, _ = engine(cell, x)
    (grad,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    torch.testing.assert_close(
        grad, torch.autograd.grad(scan(cell, x)[0].square().sum(), x)[0], rtol=1e-9, atol=1e-11
    )
    with pytest.raises(RuntimeError, match="engine='eager'"):
        grad.sum().backward()
    # A linear loss too: its second derivative is not zero, though its first gradient is constant.
    (grad,) = torch.autograd.grad(engine(cell, x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="engine='eager'"):
        grad.sum().backward()


def test_frozen_weights_and_a_graph_kept(engine: Compiled) -> None:
    cell, x = GRUCell(INPUT, HIDDEN).double(), sequence().requires_grad_()
    cell.weight_hh.requires_grad_(False)
    loss = engine(cell, x)[0].square().sum()
    first = torch.autograd.grad(loss, (x, cell.weight_ih, cell.bias_hh), retain_graph=True)
    second = torch.autograd.grad(loss, (x, cell.weight_ih, cell.bias_hh))
    loss = scan(cell, x)[0].square().sum()
    expected = torch.autograd.grad(loss, (x, cell.weight_ih, cell.bias_hh))
    torch.testing.assert_close(first, expected)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_weights_changed_before_the_backward_pass_are_noticed(engine: Compiled) -> None:
    cell = RNNCell(INPUT, HIDDEN).double()
    loss = engine(cell, sequence())[0].sum()
    with torch.no_grad():
        cell.weight_hh.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_gradients_nothing_is_stored(
    engine: Compiled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmodels.engines.through_time._Tape", None)
    cell = LSTMCell(INPUT, HIDDEN).double()
    with torch.no_grad():
        engine(cell, sequence())
    engine(cell.requires_grad_(False), sequence())
    with pytest.raises(TypeError):
        engine(cell.requires_grad_(True), sequence())


def test_auto_never_pays_for_compiling() -> None:
    sigmoid = RNNCell(INPUT, HIDDEN, nonlinearity="sigmoid").double()
    assert choose("auto", sigmoid, sequence(50, 500), None, None).name != "compiled"
    assert choose("compiled", sigmoid, sequence(), None, None).name == "compiled"


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(ENGINES["compiled"], "backend", "inductor")
    cell = RNNCell(INPUT, HIDDEN, nonlinearity="sigmoid").double()
    with pytest.raises(EngineError, match="C\\+\\+ compiler and there is no no-such-compiler"):
        choose("compiled", cell, sequence(), None, None)


class Broken(RNNCell):
    """Runs, but torch.compile cannot trace it as a whole."""

    def prepare(self) -> Any:
        def update(gates_x: Tensor, gates_h: Tensor, state: Any) -> Any:
            torch._dynamo.graph_break()
            return type(state)(torch.tanh(gates_x + gates_h))

        return (Stage(Dense(self.weight_hh), update),)


def test_what_does_not_compile_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES["compiled"], "backend", "aot_eager")
    layer = Recurrent(Broken(INPUT, HIDDEN).double(), engine="compiled")
    with pytest.raises(EngineError, match=r"Broken could not be compiled: .*use engine='eager'"):
        layer(sequence().transpose(0, 1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch in its own inductor
@each_cell
def test_the_real_compiler_agrees(case: Case) -> None:
    engine, cell = Compiled("inductor"), case.make()
    assert engine.why_not(cell, sequence(), None, None) is None
    agree(engine, cell, sequence(), given(cell), None)
    agree(engine, cell, sequence(), given(cell), prefix([7, 1, 4, 4], 7))
