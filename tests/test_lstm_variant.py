"""What the LSTM's variants promise beside their equation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cell_cases import HIDDEN, INPUT, assert_same, gradients, prefix, random_state, run, sequence
from seqmodels.cells import LSTMCell, LSTMVariantCell
from seqmodels.engines import ENGINES, EngineError, choose
from seqmodels.initialisers import Chrono, ForgetBias, Orthogonal
from seqmodels.scan import scan
from twins_leaky import lstm_variant_twin

NAMES = ("peephole", "layer_norm", "coupled", "bias")
MIXED = [dict(zip(NAMES, v, strict=True)) for v in itertools.product((False, True), repeat=4)]


def make(**options: bool) -> LSTMVariantCell:
    torch.manual_seed(0)
    cell = LSTMVariantCell(INPUT, HIDDEN, **options).double()
    with torch.no_grad():  # so that no gain is 1
        for parameter in cell.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return cell


@pytest.mark.parametrize("options", MIXED, ids=str)
def test_options_together_equal_their_numpy_twin(options: dict[str, bool]) -> None:
    cell = make(**options)
    x, state = sequence(), random_state(cell)
    y, last = scan(cell, x, state)
    h, c = (field.numpy() for field in state)
    for t in range(len(x)):
        _, (h, c) = lstm_variant_twin(cell, x[t].numpy(), h, c)
        np.testing.assert_allclose(y[t].detach().numpy(), h, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(last.c.detach().numpy(), c, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", MIXED, ids=str)
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4]], ids=["full", "lengths"])
def test_options_together_agree_on_the_compiled_engine(
    options: dict[str, bool], lengths: list[int] | None
) -> None:
    cell, keep = make(**options), None if lengths is None else prefix(lengths, 7)
    state = random_state(cell)
    found = gradients(lambda c, x, s: run("compiled", c, x, s, keep), cell, sequence(), state)
    expected = gradients(lambda c, x, s: scan(c, x, s, keep=keep), cell, sequence(), state)
    assert_same(found, expected)


@pytest.mark.parametrize("bias", [True, False])
def test_without_options_it_is_the_lstm_bit_for_bit(bias: bool) -> None:
    plain, variant = LSTMCell(INPUT, HIDDEN, bias=bias), LSTMVariantCell(INPUT, HIDDEN, bias=bias)
    variant.load_state_dict(plain.state_dict())
    x = sequence().float()
    for found, expected in zip(scan(variant, x)[1], scan(plain, x)[1], strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("options", MIXED, ids=str)
def test_no_vendor_kernel_takes_it_and_it_says_so(options: dict[str, bool]) -> None:
    x = sequence()
    assert choose("native", LSTMCell(INPUT, HIDDEN).double(), x, None, None) is ENGINES["native"]
    with pytest.raises(EngineError, match="no kernel for the equation of LSTMVariantCell"):
        choose("native", make(**options), x, None, None)


def test_norms_are_those_of_torch_and_start_by_normalising_alone() -> None:
    cell = LSTMVariantCell(INPUT, HIDDEN, layer_norm=True).double()
    assert all((getattr(cell, f"gain_{k}") == 1).all() for k in ("ih", "hh", "c"))
    assert cell.shift_c is not None and not cell.shift_c.any()
    x, state = sequence(1), random_state(cell)
    gates, memory = nn.LayerNorm(4 * HIDDEN).double(), nn.LayerNorm(HIDDEN).double()
    both = gates(x[0] @ cell.weight_ih.T) + gates(state.h @ cell.weight_hh.T)
    i, f, g, o = (both + cell.bias_ih + cell.bias_hh).chunk(4, -1)
    c = f.sigmoid() * state.c + i.sigmoid() * g.tanh()
    y, last = scan(cell, x, state)
    torch.testing.assert_close(last.c, c)
    torch.testing.assert_close(y[0], o.sigmoid() * memory(c).tanh())


def test_a_normalised_cell_does_not_see_the_scale_of_its_weights() -> None:
    """Of the input's and the recurrent ones, each apart, up to the epsilon of the norm."""
    cell, x = LSTMVariantCell(INPUT, HIDDEN, layer_norm=True).double(), 10 * sequence()
    y, _ = scan(cell, x, random_state(cell))
    with torch.no_grad():
        cell.weight_ih *= 3
    torch.testing.assert_close(scan(cell, x, random_state(cell))[0], y, rtol=1e-3, atol=1e-3)


def test_coupled_gates_write_what_they_forget() -> None:
    """A memory that is already the candidate stays, whatever the gate."""
    cell = make(coupled=True)
    with torch.no_grad():
        cell.weight_hh.zero_()
    assert cell.gates == ("f", "g", "o") and cell.write_gate is None
    x, state = sequence(1), random_state(cell)
    candidate = cell.project(x)[0].chunk(3, -1)[1].tanh()
    _, last = scan(cell, x, state._replace(c=candidate))
    torch.testing.assert_close(last.c, candidate)


@pytest.mark.parametrize("options", [m for m in MIXED if m["bias"]], ids=str)
def test_initialisers_find_the_memory_gate(options: dict[str, bool]) -> None:
    cell = make(**options)
    ForgetBias(2.0)(cell)

    def bias() -> dict[str, Any]:
        assert cell.bias_ih is not None and cell.bias_hh is not None
        blocks = (cell.bias_ih + cell.bias_hh).detach().chunk(len(cell.gates))
        return dict(zip(cell.gates, blocks, strict=True))

    assert (bias()["f"] == 2).all() and not (bias()["o"] == 2).any()
    Chrono(50.0)(cell)
    assert (bias()["f"] >= 0).all()
    Orthogonal()(cell)
    for block in cell.weight_hh.detach().chunk(len(cell.gates)):
        torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN, dtype=torch.float64))
