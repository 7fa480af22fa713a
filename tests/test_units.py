"""Gates, time constants, dead units, rank and radius, where they are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from cell_cases import Case, each_cell, random_state, sequence
from seqmodels.analysis.units import (
    Gate,
    States,
    gate_activations,
    recurrent_matrices,
    spectral_radii,
    time_constants,
)
from seqmodels.cells import (
    Cell,
    GRUCell,
    IndRNNCell,
    LeakyCell,
    LRUCell,
    LSTMCell,
    LSTMVariantCell,
    MinLSTMCell,
    RNNCell,
    SLSTMCell,
)


def gates_of(cell: Cell[tuple[Tensor, ...]], rows: int = 6) -> dict[str, Tensor]:
    x = sequence(steps=1, batch=rows, size=cell.input_size)
    return gate_activations(cell, cell.project(x)[0], random_state(cell, batch=rows))


def test_the_gates_of_an_lstm_are_those_of_its_equation() -> None:
    torch.manual_seed(0)
    cell = LSTMCell(3, 5).double()
    x, state = sequence(steps=1), random_state(cell)
    gates_x = cell.project(x)[0]
    found = gate_activations(cell, gates_x, state)
    raw = (gates_x + state.h @ cell.weight_hh.T).chunk(4, dim=1)
    for name, value in zip("ifgo", raw, strict=True):
        expected = torch.tanh(value) if name == "g" else torch.sigmoid(value)
        torch.testing.assert_close(found[name], expected.detach())
    assert set(found) == set("ifgo") and not any(v.requires_grad for v in found.values())


@pytest.mark.parametrize("options", [{}, {"peephole": True}, {"layer_norm": True}])
def test_every_gate_of_its_variants_is_found(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    found = gates_of(LSTMVariantCell(3, 8, **options).double())  # type: ignore[arg-type]
    assert set(found) == set("ifgo") and (found["f"] > 0).all() and (found["g"] < 0).any()


def test_the_gates_of_a_gru_and_of_a_cell_written_by_hand() -> None:
    torch.manual_seed(0)
    assert set(gates_of(GRUCell(3, 5).double())) == {"r", "z", "n"}
    assert gates_of(RNNCell(3, 5, nonlinearity="relu").double()) == {}


def test_exponential_gates_and_shares_are_found() -> None:
    torch.manual_seed(0)
    cell, x = SLSTMCell(3, 5).double(), 3 * sequence(steps=1, batch=64)
    state = random_state(cell, batch=64)
    found = gate_activations(cell, cell.project(x)[0], state)
    a = (cell.project(x)[0] + state.h @ cell.weight_hh.T).detach()
    i, f = a.chunk(4, dim=1)[:2]
    kept = torch.where(state.n == 0, -torch.inf, state.m) + nn.functional.logsigmoid(f)
    most = torch.maximum(kept, i)
    assert set(found) == set("ifzo")
    torch.testing.assert_close(found["f"], (kept - most).exp())
    torch.testing.assert_close(found["i"], (i - most).exp())
    least = MinLSTMCell(3, 5).double()
    gates_x = least.project(x)[0]
    f, i = (g.sigmoid() for g in gates_x.detach().chunk(3, dim=1)[:2])
    only = gate_activations(least, gates_x, random_state(least, batch=64))
    assert set(only) == {"f"}
    torch.testing.assert_close(only["f"], f / (f + i))


def test_a_gate_is_found_though_some_of_its_units_are_shut_for_good() -> None:
    torch.manual_seed(0)
    cell = LSTMCell(3, 5)
    with torch.no_grad():
        assert cell.bias_ih is not None
        cell.bias_ih[0::5] = 200.0  # the first unit of every gate; its slope is 0 in float32
    x = sequence(steps=1, batch=6).float()
    found = gate_activations(cell, cell.project(x)[0], cell.initial_state(6, x))
    assert set(found) == set("ifgo") and bool((found["f"][:, 0] == 1).all())


@each_cell
def test_gates_lie_where_gates_lie(case: Case) -> None:
    found = gates_of(case.make())
    assert set(found) <= set(case.make().gates)
    for value in found.values():
        assert value.shape == (6, case.make().hidden_size) and value.abs().max() <= 1


def test_time_constants_from_bias_leak_and_linear_coefficient() -> None:
    cell = LSTMCell(2, 3).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        assert cell.bias_ih is not None
        cell.bias_ih[3:6] = torch.tensor([0.0, 2.0, 4.0])  # f
    found = time_constants(cell, gates_of(cell))
    expected = [-1 / math.log(1 / (1 + math.exp(-b))) for b in (0, 2, 4)]
    assert found is not None
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-6, atol=0)
    leaky = LeakyCell(2, 3, tau=7.0)
    assert time_constants(leaky, {}) is not None
    torch.testing.assert_close(time_constants(leaky, {}), torch.full((3,), 7.0).double())
    learned = LeakyCell(2, 3, tau=4.0, time="learned")
    torch.testing.assert_close(time_constants(learned, {}), torch.full((3,), 4.0).double())
    spread = LeakyCell(2, 3, tau=2.0, time="per_unit", tau_max=50.0)
    torch.testing.assert_close(
        time_constants(spread, {}), torch.tensor([2.0, 10.0, 50.0]).double(), rtol=1e-5, atol=0
    )
    chosen = LeakyCell(2, 3, tau=5.0, time="input")
    assert time_constants(chosen, {}) is None
    rest = time_constants(chosen, {}, chosen.project(torch.zeros(1, 4, 2))[0])
    torch.testing.assert_close(rest, torch.full((3,), 5.0))
    assert time_constants(RNNCell(2, 3), {}) is None
    lru = LRUCell(2, 4)
    modulus = time_constants(lru, {}, lru.project(torch.randn(1, 5, 2))[0])
    assert modulus is not None and (modulus > 0).all()
    minimal = MinLSTMCell(2, 4)
    retained = time_constants(minimal, {}, minimal.project(torch.zeros(1, 5, 2))[0])
    assert retained is not None and retained.isfinite().all()


def test_radii_of_known_matrices() -> None:
    cell = RNNCell(2, 2, bias=False).double()
    turn = torch.tensor([[0.0, -0.8], [0.8, 0.0]])
    with torch.no_grad():
        cell.weight_hh.copy_(turn)
    assert spectral_radii(cell) == {"a": pytest.approx(0.8)}
    leaky = LeakyCell(2, 2, tau=4.0, bias=False).double()
    with torch.no_grad():
        leaky.weight_hh.copy_(turn)
    assert spectral_radii(leaky)["effective"] == pytest.approx(abs(0.75 + 0.2j))
    gru = GRUCell(2, 3).double()
    torch.testing.assert_close(
        torch.cat(list(recurrent_matrices(gru).values())), gru.weight_hh.detach()
    )
    indrnn = IndRNNCell(2, 3).double()
    weight = next(p for n, p in indrnn.named_parameters() if "hh" in n)
    assert spectral_radii(indrnn)["a"] == pytest.approx(float(weight.detach().abs().max()))


def test_dead_saturated_and_dependent_units_are_counted() -> None:
    torch.manual_seed(0)
    free = torch.rand(500, 2) * 0.5
    rows = torch.cat((free, free.sum(1, keepdim=True), torch.full((500, 1), 0.95)), 1)
    found = States.of(rows)
    assert (found.units, found.dead, found.rank) == (4, 1, 2)
    assert found.saturated is not None and 0.25 <= found.saturated < 0.3
    assert 1.0 < found.effective_rank < 2.0
    assert sum(found.variances) == pytest.approx(1.0)
    still = States.of(torch.ones(5, 3))
    assert (still.dead, still.rank, still.effective_rank) == (3, 0, 0.0)
    assert States.of(2 * rows).saturated is None


def test_a_gates_histogram_and_shares() -> None:
    found = Gate.of(torch.tensor([0.05, 0.5, 0.95, 0.96]))
    assert (found.closed, found.open, found.low) == (0.25, 0.5, 0.0)
    assert sum(found.histogram) == pytest.approx(1.0)
    assert Gate.of(torch.tensor([-0.5, 0.05])).low == -1.0
