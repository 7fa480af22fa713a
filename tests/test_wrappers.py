"""Zoneout, dropped weights, same-mask dropout, learned state, the trajectory: on every engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cell_cases import CASES, HIDDEN, INPUT, Case, sequence
from seqmodels.cells import LSTMCell, RNNCell
from seqmodels.cells.gate_noise import GateNoise
from seqmodels.cells.recurrent_dropout import RecurrentDropout
from seqmodels.cells.weight_drop import WeightDrop
from seqmodels.cells.wrapper import probe
from seqmodels.cells.zoneout import Zoneout
from seqmodels.engines import ENGINES, Compiled
from seqmodels.initialisers import ForgetBias, Orthogonal
from seqmodels.layers import Recurrent
from seqmodels.scan import scan

LENGTHS = torch.tensor([7, 1, 4, 4])
OPTIONS: dict[str, dict[str, Any]] = {
    "zoneout": {"zoneout": 0.3},
    "weight drop": {"weight_drop": 0.4},
    "recurrent dropout": {"recurrent_dropout": 0.4},
    "noise": {"noise": 0.3},
    "all": {
        "noise": 0.1,
        "zoneout": 0.2,
        "weight_drop": 0.2,
        "recurrent_dropout": 0.3,
        "learned_state": True,
    },
}
SOME = [case for case in CASES if case.name in ("rnn", "lstm", "gru", "lem")]
each_cell = pytest.mark.parametrize("case", SOME, ids=lambda case: case.name)
each_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def layer(case: Case, **options: Any) -> Recurrent[Any]:
    return Recurrent(case.make(), **options).double()


def batch() -> Tensor:
    """x (B, T, I)."""
    return sequence().transpose(0, 1).contiguous()


def results(one: Recurrent[Any], lengths: Tensor | None = LENGTHS) -> list[Tensor]:
    torch.manual_seed(5)
    x = batch().requires_grad_()
    y, last = one(x, None, lengths)
    loss = y.square().sum() + sum(f.sum() for f in last)
    return [y, *last, *torch.autograd.grad(loss, [x, *one.parameters()])]


@each_cell
@each_option
@pytest.mark.parametrize("training", [True, False])
def test_engines_agree(
    case: Case, options: dict[str, Any], training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "compiled", Compiled("none"))
    one = layer(case, engine="eager", **options).train(training)
    expected = results(one)
    one.engine = "compiled"
    for found, value in zip(results(one), expected, strict=True):
        torch.testing.assert_close(found, value)
    assert one.engine_used == "compiled"


@pytest.mark.parametrize("case", SOME[:1], ids=lambda case: case.name)
def test_the_printed_kernel_agrees(case: Case) -> None:
    one = layer(case, engine="eager", **OPTIONS["all"])
    if ENGINES["generated"].why_not(case.make(), sequence(), None, None) is not None:
        pytest.skip("no compiler")
    expected = results(one)
    one.engine = "generated"
    for found, value in zip(results(one), expected, strict=True):
        torch.testing.assert_close(found, value)


@each_cell
@each_option
def test_single_steps_and_pieces_are_the_whole_in_evaluation(
    case: Case, options: dict[str, Any]
) -> None:
    one = layer(case, **options).eval()
    for p in one.parameters():
        p.data.add_(0.1)  # a learned state that is not zero
    y, last = one(batch())
    state, outputs = None, []
    for x in batch().split(1, dim=1):
        step, state = one(x, state)
        outputs.append(step)
    torch.testing.assert_close(torch.cat(outputs, 1), y)
    torch.testing.assert_close(tuple(state), tuple(last))


@each_cell
@each_option
def test_names_and_the_kind_of_state_are_those_without_options(
    case: Case, options: dict[str, Any]
) -> None:
    plain, other = layer(case), layer(case, **options)
    names = [n for n in other.state_dict() if not n.startswith("initial_")]
    assert names == list(plain.state_dict())
    x = batch()
    assert type(other(x)[1]) is type(plain(x)[1])


def test_zoneout_keeps_the_old_value_bit_for_bit_or_takes_the_new() -> None:
    cell = LSTMCell(INPUT, HIDDEN).double()
    x, rate = sequence(1, 500), {"h": 0.25, "c": 0.75}
    state = cell.initial_state(500, x)
    state = type(state)(*(torch.rand_like(f) for f in state))
    _, new = scan(cell, x, state)
    _, mixed = scan(Zoneout(cell, rate), x, state)
    for name, old, came, found in zip(rate, state, new, mixed, strict=True):
        kept = found == old
        assert (kept | (found == came)).all()
        assert abs(kept.double().mean() - rate[name]) < 0.05
    _, mean = scan(Zoneout(cell, rate).eval(), x, state)
    for p, old, came, found in zip(rate.values(), state, new, mean, strict=True):
        torch.testing.assert_close(found, p * old + (1 - p) * came)


def test_weights_are_dropped_once_for_all_steps() -> None:
    cell = RNNCell(INPUT, HIDDEN).double()
    wrapped, x = WeightDrop(cell, 0.5), sequence()
    torch.manual_seed(3)
    (stage,) = wrapped.prepare()
    weight = stage.operator.weights[0]
    kept = weight != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(weight[kept], 2.0 * cell.weight_hh[kept])
    torch.manual_seed(3)
    y, _ = scan(wrapped, x)
    with torch.no_grad():
        cell.weight_hh.copy_(weight.detach())
    torch.testing.assert_close(y, scan(cell, x)[0])
    wrapped.eval()
    torch.testing.assert_close(scan(wrapped, x)[0], scan(cell, x)[0])


def test_recurrent_dropout_has_one_mask_a_sequence_on_what_the_product_reads() -> None:
    cell = RNNCell(INPUT, HIDDEN).double()
    wrapped, x = RecurrentDropout(cell, 0.5), sequence()
    first = wrapped.initial_state(4, x)
    mask = first.mask0
    assert set(mask.unique().tolist()) == {0.0, 2.0} and not torch.equal(mask[0], mask[1])
    y, last = scan(wrapped, x, first)
    assert torch.equal(last.mask0, mask)
    h = torch.zeros(4, HIDDEN, dtype=torch.float64)
    for gates_x, output in zip(cell.project(x), y, strict=True):
        h = torch.tanh(gates_x + (mask * h) @ cell.weight_hh.t())
        torch.testing.assert_close(output, h)


def test_noise_is_within_the_nonlinearity_and_anew_at_every_step() -> None:
    cell = RNNCell(INPUT, HIDDEN).double()
    x = sequence(3, 2000)
    torch.manual_seed(4)
    y, _ = scan(GateNoise(cell, 0.2), x)
    before = torch.cat((torch.zeros_like(y[:1]), y[:-1]))
    # What is in tanh(…) beside the equation's own terms.
    rest = torch.atanh(y) - cell.project(x) - before @ cell.weight_hh.t()
    rest = rest.detach()
    assert abs(rest.mean()) < 0.005 and abs(rest.std() - 0.2) < 0.005
    flat = rest.flatten(1)
    assert abs(torch.corrcoef(flat) - torch.eye(3)).max() < 0.05
    torch.testing.assert_close(scan(GateNoise(cell, 0.2).eval(), x)[0], scan(cell, x)[0])


@each_cell
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("engine", ["eager", "compiled"])
def test_the_trajectory_holds_every_field_of_every_step(
    case: Case, reverse: bool, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "compiled", Compiled("none"))
    one = layer(case, reverse=reverse, engine=engine).eval()
    x = batch()
    y, last = one(x, None, LENGTHS)
    outputs, path, end = one.trajectory(x, None, LENGTHS)
    torch.testing.assert_close(outputs, y)
    torch.testing.assert_close(tuple(end), tuple(last))
    assert type(path) is type(last)
    for row, length in enumerate(LENGTHS.tolist()):
        place = 0 if reverse else length - 1
        for steps, field in zip(path, last, strict=True):
            torch.testing.assert_close(steps[row, place], field[row])
            assert not steps[row, length:].any()
    assert torch.autograd.grad(path[-1].sum(), next(iter(one.parameters())))[0].any()


def test_a_learned_state_starts_where_none_is_given_and_only_there() -> None:
    one = Recurrent(LSTMCell(INPUT, HIDDEN), learned_state=True).double()
    assert [n for n in one.state_dict() if "initial" in n] == ["initial_h", "initial_c"]
    with torch.no_grad():
        one.get_parameter("initial_c").fill_(0.5)
    y, last = one(batch())
    given = one.initial_state(4, batch())
    torch.testing.assert_close(one(batch(), given)[0], y)
    (grad,) = torch.autograd.grad(y.sum(), one.get_parameter("initial_c"))
    assert grad.all()
    carried, _ = one(batch(), type(last)(*(f.detach() for f in last)))
    assert torch.autograd.grad(
        carried.sum(), one.get_parameter("initial_c"), allow_unused=True
    ) == (None,)


def test_initialisers_find_the_cell_inside_once() -> None:
    one = Recurrent(Zoneout(LSTMCell(INPUT, HIDDEN), 0.2), weight_drop=0.2)
    ForgetBias(3.0)(one)
    inner = one.get_submodule("cell.cell")
    assert isinstance(inner, LSTMCell) and inner.bias_ih is not None
    assert (inner.bias_ih[HIDDEN : 2 * HIDDEN] == 3.0).all()
    Orthogonal()(nn.Sequential(one))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "zoneout": ({"zoneout": 1.0}, r"zoneout must lie in \[0, 1\), got 1.0"),
    "field": ({"zoneout": {"z": 0.1}}, "zoneout names 'z' .* fields h, c"),
    "weights": ({"weight_drop": -0.1}, r"weight_drop must lie in \[0, 1\)"),
    "dropout": ({"recurrent_dropout": 2}, r"recurrent_dropout must lie in \[0, 1\)"),
    "noise": ({"noise": -0.1}, "noise must be a number >= 0, got -0.1"),
    "noise without end": ({"noise": float("inf")}, "noise must be a number >= 0, got inf"),
    "recompute": ({"recompute": 0}, "recompute must be a number of steps >= 1, 'sqrt'"),
}


@pytest.mark.parametrize("name", BAD)
def test_options_out_of_range_are_refused(name: str) -> None:
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        Recurrent(LSTMCell(INPUT, HIDDEN), **options)


def test_a_stage_changes_what_it_does_not_hand_on() -> None:
    assert probe(LSTMCell(INPUT, HIDDEN))[2] == (("h", "c"),)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("engine", ["eager", "native", "compiled"])
def test_autocast_keeps_state_and_gradients_in_float32(
    case: Case, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "compiled", Compiled("none"))
    cell = case.make().float()
    x = batch().float().requires_grad_()
    if ENGINES[engine].why_not(cell, x.transpose(0, 1), None, None) is not None:
        pytest.skip("not its cell")
    expected, _ = Recurrent(cell, engine="eager")(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, last = Recurrent(cell, engine=engine)(x)
    torch.testing.assert_close(y, expected, rtol=0.1, atol=0.05)
    assert all(f.dtype == torch.float32 for f in last if f.is_floating_point())
    grads = torch.autograd.grad(y.sum(), [x, *cell.parameters()], allow_unused=True)
    assert all(g.dtype == torch.float32 for g in grads if g is not None)
