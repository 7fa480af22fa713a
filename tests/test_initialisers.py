"""What each initialiser leaves in the parameters, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cell_cases import Case, each_cell, sequence
from seqmodels.cells import Cell, GRUCell, LSTMCell, RNNCell
from seqmodels.initialisers import (
    Chrono,
    Default,
    ForgetBias,
    Identity,
    Initialiser,
    Orthogonal,
    Uniform,
)
from seqmodels.layers import Recurrent, Stacked

H = 12


def model(kind: Any = LSTMCell, **arguments: Any) -> nn.Sequential:
    """Something in front, two recurrent layers of different width, something behind."""
    torch.manual_seed(0)
    stacked = Stacked(
        7, cell=lambda i, h: kind(i, h, **arguments), hidden_size=[H, 5], num_layers=2
    )
    return nn.Sequential(nn.Linear(3, 7), stacked, nn.Linear(5, 2))


def cells(model: nn.Module) -> list[Cell[Any]]:
    found = [m for m in model.modules() if isinstance(m, Cell)]
    assert len(found) == 2
    return found


def blocks(cell: Cell[Any], name: str) -> dict[str, Tensor]:
    """Each gate's rows of a parameter."""
    rows = getattr(cell, name).detach().chunk(len(cell.gates))
    return dict(zip(cell.gates, rows, strict=True))


def effective_bias(cell: Cell[Any]) -> dict[str, Tensor]:
    ih, hh = blocks(cell, "bias_ih"), blocks(cell, "bias_hh")
    return {gate: ih[gate] + hh[gate] for gate in cell.gates}


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


each_kind = pytest.mark.parametrize("kind", [RNNCell, LSTMCell, GRUCell])
each_gated = pytest.mark.parametrize("kind", [LSTMCell, GRUCell])


@each_kind
def test_default_changes_nothing(kind: Any) -> None:
    net = model(kind)
    before = values(net)
    Default()(net)
    assert not changed(before, net)


@each_kind
def test_uniform_sets_every_parameter(kind: Any) -> None:
    net = model(kind)
    before = values(net)
    Uniform(0.3)(net)
    assert changed(before, net) == set(before)
    everything = torch.cat([p.flatten() for p in net.parameters()])
    assert everything.abs().max() <= 0.3
    # U(-s, s) has the standard deviation s/√3.
    torch.testing.assert_close(everything.std(), torch.tensor(0.3 / 3**0.5), rtol=0.1, atol=0)
    assert everything.mean().abs() < 0.03


@each_cell
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_orthogonal_blocks(case: Case, gain: float) -> None:
    cell = case.make(20, H)
    rows = len(cell.gates) * H
    weight = getattr(cell, "weight_hh", None)  # linear cells have none
    if weight is None or weight.shape != (rows, H):
        with pytest.raises(ValueError, match=rf"no weight_hh of shape \({rows}, {H}\)"):
            Orthogonal(gain)(Recurrent(cell))
        return
    Orthogonal(gain)(Recurrent(cell))
    for gate, block in blocks(cell, "weight_hh").items():
        identity = gain**2 * torch.eye(H, dtype=torch.float64)
        torch.testing.assert_close(block @ block.t(), identity, msg=gate)
    for block in blocks(cell, "weight_ih").values():
        bound = (6 / (20 + H)) ** 0.5
        assert 0.9 * bound < block.abs().max() <= bound
    if case.arguments.get("bias"):
        assert not any(bias.any() for bias in effective_bias(cell).values())


@each_gated
def test_orthogonal_with_normal_input_weights(kind: Any) -> None:
    net = model(kind)
    Orthogonal(input_std=0.01)(net)
    for cell in cells(net):
        inputs = torch.cat(list(blocks(cell, "weight_ih").values())).flatten()
        assert 0.008 < inputs.std() < 0.012 and inputs.abs().max() > 0.02


@each_gated
def test_orthogonal_with_a_forget_bias(kind: Any) -> None:
    net = model(kind)
    Orthogonal(forget_bias=1.5)(net)
    for cell in cells(net):
        for gate, bias in effective_bias(cell).items():
            assert (bias == (1.5 if gate == cell.memory_gate else 0.0)).all()


@each_kind
def test_identity(kind: Any) -> None:
    net = model(kind)
    Identity(0.5, input_std=0.02)(net)
    for cell in cells(net):
        for block in blocks(cell, "weight_hh").values():
            assert torch.equal(block, 0.5 * torch.eye(cell.hidden_size))
        assert not cell.bias_ih.any() and not cell.bias_hh.any()  # type: ignore[union-attr]
    first = cells(net)[0].weight_ih
    assert 0.01 < first.std() < 0.03


def test_identity_makes_a_relu_network_an_adder() -> None:
    """What the paper wants of it: s_t = s_{t-1} + U x_t while nothing is negative."""
    cell = RNNCell(3, 5, nonlinearity="relu").double()
    Identity()(Recurrent(cell))
    with torch.no_grad():
        cell.weight_ih.abs_()
    x = sequence().abs()
    y, _ = Recurrent(cell)(x.transpose(0, 1))
    torch.testing.assert_close(y[:, -1], (x @ cell.weight_ih.t()).sum(0))


def test_chrono_spreads_the_memory_of_an_lstm() -> None:
    net = nn.Sequential(Recurrent(LSTMCell(3, 4000)))
    Chrono(100)(net)
    cell = net[0].cell
    bias = effective_bias(cell)
    assert torch.equal(bias["f"], -bias["i"])
    times = bias["f"].exp()  # uniform in 1 … T - 1
    assert 1 <= times.min() < 2 and 98 < times.max() <= 99.001
    torch.testing.assert_close(times.mean(), torch.tensor(50.0), rtol=0.05, atol=0)
    assert not blocks(cell, "bias_hh")["f"].any() and not blocks(cell, "bias_hh")["i"].any()


def test_chrono_of_a_gru_has_one_gate() -> None:
    net = model(GRUCell)
    before = values(net)
    Chrono(50)(net)
    first = cells(net)[0]
    assert (effective_bias(first)["z"] >= 0).all() and effective_bias(first)["z"].std() > 0.2
    old = before["1.layers.0.cell.bias_ih"].chunk(3)
    assert torch.equal(blocks(first, "bias_ih")["r"], old[0])
    assert torch.equal(blocks(first, "bias_ih")["n"], old[2])


@each_gated
def test_forget_bias_sets_one_gate_and_nothing_else(kind: Any) -> None:
    net = model(kind)
    before = values(net)
    ForgetBias(2.0)(net)
    assert changed(before, net) == {
        f"1.layers.{layer}.cell.{bias}" for layer in (0, 1) for bias in ("bias_ih", "bias_hh")
    }
    for index, cell in enumerate(cells(net)):
        for name in ("bias_ih", "bias_hh"):
            old = before[f"1.layers.{index}.cell.{name}"].chunk(len(cell.gates))
            for gate, rows in zip(cell.gates, old, strict=True):
                if gate != cell.memory_gate:
                    assert torch.equal(blocks(cell, name)[gate], rows)
        assert (effective_bias(cell)[str(cell.memory_gate)] == 2.0).all()


@each_gated
def test_a_large_memory_bias_retains_the_state(kind: Any) -> None:
    """In the sign that each cell stores: the memory, whatever it is, hardly moves."""
    cell = kind(3, 5).double()
    ForgetBias(30.0)(Recurrent(cell))
    if cell.write_gate is not None:  # an LSTM adds what it writes: shut that gate
        rows = cell.gates.index(cell.write_gate) * 5
        with torch.no_grad():
            cell.bias_ih[rows : rows + 5] = -30.0
    zeros = cell.initial_state(4, sequence())
    state = type(zeros)(*(torch.full_like(field, 0.5) for field in zeros))
    _, last = Recurrent(cell)(sequence().transpose(0, 1), state)
    torch.testing.assert_close(last[-1], state[-1], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "make", [lambda: Chrono(10), lambda: ForgetBias(1.0), lambda: Orthogonal(forget_bias=1.0)]
)
def test_cells_without_the_gate_are_named_and_left_alone(make: Callable[[], Initialiser]) -> None:
    net = model(RNNCell)
    before = values(net)
    with pytest.raises(ValueError, match="memory gate, which RNNCell does not have"):
        make()(net)
    without = model(LSTMCell, bias=False)
    with pytest.raises(ValueError, match="LSTMCell was made with bias=False"):
        make()(without)
    assert not changed(before, net)


@pytest.mark.parametrize("make", [lambda: Orthogonal(), lambda: Identity()])
def test_models_without_recurrent_blocks_are_refused(make: Callable[[], Initialiser]) -> None:
    with pytest.raises(ValueError, match="found none"):
        make()(nn.Linear(3, 4))
    cell = LSTMCell(3, 4)
    cell.weight_hh = nn.Parameter(torch.zeros(4))  # one number a unit
    with pytest.raises(ValueError, match=r"no weight_hh of shape \(16, 4\)"):
        make()(Recurrent(cell))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(0.0), "scale must be > 0, got 0.0"),
        (lambda: Uniform(float("nan")), "scale must be a finite number"),
        (lambda: Uniform("0.1"), "scale must be a finite number, got '0.1'"),  # type: ignore[arg-type]
        (lambda: Orthogonal(-1.0), "gain must be > 0"),
        (lambda: Orthogonal(input_std=0.0), "input_std must be > 0"),
        (lambda: Orthogonal(1.0, float("inf")), "forget_bias must be a finite number"),
        (lambda: Identity(0), "scale must be > 0"),
        (lambda: Identity(1.0, 0.0), "input_std must be > 0"),
        (lambda: Chrono(2), "max_time must be > 2 steps, got 2"),
        (lambda: ForgetBias(True), "value must be a finite number, got True"),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "init", [Uniform(0.1), Orthogonal(), Identity(), Chrono(9.0)], ids=lambda i: type(i).__name__
)
def test_the_seed_decides(init: Initialiser) -> None:
    results = []
    for seed in (1, 1, 2):
        net = model()
        torch.manual_seed(seed)
        init(net)
        results.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[1], results[2])
