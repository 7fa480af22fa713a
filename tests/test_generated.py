"""The engine of printed kernels: operations, layouts, memory, builds, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cell_cases import HIDDEN, INPUT, assert_same, gradients, prefix, random_state, sequence
from seqmodels.cells import Cell, Dense, GRUCell, LSTMCell, RNNCell, Stage
from seqmodels.cells.operators import Diagonal
from seqmodels.engines import ENGINES, EngineError, Generated, choose
from seqmodels.engines.kernels import build as building
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

pytestmark = pytest.mark.skipif(building.compiler() is None, reason="there is no C++ compiler")
engine = ENGINES["generated"]


class State(NamedTuple):
    h: Tensor
    m: Tensor


Update = Callable[..., State]


class Written(Cell[State]):
    """A cell around one update, with two state fields and a small parameter."""

    def __init__(self, update: Update, operator: str = "dense", gates: int = 2) -> None:
        super().__init__(INPUT, HIDDEN)
        self._update, self._operator = update, operator
        self.weight_ih = nn.Parameter(torch.empty(gates * HIDDEN, INPUT))
        shape = (gates * HIDDEN, HIDDEN) if operator == "dense" else (HIDDEN,)
        self.weight_hh = nn.Parameter(torch.empty(shape))
        self.small = nn.Parameter(torch.empty(HIDDEN))
        torch.manual_seed(0)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih)

    def prepare(self) -> tuple[Stage[State], ...]:
        operator = Dense(self.weight_hh) if self._operator == "dense" else Diagonal(self.weight_hh)
        return (Stage(operator, self._update, params=(self.small,)),)

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        return State(*(like.new_zeros(batch_size, HIDDEN) for _ in range(2)))


def assert_agrees(cell: Cell[Any], lengths: list[int] | None = None, **tolerance: float) -> None:
    cell = cell.double()
    x, state = sequence(), random_state(cell)
    keep = None if lengths is None else prefix(lengths, 7)
    assert engine.why_not(cell, x, state, keep) is None

    def call(cell: Any, x: Tensor, state: Any) -> Any:
        return engine(cell, x, state, keep=keep)

    def reference(cell: Any, x: Tensor, state: Any) -> Any:
        return scan(cell, x, state, keep=keep)

    reached = [p for p in cell.parameters() if p.requires_grad]
    assert reached
    assert_same(gradients(call, cell, x, state), gradients(reference, cell, x, state))


def mixed(a: Tensor, b: Tensor, state: State, p: Tensor) -> tuple[Tensor, Tensor]:
    """Two numbers of every unit in which all arguments take part."""
    one, two = (a + b).chunk(2, -1)
    return one + p * state.h, two * torch.tanh(state.m)


UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu,
    "exp": lambda v: torch.exp(-v * v),
    "log": lambda v: torch.log(1.5 + v * v), "log1p": lambda v: torch.log1p(v * v),
    "expm1": lambda v: torch.expm1(-v * v), "sin": torch.sin, "cos": torch.cos,
    "sqrt": lambda v: (1 + v * v).sqrt(),
    "rsqrt": lambda v: (1 + v * v).rsqrt(), "reciprocal": lambda v: (2 + v * v).reciprocal(),
    "pow": lambda v: (1.5 + v * v) ** -0.7, "square": torch.square, "cube": lambda v: v**3,
    "abs": torch.abs, "softplus": functional.softplus, "logsigmoid": functional.logsigmoid,
    "silu": functional.silu, "gelu": functional.gelu, "elu": functional.elu, "erf": torch.erf,
    "leaky_relu": functional.leaky_relu, "hardtanh": lambda v: functional.hardtanh(4 * v),
    "atan": torch.atan, "growth": lambda v: torch.exp(v.clamp(max=0.0)),
    "logs": lambda v: torch.log(v * v + 1e-30) + torch.log1p(v.abs()),
    "clamp": lambda v: v.clamp(-0.2, 0.3), "clamp_min": lambda v: v.clamp(min=0.0),
    "sign": lambda v: v.sign() * v, "where": lambda v: torch.where(v > 0.1, v, 2 * v),
    "logical": lambda v: torch.where((v > 0.1) & ~(v > 0.4) | (v < -0.3), v, -v),
    "softmax": lambda v: torch.softmax(v, -1), "log_softmax": lambda v: torch.log_softmax(v, -1),
    "layer_norm": lambda v: functional.layer_norm(v, (HIDDEN,)),
    "mean": lambda v: v - v.mean(-1, keepdim=True), "norm": lambda v: v / v.square().sum(-1, True),
    "var": lambda v: v / (1 + v.var(-1, keepdim=True)),
    "amax": lambda v: v - v.amax(-1, keepdim=True),
    "logsumexp": lambda v: v - v.logsumexp(-1, keepdim=True), "flip": lambda v: v.flip(-1),
    "roll": lambda v: torch.cat((v[:, 2:], v[:, :2]), -1),
    "pad": lambda v: functional.pad(v[:, 1:], (1, 0)), "max": lambda v: torch.maximum(v, -2 * v),
    "heads": lambda v: (v.reshape(-1, HIDDEN, 1) * v.new_ones(1, 1, 3)).sum(-1),
    "divide": lambda v: v / (2 + v.abs()), "rsub": lambda v: 1 - v,
    "alpha": lambda v: torch.add(v, v, alpha=0.3),
    "cast": lambda v: v * (v > 0).to(v.dtype),
    "addcmul": lambda v: torch.addcmul(v, v, v, value=0.5),
    "lerp": lambda v: torch.lerp(v, v * v, 0.3), "detach": lambda v: v * v.detach(),
    "minimum": lambda v: torch.minimum(v, v * v),
    "stack": lambda v: torch.stack((v, v * v), -1).sum(-1),
}  # fmt: skip


# Several a kernel: to build one takes longer than to run it.
GROUPS = [tuple(UNARY)[at : at + 8] for at in range(0, len(UNARY), 8)]


@pytest.mark.parametrize("names", GROUPS, ids=" ".join)
def test_every_operation_and_its_gradient(names: tuple[str, ...]) -> None:
    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = mixed(gates_x, gates_h, state, p)
        found = [UNARY[name](one) for name in names]
        # Each with a weight of its own: no two errors may cancel.
        total = sum((0.1 + 0.07 * k) * f for k, f in enumerate(found))
        return State(0.3 * torch.tanh(total) + 0.1 * two, torch.tanh(two + total))

    assert_agrees(Written(update))


def test_an_index_made_of_a_list_is_refused() -> None:
    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = mixed(gates_x, gates_h, state, p)
        return State(one[:, [0]] + two, state.m)

    reason = engine.why_not(Written(update).double(), sequence(), None, None)
    assert reason is not None
    assert "aten.index" in reason


@pytest.fixture
def vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is built outside of the tests."""
    monkeypatch.setattr(building, "OPTIMISE", "-O3")


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "silu", "growth", "logs"])
def test_float_is_exact_to_a_few_units_in_the_last_place(name: str, vectors: None) -> None:
    function = UNARY[name]

    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = gates_x.chunk(2, -1)
        return State(function(one), two)

    cell = Written(update, "diagonal")
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.weight_ih[:HIDDEN, 0] = 1.0
    scale = torch.cat([torch.linspace(-30, 30, 601), torch.logspace(-30, 1.5, 200)])
    x = torch.zeros(1, len(scale), INPUT)
    x[0, :, 0] = scale
    with torch.no_grad():
        y, _ = engine(cell, x)
        exact, _ = scan(cell.double(), x.double())
    error = (y.double() - exact).abs() / exact.abs().clamp(min=1e-30)
    assert float(error[exact.abs() > 1e-30].max()) < 1e-6


def test_infinities_and_nan_come_out_as_in_torch(vectors: None) -> None:
    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = gates_x.chunk(2, -1)
        rest = torch.sigmoid(one) + torch.exp(one) + torch.relu(two)
        return State(torch.tanh(one) + torch.log1p(one.abs()), rest + 0 * torch.log(one.relu()))

    cell = Written(update, "diagonal")
    values = torch.tensor([float("inf"), float("-inf"), float("nan"), 200.0, -200.0, 88.6, -87.0])
    with torch.no_grad():
        cell.weight_ih.fill_(1.0)
    x = torch.zeros(1, len(values), INPUT)
    x[0, :, 0] = values
    with torch.no_grad():
        found, (_, found_m) = engine(cell, x)
        expected, (_, expected_m) = scan(cell, x)
    torch.testing.assert_close(found, expected, equal_nan=True)
    torch.testing.assert_close(found_m, expected_m, equal_nan=True)


def test_operators_of_one_unit_are_printed_with_the_update() -> None:
    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = gates_x.chunk(2, -1)
        return State(torch.relu(one + gates_h), two * p + 0.5 * state.m)

    assert_agrees(Written(update, "diagonal"), [7, 1, 4, 4])


@pytest.mark.parametrize("kind", [RNNCell, LSTMCell, GRUCell])
def test_long_rows_as_vectors(kind: Any, vectors: None) -> None:
    """Float32, more units than a vector has numbers and no multiple of it."""
    cell = kind(INPUT, 67)
    x = sequence(9, 5).float()
    fresh = Generated()
    y, last = fresh(cell, x)
    grads = torch.autograd.grad(y.square().sum() + last[-1].sum(), list(cell.parameters()))
    expected, state = scan(cell.double(), x.double())
    exact = torch.autograd.grad(expected.square().sum() + state[-1].sum(), list(cell.parameters()))
    torch.testing.assert_close(y, expected.float(), rtol=1e-5, atol=1e-6)
    for found, wanted in zip(grads, exact, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-5)


def test_gates_that_are_no_sum() -> None:
    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = (gates_x * gates_h + gates_x).chunk(2, -1)
        return State(torch.tanh(one), two * p + state.m)

    assert_agrees(Written(update))
    assert_agrees(Written(update), [7, 1, 4, 4])


class TwoStages(Cell[State]):
    """The new m enters the second product, and the second stage changes m once more."""

    def __init__(self, twice: bool) -> None:
        super().__init__(INPUT, HIDDEN)
        self._twice = twice
        self.weight_ih = nn.Parameter(torch.empty(2 * HIDDEN, INPUT))
        self.weight_hh = nn.Parameter(torch.empty(HIDDEN, 2 * HIDDEN))
        self.weight_mh = nn.Parameter(torch.empty(HIDDEN, HIDDEN))
        self.bias = nn.Parameter(torch.empty(HIDDEN))
        torch.manual_seed(0)
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight_ih)

    def prepare(self) -> tuple[Stage[State], ...]:
        def first(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
            return State(state.h, torch.tanh(gates_x[..., :HIDDEN] + gates_h) + 0.1 * state.h)

        def second(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
            return State(torch.tanh(gates_x[..., HIDDEN:] + gates_h), state.m)

        def changing(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
            return State(torch.tanh(gates_x[..., HIDDEN:] + gates_h), state.m * torch.cos(gates_h))

        return (
            Stage(Dense(self.weight_hh, self.bias), first, reads=("h", "m")),
            Stage(Dense(self.weight_mh), changing if self._twice else second, reads=("m",)),
        )

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        return State(*(like.new_zeros(batch_size, HIDDEN) for _ in range(2)))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4]], ids=["full", "lengths"])
def test_stages(twice: bool, lengths: list[int] | None) -> None:
    assert_agrees(TwoStages(twice), lengths)
    cell, x = TwoStages(twice).double(), sequence()
    with torch.no_grad():
        torch.testing.assert_close(engine(cell, x)[0], scan(cell, x)[0])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_slices_of_the_batch(threads: int, batch: int) -> None:
    cell, x = GRUCell(INPUT, HIDDEN).double(), sequence(6, batch)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = gradients(lambda c, x, s: engine(c, x, s), cell, x, None)
    finally:
        torch.set_num_threads(before)
    assert_same(found, gradients(lambda c, x, s: scan(c, x, s), cell, x, None))


def test_masks_with_gaps() -> None:
    cell, x = LSTMCell(INPUT, HIDDEN).double(), sequence()
    keep = torch.rand(7, 4, generator=torch.Generator().manual_seed(0)) > 0.4
    found = gradients(lambda c, x, s: engine(c, x, s, keep=keep), cell, x, random_state(cell))
    expected = gradients(lambda c, x, s: scan(c, x, s, keep=keep), cell, x, random_state(cell))
    assert_same(found, expected)


def test_a_graph_may_be_kept_and_run_back_again() -> None:
    cell, x = LSTMCell(INPUT, HIDDEN).double(), sequence()
    y, _ = engine(cell, x)
    first = torch.autograd.grad(y.sum(), list(cell.parameters()), retain_graph=True)
    second = torch.autograd.grad(y.sum(), list(cell.parameters()))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y.sum(), list(cell.parameters()))


def test_outputs_cannot_be_changed_in_place() -> None:
    cell = LSTMCell(INPUT, HIDDEN).double()
    y, _ = engine(cell, sequence())
    with pytest.raises(RuntimeError, match=r"modified inplace.*out-of-place"):
        y.mul_(2.0)


def test_double_backward_raises_and_says_what_to_use() -> None:
    cell = LSTMCell(INPUT, HIDDEN).double()
    x = sequence().requires_grad_()
    (grad,) = torch.autograd.grad(engine(cell, x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"generated engine has no double backward.*eager"):
        grad.sum().backward()


class Passed(RNNCell):
    """Its projection is its input itself."""

    def project(self, x: Tensor) -> Tensor:
        return x


def test_the_input_is_never_written_to() -> None:
    cell = Passed(HIDDEN, HIDDEN).double()
    x = sequence(size=HIDDEN)
    copy = x.clone()
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            y, _ = engine(cell, x)
        assert torch.equal(x, copy)
        torch.testing.assert_close(y, scan(cell, x)[0])


class Squashed(RNNCell):
    """Its projection ends in a function whose gradient looks at its value."""

    def project(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().project(x))


def test_gates_that_a_gradient_needs_are_copied() -> None:
    cell, x = Squashed(INPUT, HIDDEN).double(), sequence()
    found = gradients(lambda c, x, s: engine(c, x, s), cell, x, None)
    assert_same(found, gradients(lambda c, x, s: scan(c, x, s), cell, x, None))


def test_frozen_parameters() -> None:
    cell, x = LSTMCell(INPUT, HIDDEN).double(), sequence().requires_grad_()
    cell.weight_hh.requires_grad_(False)
    y, _ = engine(cell, x)
    y.sum().backward()
    assert cell.weight_hh.grad is None
    expected = torch.autograd.grad(scan(cell, x)[0].sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)


def test_products_over_units_inside_an_update_are_refused() -> None:
    def update(gates_x: Tensor, gates_h: Tensor, state: State, p: Tensor) -> State:
        one, two = gates_x.chunk(2, -1)
        return State(one @ torch.ones(HIDDEN, HIDDEN, dtype=one.dtype), two)

    cell = Written(update).double()
    with pytest.raises(EngineError, match=r"'generated' cannot run .* elementwise .*'eager'"):
        choose("generated", cell, sequence(), None, None)
    assert choose("auto", cell, sequence(100, 100), None, None).name == "eager"


def test_a_field_of_whole_numbers_is_refused() -> None:
    class Counted(RNNCell):
        def initial_state(self, batch_size: int, like: Tensor) -> Any:
            return State(
                like.new_zeros(batch_size, HIDDEN), torch.zeros(batch_size, 1, dtype=torch.int64)
            )

        def prepare(self) -> Any:
            return (Stage(Dense(self.weight_hh), lambda x, h, s: State(x + h, s.m + 1)),)

    cell: Any = Counted(INPUT, HIDDEN).double()
    assert "int64" in str(engine.why_not(cell, sequence(), None, None))


def test_auto_takes_it_for_long_work_only() -> None:
    sigmoid = RNNCell(INPUT, HIDDEN, nonlinearity="sigmoid").double()
    assert choose("auto", sigmoid, sequence(50, 500), None, None).name == "generated"
    assert choose("auto", sigmoid, sequence(), None, None).name == "eager"
    lstm, x = LSTMCell(INPUT, HIDDEN).double(), sequence(50, 500)
    assert choose("auto", lstm, x, None, None).name == "generated"
    with torch.no_grad():  # torch's own is faster there
        assert choose("auto", lstm, x, None, None).name == "native"


def test_without_a_compiler_it_says_so_and_auto_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    cell = RNNCell(INPUT, HIDDEN, nonlinearity="sigmoid").double()
    with pytest.raises(EngineError, match=r"needs a C\+\+ compiler.*install g\+\+ or set CXX"):
        choose("generated", cell, sequence(), None, None)
    assert choose("auto", cell, sequence(50, 500), None, None).name == "eager"


def test_a_compiler_that_fails_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "cxx"
    script.write_text("#!/bin/sh\necho 'error: out of order' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("SEQMODELS_CACHE", str(tmp_path / "cache"))
    building._machine.cache_clear()
    cell = RNNCell(INPUT, HIDDEN, nonlinearity="sigmoid").double()
    fresh = Generated()
    with pytest.warns(UserWarning, match="no kernel for RNNCell: .*failed: error: out of order"):
        assert "out of order" in str(fresh.why_not(cell, sequence(), None, None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh.why_not(cell, sequence(), None, None) is not None
    assert not list((tmp_path / "cache").iterdir())
    building._machine.cache_clear()


def test_a_kernel_is_built_once_and_found_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEQMODELS_CACHE", str(tmp_path))
    cell, x = LSTMCell(INPUT, HIDDEN).double(), sequence()
    Generated()(cell, x)
    (kernel,) = tmp_path.iterdir()
    stamp = kernel.stat().st_mtime_ns
    monkeypatch.setattr(building, "_compile", None)  # it would not be called again
    Generated()(LSTMCell(INPUT, HIDDEN).double(), sequence(3, 9))
    assert [p.stat().st_mtime_ns for p in tmp_path.iterdir()] == [stamp]


def test_kernels_are_shared_between_layers_and_not_between_equations() -> None:
    fresh = Generated()
    for cell in (LSTMCell(INPUT, HIDDEN), LSTMCell(4, HIDDEN), LSTMCell(INPUT, HIDDEN)):
        fresh(cell.double(), sequence(size=cell.input_size))
    assert len(fresh._kernels) == 1
    for kind in ("tanh", "relu"):
        fresh(RNNCell(INPUT, HIDDEN, nonlinearity=kind).double(), sequence())  # type: ignore[arg-type]
    assert len(fresh._kernels) == 3


def test_a_folder_that_cannot_be_written_to_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("SEQMODELS_CACHE", str(blocked / "kernels"))
    cell = LSTMCell(INPUT, HIDDEN).double()
    with pytest.raises(EngineError, match="could not be kept in or loaded from"):
        Generated()(cell, sequence())


def test_autocast_keeps_the_state_in_float32() -> None:
    cell, x = LSTMCell(INPUT, HIDDEN), sequence().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, state = engine(cell, x)
    assert y.dtype == state.c.dtype == torch.float32
    torch.testing.assert_close(y, scan(cell, x)[0], rtol=0.05, atol=0.02)
    y.sum().backward()
    assert cell.weight_hh.grad is not None
    assert cell.weight_hh.grad.dtype == torch.float32


def test_a_layer_says_that_it_ran_on_it() -> None:
    layer = Recurrent(GRUCell(INPUT, HIDDEN).double(), engine="generated")
    layer(sequence().transpose(0, 1))
    assert layer.engine_used == "generated"


@pytest.mark.slow
def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    program = (
        "import torch; from seqmodels.cells import RNNCell; from seqmodels.engines import ENGINES;"
        "y, _ = ENGINES['generated'](RNNCell(3, 5), torch.ones(2, 3, 3)); print(y.shape)"
    )
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "SEQMODELS_CACHE": str(tmp_path)}
    environment["PYTHONPATH"] = source
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in running:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "torch.Size([2, 3, 5])" in out
    assert len(list(tmp_path.iterdir())) == 1
