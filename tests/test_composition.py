"""Layers composed: skips, norms, dropout between, both directions; for every cell and engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cell_cases import HIDDEN, INPUT, Case, each_cell, each_pair, sequence
from seqmodels.cells import GRUCell, LSTMCell, RNNCell
from seqmodels.config import check, compose
from seqmodels.errors import UserError
from seqmodels.layers import (
    Bidirectional,
    BidirectionalState,
    Recurrent,
    Residual,
    SequenceDropout,
    Stacked,
    to_torch,
)
from tiny import train, write_text

LENGTHS = torch.tensor([7, 1, 4, 4])


def batch(size: int = INPUT) -> Tensor:
    return sequence(size=size).transpose(0, 1)  # (B, T, I)


def same(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def tensors(state: Any) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [t for part in state for t in tensors(part)]


def stacked(case: Case, engine: str, **options: Any) -> Stacked:
    torch.manual_seed(0)
    kind: Any = case.kind
    layer = options.pop("layer", partial(Recurrent, engine=engine))
    # Another width is another kernel, which takes seconds to build.
    widths = [HIDDEN, HIDDEN, HIDDEN if engine == "generated" else 4]
    sizes: dict[str, Any] = {"num_layers": 3, "hidden_size": widths, **options}
    return Stacked(INPUT, cell=partial(kind, **case.arguments), layer=layer, **sizes).double()


def both(case: Case, engine: str, **options: Any) -> Stacked:
    layer = partial(Bidirectional, layer=partial(Recurrent, engine=engine), **options)
    return stacked(case, engine, layer=layer, num_layers=2, hidden_size=HIDDEN)


def residual(case: Case, engine: str) -> Residual:
    return Residual(Recurrent(case.make(hidden_size=INPUT), engine=engine), INPUT)


SHAPES: dict[str, Callable[[Case, str], Any]] = {
    "stacked": lambda c, e: stacked(c, e, norm="layer"),
    "residual": residual,
    "residual stack": lambda c, e: stacked(c, e, skip="residual", norm="rms"),
    "dense stack": lambda c, e: stacked(c, e, skip="dense", norm="layer"),
    "bidirectional": both,
    "sum": lambda c, e: both(c, e, merge="sum"),
}
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_causal = pytest.mark.parametrize("shape", list(SHAPES)[:4])


def ends(case: Case, engine: str, shape: str) -> Any:
    return SHAPES[shape](case, engine).double()


# --- the whole matrix


@each_pair
@each_causal
def test_two_halves_are_the_whole_and_so_are_single_steps(
    case: Case, engine: str, shape: str
) -> None:
    layer, x = ends(case, engine, shape), batch()
    y, last = layer(x)
    first, middle = layer(x[:, :6])
    second, end = layer(x[:, 6:], middle)  # a single step
    same(torch.cat((first, second), 1), y)
    same(tensors(end), tensors(last))
    assert layer.causal and y.shape[-1] == layer.output_size


@each_pair
@each_shape
def test_every_row_is_alone_and_padding_reaches_nothing(
    case: Case, engine: str, shape: str
) -> None:
    """NaN at padding; and each sequence run by itself, which no leak between rows survives."""
    layer = ends(case, engine, shape)
    padded = (torch.arange(7) >= LENGTHS.unsqueeze(1)).unsqueeze(-1)  # (B, T, 1)
    found = []
    for value in (0.0, float("nan")):
        x = batch().masked_fill(padded, value).requires_grad_()
        y, last = layer(x, None, LENGTHS)
        loss = y.square().sum() + sum(t.sum() for t in tensors(last))
        found.append((y, *tensors(last), *torch.autograd.grad(loss, (x, *layer.parameters()))))
    for clean, dirty in zip(*found, strict=True):
        assert torch.equal(clean, dirty) and clean.isfinite().all()
    assert not y.masked_select(padded).any()
    row, length = 2, 4
    alone, end = layer(batch()[row : row + 1, :length])
    same(y[row : row + 1, :length], alone)
    same([t[row : row + 1] for t in tensors(last)], tensors(end))


@each_cell
@each_shape
def test_the_order_of_the_batch_is_of_no_matter(case: Case, shape: str) -> None:
    """With as many sequences as units, so that a broadcast over the wrong axis shows."""
    layer, x = ends(case, "auto", shape), sequence(batch=HIDDEN).transpose(0, 1)
    order = torch.tensor([3, 0, 4, 1, 2])
    y, last = layer(x)
    turned, end = layer(x[order])
    same(turned, y[order])
    same(tensors(end), [t[order] for t in tensors(last)])


# --- residual and dense


def test_a_residual_layer_adds_its_input() -> None:
    inner = Recurrent(GRUCell(5, 5).double())
    layer, x = Residual(inner, 5).double(), batch(5)
    same(layer(x)[0], x + inner(x)[0])
    assert not list(layer.projection.parameters())


def test_a_residual_layer_projects_where_widths_differ() -> None:
    inner = Recurrent(GRUCell(3, 5).double())
    layer, x = Residual(inner, 3, before=nn.Tanh()).double(), batch()
    (weight,) = layer.projection.parameters()
    same(layer(x)[0], x @ weight.t() + inner(x.tanh())[0])


def test_a_residual_block_goes_round_any_layer() -> None:
    """A stack in both directions is a layer too."""
    inside = Stacked(3, cell=GRUCell, hidden_size=2, num_layers=2, layer=Bidirectional)
    layer = Residual(inside, 3).double()
    y, state = layer(batch(), None, LENGTHS)
    assert y.shape == (4, 7, 4) and not layer.causal
    same(y[0], layer(batch()[:1], layer.initial_state(1, y))[0][0])
    assert len(tensors(state)) == 4


def test_a_dense_stack_reads_and_gives_all_that_is_below() -> None:
    layers = Stacked(3, cell=RNNCell, hidden_size=[2, 4], num_layers=2, skip="dense").double()
    x = batch()
    y, _ = layers(x)
    one, _ = layers.layers[0](x)
    two, _ = layers.layers[1](torch.cat((x, one), -1))
    assert torch.equal(y, torch.cat((x, one, two), -1)) and layers.output_size == 9


@pytest.mark.parametrize(("norm", "kind"), [("layer", nn.LayerNorm), ("rms", nn.RMSNorm)])
@pytest.mark.parametrize("skip", ["none", "residual", "dense"])
def test_norms_stand_before_every_layer_but_the_lowest(norm: Any, kind: Any, skip: Any) -> None:
    layers = Stacked(3, cell=RNNCell, hidden_size=4, num_layers=3, norm=norm, skip=skip)
    seen: list[Tensor] = []
    for each in layers.modules():
        if isinstance(each, Recurrent):
            each.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = batch().float()
    layers(x)
    assert sum(isinstance(module, kind) for module in layers.modules()) == 2
    assert torch.equal(seen[0], x)
    for read in seen[1:]:
        torch.testing.assert_close(read.square().mean(-1), torch.ones(4, 7), rtol=0.0, atol=0.02)


def test_cells_may_differ_from_layer_to_layer() -> None:
    cells = [RNNCell, LSTMCell, GRUCell]
    layers = Stacked(3, cell=cells, hidden_size=[2, 4, 3], num_layers=3)
    assert [type(layer.cell) for layer in layers.layers] == cells
    with pytest.raises(ValueError, match="cell gives 3 layers and num_layers is 2"):
        Stacked(3, cell=cells, hidden_size=2, num_layers=2)


def test_a_list_of_cells_is_checked_entry_by_entry() -> None:
    cfg = compose("train", ["experiment=mixed_cells", "data.path=x"])
    check(cfg)
    assert [node._target_.rpartition(".")[2] for node in cfg.model.cell] == [
        "RNNCell", "LSTMCell", "GRUCell",
    ]  # fmt: skip
    cfg.model.cell[2].bias = 3
    with pytest.raises(UserError, match=r"model\.cell\.2\.bias: expected bool, got 3"):
        check(cfg)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"num_layers": 33}, "num_layers must lie in 1 … 32, got 33"),
    ({"skip": "highway"}, "skip must be one of none, residual, dense, got 'highway'"),
    ({"norm": "batch"}, "norm must be one of none, layer, rms, got 'batch'"),
    ({"norm": "rms", "num_layers": 1}, "norm='rms' acts between layers and there is one"),
    ({"same_mask": True}, "same_mask=True says how dropout draws and dropout is 0"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_stacks_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stacked(3, cell=RNNCell, hidden_size=2, **{"num_layers": 2, **options})
    with pytest.raises(ValueError, match="input_size must be a positive integer, got 0"):
        Residual(Recurrent(RNNCell(3, 4)), 0)


def test_one_mask_for_a_whole_sequence() -> None:
    torch.manual_seed(0)
    layers = Stacked(
        3, cell=RNNCell, hidden_size=40, num_layers=2, dropout=0.5, same_mask=True
    ).double()
    seen: list[Tensor] = []
    layers.layers[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    layers(batch())
    below, _ = layers.layers[0](batch())
    dropped = seen[0] == 0  # (B, T, H)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert len({tuple(row.tolist()) for row in dropped[:, 0]}) == 4  # each sequence its own
    assert 0.3 < dropped[:, 0].double().mean() < 0.7
    same(seen[0][~dropped], 2 * below[~dropped])
    layers.eval()(batch())
    same(seen[1], below)
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got -0.1"):
        SequenceDropout(-0.1)


# --- both directions


@each_pair
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_reverse_the_input_and_swap_the_halves(
    case: Case, engine: str, lengths: Tensor | None
) -> None:
    cells = iter([case.make(seed=0), case.make(seed=1), case.make(seed=1), case.make(seed=0)])
    make = partial(next, cells)
    one, other = (Bidirectional(make, layer=partial(Recurrent, engine=engine)) for _ in range(2))
    x = batch()
    turned = torch.zeros_like(x)
    limits = [7] * 4 if lengths is None else lengths.tolist()
    for row, length in enumerate(limits):
        turned[row, :length] = x[row, :length].flip(0)
    y, last = one(x, None, lengths)
    z, end = other(turned, None, lengths)
    ahead, back = z.chunk(2, -1)
    for row, length in enumerate(limits):
        same(y[row, :length], torch.cat((back, ahead), -1)[row, :length].flip(0))
    same([tensors(s) for s in end], [tensors(s) for s in reversed(last)])


@pytest.mark.parametrize("kind", [RNNCell, LSTMCell, GRUCell])
def test_a_bidirectional_stack_equals_torch(kind: Any) -> None:
    layers = Stacked(3, cell=kind, hidden_size=4, num_layers=2, layer=Bidirectional).double()
    pairs = [(each.forwards.cell, each.backwards.cell) for each in layers.layers]
    module = to_torch([cell for pair in pairs for cell in pair], bidirectional=True)
    y, last = layers(batch())
    expected, end = module(batch())
    same(y, expected)
    hidden = end[0] if isinstance(end, tuple) else end
    same(torch.stack([one.h for pair in last for one in pair]), hidden)


def test_the_sum_is_the_sum_of_the_halves() -> None:
    torch.manual_seed(0)
    layer = Bidirectional(lambda: GRUCell(3, 4)).double()
    y, state = layer(batch())
    assert isinstance(state, BidirectionalState) and layer.output_size == 8
    layer.merge = "sum"
    same(layer(batch())[0], sum(y.chunk(2, -1)))


def test_what_cannot_run_both_ways_is_refused() -> None:
    make = partial(GRUCell, 3, 4)
    with pytest.raises(ValueError, match="merge must be 'concat' or 'sum', got 'mean'"):
        Bidirectional(make, merge="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs a causal layer"):
        Bidirectional(make, layer=partial(Recurrent, reverse=True))
    with pytest.raises(TypeError, match="a cell for each direction, got one GRUCell"):
        Bidirectional(make())
    with pytest.raises(ValueError, match="BidirectionalState of two states, got a tuple"):
        Bidirectional(make)(batch().float(), (None, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model/layers=bidirectional", "backbone.layers.0 (Bidirectional)"),
        ("model.layers.layer.reverse=true", "backbone.layers.0 (Recurrent)"),
    ],
)
def test_a_language_model_may_not_look_ahead(
    override: str, named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(write_text(tmp_path), tmp_path / "run", override) == 2
    lines = [s for s in capfd.readouterr().err.splitlines() if s.startswith("seqmodels: ")]
    assert len(lines) == 1 and named in lines[0] and "model/layers=plain" in lines[0]
    assert not (tmp_path / "run").exists()
