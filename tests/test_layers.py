"""Layers: lengths, direction, carried state, depth, and equality with torch.nn."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cell_cases import (
    CASES,
    HIDDEN,
    INPUT,
    Case,
    each_cell,
    each_pair,
    each_trained_cell,
    random_state,
    sequence,
)
from seqmodels.cells import GRUCell, LRUCell, LSTMCell, RNNCell
from seqmodels.layers import Recurrent, Stacked, from_torch, to_torch

LENGTHS = torch.tensor([7, 1, 4, 4])


def batch(size: int = INPUT) -> Tensor:
    """x (B, T, I)."""
    return sequence(size=size).transpose(0, 1)


def same(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def stack(case: Case, **options: Any) -> Stacked:
    torch.manual_seed(0)
    kind: Any = case.kind
    return Stacked(INPUT, cell=lambda i, h: kind(i, h, **case.arguments), **options).double()


# --- Recurrent


@each_pair
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_reversed_is_flipped_run_and_flipped_back(
    case: Case, engine: str, lengths: Tensor | None
) -> None:
    cell, x, state = case.make(), batch(), random_state(case.make())
    y, last = Recurrent(cell, reverse=True, engine=engine)(x, state, lengths)
    forward = Recurrent(cell, engine=engine)
    for row in range(4):
        length = 7 if lengths is None else int(lengths[row])
        one = slice(row, row + 1)
        own = type(state)(*(field[one] for field in state))
        alone, end = forward(x[one, :length].flip(1), own)
        same(y[one, :length], alone.flip(1))
        same(tuple(field[one] for field in last), tuple(end))
        assert not y[row, length:].any()


@each_pair
def test_padding_reaches_nothing_when_reversed(case: Case, engine: str) -> None:
    layer = Recurrent(case.make(), reverse=True, engine=engine)
    padded = (torch.arange(7) >= LENGTHS.unsqueeze(1)).unsqueeze(-1)  # (B, T, 1)
    found = []
    for value in (0.0, float("nan")):
        x = batch().masked_fill(padded, value).requires_grad_()
        y, last = layer(x, None, LENGTHS)
        loss = y.square().sum() + last[0].sum()
        found.append((y, *last, *torch.autograd.grad(loss, (x, *layer.parameters()))))
    for clean, dirty in zip(*found, strict=True):
        assert torch.equal(clean, dirty) and clean.isfinite().all()


@each_pair
def test_two_halves_with_the_state_carried_are_the_whole(case: Case, engine: str) -> None:
    layer, x = Recurrent(case.make(), engine=engine), batch()
    y, last = layer(x)
    first, middle = layer(x[:, :3])
    second, end = layer(x[:, 3:], middle)
    same(torch.cat((first, second), 1), y)
    same(tuple(end), tuple(last))


@each_cell
def test_full_lengths_are_no_lengths(case: Case) -> None:
    layer, x = Recurrent(case.make()), batch()
    y, last = layer(x)
    found, end = layer(x, None, torch.full((4,), 7))
    assert torch.equal(found, y) and all(torch.equal(a, b) for a, b in zip(end, last, strict=True))


@each_cell
def test_the_state_is_not_kept_between_calls(case: Case) -> None:
    layer, x = Recurrent(case.make()), batch()
    first, _ = layer(x)
    assert torch.equal(layer(x)[0], first)


BAD_LENGTHS = {
    "zero": (torch.tensor([7, 0, 4, 4]), "1 <= length <= T = 7, got lengths from 0 to 7"),
    "beyond": (torch.tensor([8, 1, 4, 4]), "got lengths from 1 to 8"),
    "too few": (torch.tensor([7, 1]), r"\(B,\) = \(4,\)"),
    "two axes": (torch.ones(4, 1, dtype=torch.int64), r"got \(4, 1\)"),
    "real": (torch.tensor([7.0, 1.0, 4.0, 4.0]), "torch.float32"),
    "int32": (torch.tensor([7, 1, 4, 4], dtype=torch.int32), "torch.int32"),
}


@each_cell
@pytest.mark.parametrize("name", BAD_LENGTHS)
def test_lengths_that_do_not_fit_are_refused(case: Case, name: str) -> None:
    lengths, message = BAD_LENGTHS[name]
    with pytest.raises(ValueError, match=message):
        Recurrent(case.make())(batch(), None, lengths)


@each_cell
def test_inputs_that_do_not_fit_are_refused(case: Case) -> None:
    layer = Recurrent(case.make())
    with pytest.raises(ValueError, match=r"x of shape \(B, T, I\), got \(4, 7\)"):
        layer(batch()[..., 0])
    with pytest.raises(ValueError, match=f"{INPUT}"):
        layer(batch(INPUT + 1))
    with pytest.raises(ValueError, match=r"state\.h"):
        layer(batch(), random_state(layer.cell, 3))


# --- torch.nn


def torch_has_it(case: Case) -> bool:
    return case.kind in (LSTMCell, GRUCell) or (
        case.kind is RNNCell and case.arguments["nonlinearity"] != "sigmoid"
    )


each_torch = pytest.mark.parametrize(
    "case", [case for case in CASES if torch_has_it(case)], ids=lambda case: case.name
)


def fields(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


@each_torch
@pytest.mark.parametrize("engine", ["eager", "native"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_both_directions_equal_torch(case: Case, engine: str, lengths: Tensor | None) -> None:
    cells = [case.make(seed=0), case.make(seed=1)]
    module = to_torch(cells, bidirectional=True)
    x, starts = batch(), [random_state(cell, seed=s) for s, cell in enumerate(cells)]
    hidden = tuple(torch.stack(pair) for pair in zip(*starts, strict=True))  # (2, B, H) each
    given = hidden if len(hidden) > 1 else hidden[0]
    if lengths is None:
        expected, end = module(x, given)
    else:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, end = module(packed, given)
        expected, _ = pad_packed_sequence(output, batch_first=True, total_length=7)
    for index, (cell, start) in enumerate(zip(cells, starts, strict=True)):
        layer = Recurrent(cell, reverse=index == 1, engine=engine)
        y, last = layer(x, start, lengths)
        same(y, expected.chunk(2, -1)[index])
        same(tuple(last), tuple(field[index] for field in fields(end)))


@each_torch
@pytest.mark.parametrize("engine", ["eager", "native"])
def test_a_stack_equals_torch(case: Case, engine: str) -> None:
    layers = stack(case, hidden_size=HIDDEN, num_layers=3, layer=partial(Recurrent, engine=engine))
    module = to_torch([layer.cell for layer in layers.layers])
    y, last = layers(batch())
    expected, end = module(batch())
    same(y, expected)
    for index, state in enumerate(last):
        same(tuple(state), tuple(field[index] for field in fields(end)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, "relu"])
def test_weights_go_there_and_back(kind: Any, bidirectional: bool, bias: bool) -> None:
    options: dict[str, Any] = {"num_layers": 2, "bias": bias, "bidirectional": bidirectional}
    if kind == "relu":
        module = nn.RNN(3, 4, nonlinearity="relu", dtype=torch.float64, **options)
    else:
        module = kind(3, 4, dtype=torch.float64, **options)
    cells = from_torch(module)
    assert len(cells) == (4 if bidirectional else 2)
    back = to_torch(cells, bidirectional=bidirectional, batch_first=False)
    assert type(back) is type(module) and back.mode == module.mode
    for name, value in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], value) and value.dtype == torch.float64
    with torch.no_grad():  # copies, not views
        cells[0].weight_hh.zero_()
    assert module.weight_hh_l0.any() and back.weight_hh_l0.any()


def test_what_torch_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="torch has no module"):
        to_torch([RNNCell(3, 4, nonlinearity="sigmoid")])
    with pytest.raises(ValueError, match="all alike"):
        to_torch([LSTMCell(3, 4), GRUCell(4, 4)])
    with pytest.raises(ValueError, match="all alike"):
        to_torch([LSTMCell(3, 4), LSTMCell(4, 5)])
    with pytest.raises(ValueError, match="cell 1 must read 4 inputs, got 3"):
        to_torch([LSTMCell(3, 4), LSTMCell(3, 4)])
    with pytest.raises(ValueError, match="2 cells a layer, got 3"):
        to_torch([LSTMCell(3, 4)] * 3, bidirectional=True)
    with pytest.raises(ValueError, match="proj_size=2"):
        from_torch(nn.LSTM(3, 4, proj_size=2))
    with pytest.raises(TypeError, match="got Linear"):
        from_torch(nn.Linear(3, 4))  # type: ignore[arg-type]


# --- Stacked


@each_cell
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_widths_may_differ_from_layer_to_layer(case: Case, lengths: Tensor | None) -> None:
    layers = stack(case, hidden_size=[6, 2, 4], num_layers=3)
    x = batch()
    y, last = layers(x, None, lengths)
    assert y.shape == (4, 7, 4) and layers.output_size == 4
    assert [state.h.shape[1] for state in last] == [6, 2, 4]
    for layer, state in zip(layers.layers, last, strict=True):
        x, end = layer(x, None, lengths)
        same(tuple(state), tuple(end))
    same(y, x)


@each_cell
@pytest.mark.parametrize("lengths", [None, torch.tensor([4, 1, 2, 4])], ids=["full", "lengths"])
def test_a_stack_in_two_halves_is_the_whole(case: Case, lengths: Tensor | None) -> None:
    layers, x = stack(case, hidden_size=HIDDEN, num_layers=2), batch()
    y, last = layers(x, None, None if lengths is None else lengths + 3)
    first, middle = layers(x[:, :3])
    second, end = layers(x[:, 3:], middle, lengths)
    same(torch.cat((first, second), 1), y)
    for a, b in zip(end, last, strict=True):
        same(tuple(a), tuple(b))


@each_cell
def test_the_initial_state_is_what_none_means(case: Case) -> None:
    layers, x = stack(case, hidden_size=[6, 2], num_layers=2), batch()
    same(layers(x, layers.initial_state(4, x))[0], layers(x)[0])


def test_dropout_is_between_layers_and_in_training_only() -> None:
    case = CASES[0]
    layers = stack(case, hidden_size=HIDDEN, num_layers=2, dropout=0.5)
    x, seen = batch(), []
    for layer in layers.layers:
        layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    y, _ = layers(x)
    below, _ = layers.layers[0](x)
    assert torch.equal(seen[0], x)
    dropped = seen[1] == 0
    assert 0.2 < dropped.double().mean() < 0.8
    same(seen[1][~dropped], 2 * below[~dropped])
    assert (y != 0).all()
    layers.eval()
    seen.clear()
    layers(x)
    same(seen[1], below)


def test_stacks_that_make_no_sense_are_refused() -> None:
    case = CASES[0]
    with pytest.raises(ValueError, match=r"hidden_size gives 2 layers, \[3, 4\], and num_layers"):
        stack(case, hidden_size=[3, 4], num_layers=3)
    with pytest.raises(ValueError, match="num_layers must be a positive integer, got 0"):
        stack(case, hidden_size=3, num_layers=0)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        stack(case, hidden_size=3, num_layers=2, dropout=1.0)
    with pytest.raises(ValueError, match="there is one layer"):
        stack(case, hidden_size=3, dropout=0.2)
    with pytest.raises(ValueError, match="hidden_size must be a positive integer, got -3"):
        stack(case, hidden_size=-3)
    with pytest.raises(ValueError, match="got 'quick'"):
        stack(case, hidden_size=3, layer=partial(Recurrent, engine="quick"))


def test_states_that_do_not_fit_a_stack_are_refused() -> None:
    layers = stack(CASES[0], hidden_size=HIDDEN, num_layers=2)
    _, state = layers(batch())
    with pytest.raises(ValueError, match="tuple of 2 states, one a layer, got tuple of 1"):
        layers(batch(), state[:1])
    with pytest.raises(ValueError, match="tuple of 2 states"):
        layers(batch(), torch.zeros(2, 4, HIDDEN))


@each_trained_cell
def test_a_stack_round_trips_through_its_state_dict(case: Case) -> None:
    layers = stack(case, hidden_size=[6, 2], num_layers=2)
    other = stack(case, hidden_size=[6, 2], num_layers=2)
    for parameter in layers.parameters():  # positive: rectified units must not all be silent
        nn.init.uniform_(parameter, 0.1, 0.6)
    assert not torch.equal(other(batch())[0], layers(batch())[0])
    other.load_state_dict(layers.state_dict())
    assert torch.equal(other(batch())[0], layers(batch())[0])


@pytest.mark.parametrize("skip", ["none", "residual", "dense"])
def test_a_gated_linear_unit_follows_each_layer(skip: Any) -> None:
    make: Any = partial(Stacked, 3, cell=GRUCell, hidden_size=3, num_layers=2, skip=skip)
    torch.manual_seed(0)
    gated = make(activation="glu").double()
    x, lengths = torch.randn(4, 5, 3).double(), torch.tensor([5, 3, 1, 4])
    below = gated.layers[0].layer if skip == "residual" else gated.layers[0]
    unit = gated.layers[0].after if skip == "residual" else gated.after[0]

    y, _ = below(x, None, lengths)
    g = 0.5 * y * (1 + torch.erf(y / 2**0.5))
    gates = torch.sigmoid(g @ unit.gates.weight.T + unit.gates.bias)
    expected = (g @ unit.values.weight.T) * gates
    if skip == "residual":
        keep = torch.arange(5) < lengths[:, None]
        expected = expected + x * keep[..., None]
    seen: list[Tensor] = []
    gated.layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out, _ = gated(x, None, lengths)
    reads = seen[0][..., 3:] if skip == "dense" else seen[0]
    torch.testing.assert_close(reads, expected, rtol=1e-12, atol=1e-12)
    assert (out[1, 3:] == 0).all()


def test_linear_recurrences_are_one_without_an_activation() -> None:
    """Twice the input gives twice the output, until something between the layers is not linear."""
    x = torch.randn(2, 6, 3).double()
    for activation, linear in (("none", True), ("gelu", False), ("glu", False)):
        torch.manual_seed(0)
        stack = Stacked(
            3, cell=LRUCell, hidden_size=3, num_layers=2, skip="residual",
            activation=activation,  # type: ignore[arg-type]
        ).double()  # fmt: skip
        once, twice = stack(x)[0], stack(2 * x)[0]
        assert torch.allclose(twice, 2 * once, rtol=1e-9) == linear
