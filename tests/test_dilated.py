"""Dilated recurrences: folding time into the batch is the recurrence from h_{t-d}, exactly."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from cell_cases import HIDDEN, INPUT, sequence
from seqmodels.cells import Delay, GRUCell, LSTMCell, RNNCell
from seqmodels.layers import Bidirectional, Dilated, Recurrent, Stacked

LENGTHS = torch.tensor([7, 1, 4, 2])


def batch(steps: int = 7) -> Tensor:
    return sequence(steps).transpose(0, 1).contiguous()


def dilated(kind: Any, d: int, **options: Any) -> Dilated:
    torch.manual_seed(0)
    return Dilated(Recurrent(kind(INPUT, HIDDEN), **options), d).double()


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("d", [1, 2, 3, 9])
def test_it_is_a_network_of_that_lag(d: int, lengths: Tensor | None) -> None:
    layer = dilated(RNNCell, d, engine="eager")
    torch.manual_seed(0)
    other = Recurrent(Delay(INPUT, HIDDEN, cell=RNNCell, lags=(d,)), engine="eager").double()
    other.cell.load_state_dict({f"cell.{n}": p for n, p in layer.layer.cell.state_dict().items()})
    ours, theirs = batch().requires_grad_(), batch().requires_grad_()
    y, _ = layer(ours, None, lengths)
    expected, _ = other(theirs, None, lengths)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)
    weight = torch.randn(y.shape, dtype=y.dtype)
    found = torch.autograd.grad((y * weight).sum(), [ours, *layer.parameters()])
    wanted = torch.autograd.grad((expected * weight).sum(), [theirs, *other.parameters()])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("engine", ["auto", "eager", "native"])
@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("cut", [1, 3, 6])
def test_two_pieces_are_the_whole(engine: str, d: int, cut: int) -> None:
    layer, x = dilated(LSTMCell, d, engine=engine), batch()
    y, last = layer(x)
    first, state = layer(x[:, :cut])
    rest, end = layer(x[:, cut:], state)
    torch.testing.assert_close(torch.cat((first, rest), 1), y)
    torch.testing.assert_close(tuple(end), tuple(last))
    assert last.h.shape == (4, d, HIDDEN)
    torch.testing.assert_close(layer(x, layer.initial_state(4, x))[0], y)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_each_row_is_alone_and_padding_reaches_nothing(d: int) -> None:
    layer, x = dilated(GRUCell, d), batch()
    for row, length in enumerate(LENGTHS.tolist()):
        x[row, length:] = torch.nan
    x.requires_grad_()
    y, last = layer(x, None, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone, end = layer(x[row : row + 1, :length])
        torch.testing.assert_close(y[row : row + 1, :length], alone)
        torch.testing.assert_close(last.h[row], end.h[0])
        assert not y[row, length:].any()
    grads = torch.autograd.grad(y.sum() + last.h.sum(), [x, *layer.parameters()])
    assert all(g.isfinite().all() for g in grads)


def test_a_reversed_layer_reads_what_comes_d_steps_later() -> None:
    layer, x = dilated(RNNCell, 2, reverse=True), batch()
    y, _ = layer(x)
    forwards = dilated(RNNCell, 2)
    expected, _ = forwards(x.flip(1))
    torch.testing.assert_close(y, expected.flip(1))
    assert not layer.causal and forwards.causal


def test_a_stack_has_one_dilation_for_each_layer() -> None:
    make = partial(Stacked, INPUT, cell=GRUCell, hidden_size=4, num_layers=3)
    stack = make(dilation=[1, 2, 4]).double()
    assert [getattr(one, "dilation", 1) for one in stack.layers] == [1, 2, 4]
    y, state = stack(batch(), None, LENGTHS)
    assert y.shape == (4, 7, 4) and [s.h.shape[1:] for s in state] == [(4,), (2, 4), (4, 4)]
    with pytest.raises(ValueError, match="dilation gives 2 layers and num_layers is 3"):
        make(dilation=[1, 2])
    residual = make(dilation=[1, 2, 4], skip="residual", layer=Bidirectional).double()
    assert residual(batch())[0].shape == (4, 7, 8)


def test_what_makes_no_sense_is_refused() -> None:
    for d in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match="dilation must be a whole number"):
            dilated(RNNCell, d)  # type: ignore[arg-type]
    layer = dilated(RNNCell, 2)
    with pytest.raises(ValueError, match=r"state with fields \(B, 2, ·\)"):
        layer(batch(), layer.layer.initial_state(4, batch()))
    with pytest.raises(ValueError, match=r"1 <= length <= T = 7"):
        layer(batch(), None, torch.tensor([8, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"lengths of shape \(B,\)"):
        layer(batch(), None, torch.tensor([7]))
