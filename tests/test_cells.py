"""The equations, written again in NumPy, and what a cell accepts."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import seqmodels.cells
from cell_cases import CASES, HIDDEN, INPUT, Case, each_cell, each_pair, random_state, run, sequence
from seqmodels.cells import (
    BlockDiagonal,
    Cell,
    Dense,
    Diagonal,
    GRUCell,
    LSTMCell,
    LSTMState,
    RNNCell,
)
from seqmodels.engines import ENGINES
from seqmodels.scan import scan
from twins_clocked import clockwork_twin, lmu_twin
from twins_delay import delay_twin
from twins_indrnn import indrnn_twin, slstm_twin
from twins_leaky import leaky_twin, lstm_variant_twin, reservoir_twin
from twins_linear import cornn_twin, lem_twin, lru_twin, min_gru_twin, min_lstm_twin
from twins_ugrnn import antisymmetric_twin, ugrnn_twin

Array = np.ndarray[Any, np.dtype[np.float64]]
Rows = dict[str, Array]


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def parameters(cell: Cell[Any]) -> Rows:
    """Rows of each gate: U_i (H, I), W_i (H, H), b_i and c_i (H), for every gate i."""
    values = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    rows = len(cell.gates) * cell.hidden_size
    split: Rows = {}
    for name, letter in (
        ("weight_ih", "U"),
        ("weight_hh", "W"),
        ("bias_ih", "b"),
        ("bias_hh", "c"),
    ):
        blocks = np.split(values.get(name, np.zeros(rows)), len(cell.gates))
        split |= {f"{letter}_{gate}": b for gate, b in zip(cell.gates, blocks, strict=True)}
    return split


def rnn_twin(cell: RNNCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = parameters(cell)
    a = p["b_a"] + p["c_a"] + h @ p["W_a"].T + x @ p["U_a"].T
    sigma = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda v: np.maximum(v, 0)}
    h = sigma[cell.nonlinearity](a)
    return h, (h,)


def lstm_twin(cell: LSTMCell, x: Array, h: Array, c: Array) -> tuple[Array, tuple[Array, ...]]:
    p = parameters(cell)
    a = {k: x @ p[f"U_{k}"].T + h @ p[f"W_{k}"].T + p[f"b_{k}"] + p[f"c_{k}"] for k in "ifgo"}
    c = sigmoid(a["f"]) * c + sigmoid(a["i"]) * np.tanh(a["g"])
    h = sigmoid(a["o"]) * np.tanh(c)
    return h, (h, c)


def gru_twin(cell: GRUCell, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    p = parameters(cell)
    a = {k: x @ p[f"U_{k}"].T + h @ p[f"W_{k}"].T + p[f"b_{k}"] + p[f"c_{k}"] for k in "rz"}
    r, z = sigmoid(a["r"]), sigmoid(-a["z"])  # the equation's z: what is replaced
    candidate = np.tanh(x @ p["U_n"].T + p["b_n"] + r * (h @ p["W_n"].T + p["c_n"]))
    h = z * candidate + (1 - z) * h
    return h, (h,)


TWINS: dict[str, Callable[..., tuple[Array, tuple[Array, ...]]]] = {
    "RNNCell": rnn_twin,
    "LSTMCell": lstm_twin,
    "GRUCell": gru_twin,
    "AntisymmetricCell": antisymmetric_twin,
    "IndRNNCell": indrnn_twin,
    "LeakyCell": leaky_twin,
    "ReservoirCell": reservoir_twin,
    "SLSTMCell": slstm_twin,
    "UGRNNCell": ugrnn_twin,
    "LSTMVariantCell": lstm_variant_twin,
    "Delay": delay_twin,
    "CoRNNCell": cornn_twin,
    "LEMCell": lem_twin,
    "LRUCell": lru_twin,
    "MinGRUCell": min_gru_twin,
    "MinLSTMCell": min_lstm_twin,
    "LMUCell": lmu_twin,
    "ClockworkCell": clockwork_twin,
}


def test_the_configured_cells_are_found() -> None:
    assert {"rnn", "lstm", "gru"} <= {case.name for case in CASES}
    assert {"rnn-nonlinearity=sigmoid", "rnn-nonlinearity=relu", "gru-bias=False"} <= {
        case.name for case in CASES
    }


@each_pair
def test_equation_equals_its_numpy_twin(case: Case, engine: str) -> None:
    cell = case.make()
    x, state = sequence(), random_state(cell)
    y, last = run(engine, cell, x, state)
    fields: tuple[Array, ...] = tuple(field.numpy() for field in state)
    for t in range(len(x)):
        h, fields = TWINS[case.kind.__name__](cell, x[t].numpy(), *fields)
        np.testing.assert_allclose(y[t].detach().numpy(), h, rtol=1e-12, atol=1e-14)
    for found, expected in zip(last, fields, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


@each_cell
def test_stages_are_rows_apart(case: Case) -> None:
    """`update` works row by row: a row's new state does not depend on the other rows."""
    cell = case.make()
    x, state = sequence(1), random_state(cell)
    y, _ = scan(cell, x, state)
    for row in range(x.shape[1]):
        one = type(state)(*(field[row : row + 1] for field in state))
        torch.testing.assert_close(scan(cell, x[:, row : row + 1], one)[0][0, 0], y[0, row])


@each_cell
def test_initial_state_is_zero_and_like_its_model(case: Case) -> None:
    state = case.make().initial_state(4, torch.ones(1, dtype=torch.float32))
    assert state.h.shape == (4, HIDDEN)
    for field in state:
        assert len(field) == 4 and field.dtype == torch.float32 and not field.any()


# Parameters that start elsewhere, as tests of their cells say.
START_APART = {
    ("IndRNNCell", "weight_hh"),
    ("LeakyCell", "theta"),
    *(("LMUCell", name) for name in ("encoder_x", "encoder_m")),
    *(("LRUCell", name) for name in ("nu_log", "theta_log", "gamma_log")),
    *(("LSTMVariantCell", name) for name in ("gain_ih", "gain_hh", "gain_c", "shift_c")),
}


@each_cell
def test_parameters_start_within_one_over_root_hidden(case: Case) -> None:
    cell = case.make(hidden_size=100)
    for name, parameter in cell.named_parameters():
        if (case.kind.__name__, name) in START_APART:
            continue
        assert 0.09 < parameter.abs().max() <= 0.1, name


@each_cell
def test_state_dict_round_trip(case: Case) -> None:
    cell, other = case.make(seed=0), case.make(seed=1)
    assert not torch.equal(scan(other, sequence())[0], scan(cell, sequence())[0])
    other.load_state_dict(cell.state_dict())
    assert torch.equal(scan(other, sequence())[0], scan(cell, sequence())[0])


@each_cell
@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
@pytest.mark.parametrize("which", ["input_size", "hidden_size"])
def test_sizes_are_positive_integers(case: Case, which: str, size: Any) -> None:
    sizes = {"input_size": 3, "hidden_size": 4, which: size}
    with pytest.raises(ValueError, match=f"{which} must be a positive integer, got {size!r}"):
        case.make(**sizes)


def test_an_unknown_nonlinearity_is_refused() -> None:
    with pytest.raises(ValueError, match="one of tanh, sigmoid, relu, got 'gelu'"):
        RNNCell(3, 4, nonlinearity="gelu")  # type: ignore[arg-type]


def misfits() -> dict[str, tuple[str, Callable[[Any, Any], tuple[Any, ...]]]]:
    """What to expect in the message, and (x, state) -> (x, state, keep) that do not fit."""

    def over(function: Callable[..., Any]) -> Callable[[Any], Any]:
        return lambda s: type(s)(*(function(f) for f in s))

    ones = torch.ones(7, 4)
    return {
        "input width": (rf"\(T, B, {INPUT}\)", lambda x, s: (x[..., :2], s, None)),
        "two axes": ("got \\(7, 4\\)", lambda x, s: (x[..., 0], s, None)),
        "no steps": ("T, B >= 1", lambda x, s: (x[:0], s, None)),
        "x dtype": ("torch.float32", lambda x, s: (x.float(), None, None)),
        "integer x": ("torch.int64", lambda x, s: (x.long(), None, None)),
        "x device": ("on meta", lambda x, s: (x.to("meta"), None, None)),
        "state width": ("state.h", lambda x, s: (x, over(lambda f: f[:, :2])(s), None)),
        "state batch": ("state.h", lambda x, s: (x, over(lambda f: f[:2])(s), None)),
        "state without batch": ("state.h", lambda x, s: (x, over(lambda f: f[0])(s), None)),
        "state dtype": ("torch.float32", lambda x, s: (x, over(lambda f: f.float())(s), None)),
        "state device": ("on meta", lambda x, s: (x, over(lambda f: f.to("meta"))(s), None)),
        "bare tuple": ("got a tuple", lambda x, s: (x, tuple(s), None)),
        "bare tensor": ("got a Tensor", lambda x, s: (x, s[0], None)),
        "keep shape": ("keep of shape", lambda x, s: (x, s, ones.bool()[:, :2])),
        "keep dtype": ("torch.bool", lambda x, s: (x, s, ones)),
    }


MISFITS = misfits()


@each_cell
@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused(case: Case, name: str) -> None:
    cell = case.make()
    message, change = MISFITS[name]
    x, state, keep = change(sequence(), random_state(cell))
    with pytest.raises(ValueError, match=message):
        scan(cell, x, state, keep=keep)


@each_cell
def test_a_state_of_one_axis_is_refused_where_it_would_broadcast(case: Case) -> None:
    """(B,) against (B, H) adds up without an error where B = H."""
    cell = case.make()
    state = random_state(cell, batch=HIDDEN)
    flat = type(state)(*(field[0] for field in state))
    with pytest.raises(ValueError, match=r"state.h of shape \(5, 5\)"):
        scan(cell, sequence(batch=HIDDEN), flat)


def test_a_state_of_another_cell_is_refused() -> None:
    h = torch.zeros(4, HIDDEN, dtype=torch.float64)
    with pytest.raises(ValueError, match="expected a GRUState as its state, got a LSTMState"):
        scan(GRUCell(INPUT, HIDDEN).double(), sequence(), LSTMState(h, h))  # type: ignore[arg-type]


OPERATORS = {
    "dense": lambda: Dense(torch.randn(10, 5, dtype=torch.float64)),
    "dense with bias": lambda: Dense(
        torch.randn(10, 5, dtype=torch.float64), torch.randn(10, dtype=torch.float64)
    ),
    "diagonal": lambda: Diagonal(torch.randn(5, dtype=torch.float64)),
    **{
        f"{heads} blocks, {gates} gates": lambda heads=heads, gates=gates: BlockDiagonal(
            torch.randn(gates * 6, 6 // heads, dtype=torch.float64), heads
        )
        for heads in (1, 2, 3, 6)
        for gates in (1, 4)
    },
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_gradients_are_autograds(name: str) -> None:
    torch.manual_seed(0)
    operator = OPERATORS[name]()
    for weight in operator.weights:
        weight.requires_grad_()
    width = 6 if isinstance(operator, BlockDiagonal) else 5
    h = torch.randn(7, width, dtype=torch.float64, requires_grad=True)
    value = operator.apply(h)
    grad = torch.randn_like(value)
    expected = torch.autograd.grad(value, (h, *operator.weights), grad)
    found = (operator.transpose(grad), *operator.weight_grads(h, grad))
    for f, e in zip(found, expected, strict=True):
        torch.testing.assert_close(f, e)


@pytest.mark.parametrize("gates", [1, 4])
@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_blocks_are_the_dense_map_with_zeros_outside(heads: int, gates: int) -> None:
    torch.manual_seed(0)
    units = 6 // heads
    weight = torch.randn(gates * 6, units, dtype=torch.float64)
    blocks = BlockDiagonal(weight, heads)
    whole = torch.zeros(gates * 6, 6, dtype=torch.float64)
    held = torch.zeros_like(whole, dtype=torch.bool)
    for row in range(gates * 6):
        first = row % 6 // units * units  # the first unit of the row's head
        whole[row, first : first + units] = weight[row]
        held[row, first : first + units] = True
    dense = Dense(whole)
    h, grad = (torch.randn(7, n, dtype=torch.float64) for n in (6, gates * 6))
    torch.testing.assert_close(blocks.apply(h), dense.apply(h))
    torch.testing.assert_close(blocks.transpose(grad), dense.transpose(grad))
    (found,), (expected,) = blocks.weight_grads(h, grad), dense.weight_grads(h, grad)
    torch.testing.assert_close(found, expected[held].reshape(weight.shape))


@pytest.mark.parametrize(("rows", "heads"), [(10, 2), (12, 5), (12, 0)])
def test_blocks_that_do_not_fit_their_heads_are_refused(rows: int, heads: int) -> None:
    with pytest.raises(ValueError, match=r"weight of shape \(G·H, H / heads\), heads = "):
        BlockDiagonal(torch.zeros(rows, 3), heads)


MODULES = [m.name for m in pkgutil.iter_modules(seqmodels.cells.__path__, "seqmodels.cells.")]


@pytest.mark.parametrize("kind", sorted({c.kind for c in CASES}, key=lambda k: k.__name__))
def test_docstring_has_equation_reference_and_a_running_example(kind: type[Cell[Any]]) -> None:
    text = kind.__doc__ or ""
    assert "Reference" in text and "http" in text and "_{t-1}" in text
    module = importlib.import_module(kind.__module__)
    results = doctest.testmod(module)
    assert results.attempted > 0 and results.failed == 0


def test_every_module_of_cells_is_importable_alone() -> None:
    assert "seqmodels.cells.gru" in MODULES
    for name in MODULES:
        importlib.import_module(name)


def test_engines_list_ends_with_the_one_that_runs_everything() -> None:
    assert list(ENGINES)[-1] == "eager"
