"""The gradient of one loss term at every lag, against autograd and against a known decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cell_cases import HIDDEN, INPUT, PAIRS, Case, sequence
from seqmodels.analysis.gradients import norms_by_lag
from seqmodels.cells import GRUCell, LSTMCell, RNNCell
from seqmodels.layers import Bidirectional, Dilated, Recurrent, Residual, Stacked
from seqmodels.scan import scan


def term(y: Tensor) -> Tensor:
    return (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum()


RUN = [(c, e) for c, e in PAIRS if e in ("eager", "generated")]


@pytest.mark.parametrize(("case", "engine"), RUN, ids=[f"{c.name}:{e}" for c, e in RUN])
def test_it_is_the_gradient_that_autograd_gives_to_each_state(case: Case, engine: str) -> None:
    cell, x = case.make(), sequence(6, 3)
    states: list[Any] = []
    state = cell.initial_state(3, x)
    outputs = []
    for row in torch.split(x, 1):
        y, state = scan(cell, row, state)
        # Copies: the state's fields as what the next step reads, not as what made each other.
        state = type(state)(*(field.clone() for field in state))
        for field in state:
            if field.requires_grad:
                field.retain_grad()
            else:  # a history that is still empty
                field.requires_grad_()
        states.append(state)
        outputs.append(y[0])
    term(outputs[4]).backward()
    expected = [
        torch.cat(
            [torch.zeros_like(f).flatten(1) if f.grad is None else f.grad.flatten(1) for f in s],
            dim=-1,
        ).norm(dim=-1).mean()
        for s in reversed(states[:4])
    ]  # fmt: skip
    for parameter in cell.parameters():
        parameter.grad = None
    layer = Recurrent(cell, engine=engine)
    found = norms_by_lag(layer, x.transpose(0, 1), term, step=4)
    assert list(found) == [""]
    assert found[""].shape == (5,)
    # At lag 0 h is the output itself here and a tensor of its own there.
    torch.testing.assert_close(found[""][1:], torch.stack(expected), rtol=1e-9, atol=1e-11)
    assert layer.engine_used == engine
    assert all(p.grad is None for p in cell.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_linear_network_decays_by_its_eigenvalue(dtype: torch.dtype) -> None:
    cell = RNNCell(INPUT, HIDDEN, nonlinearity="relu").to(dtype)
    with torch.no_grad():
        cell.weight_hh.copy_(0.5 * torch.eye(HIDDEN))
        cell.weight_ih.fill_(0.1)
        for bias in (cell.bias_ih, cell.bias_hh):
            assert bias is not None
            bias.fill_(0.1)
    # 0.5 ** 99 is a number of single precision, its square is none.
    x = torch.ones(2, 100, INPUT, dtype=dtype)
    norms = norms_by_lag(Recurrent(cell), x, lambda y: y.sum())[""]
    torch.testing.assert_close(norms[1:] / norms[:-1], torch.full((99,), 0.5).double())
    torch.testing.assert_close(norms[0], torch.tensor(HIDDEN).double().sqrt())


def test_every_forward_layer_of_a_model_and_the_model_is_as_before() -> None:
    torch.manual_seed(0)
    stack = Stacked(INPUT, cell=[LSTMCell, GRUCell], hidden_size=[5, 4], num_layers=2).double()
    x = sequence(7, 3).transpose(0, 1)
    before, _ = stack(x)
    found = norms_by_lag(stack, x, term)
    assert list(found) == ["layers.0", "layers.1"]
    assert all(n.shape == (7,) and (n > 0).all() for n in found.values())
    assert torch.equal(stack(x)[0], before)
    both = Bidirectional(lambda: GRUCell(INPUT, 4).double())
    # What runs backwards has no lag: its states at later steps are the ones that it has been at.
    assert list(norms_by_lag(Residual(both, INPUT).double(), x, term, step=2)) == ["layer.forwards"]


def test_a_dilated_layer_has_a_gradient_at_every_dth_lag() -> None:
    cell = RNNCell(INPUT, HIDDEN, nonlinearity="relu", bias=False).double()
    with torch.no_grad():
        cell.weight_hh.copy_(0.5 * torch.eye(HIDDEN))
        cell.weight_ih.fill_(0.1)
    x = torch.ones(2, 11, INPUT).double()
    norms = norms_by_lag(Dilated(Recurrent(cell), 3), x, lambda y: y.sum(), step=9)["layer"]
    expected = [0.5 ** (k // 3) * HIDDEN**0.5 if k % 3 == 0 else 0.0 for k in range(10)]
    torch.testing.assert_close(norms, torch.tensor(expected).double())


def test_it_works_in_evaluation_and_with_options() -> None:
    layer = Recurrent(LSTMCell(INPUT, HIDDEN).double(), zoneout=0.3, learned_state=True)
    x = sequence(5, 2).transpose(0, 1)
    for mode in (True, False):
        found = norms_by_lag(layer.train(mode), x, term)
        assert (found[""] > 0).all()


def test_what_cannot_be_asked_is_refused() -> None:
    layer = Recurrent(RNNCell(INPUT, HIDDEN).double(), recompute=2)
    x = sequence(5, 2).transpose(0, 1)
    with pytest.raises(ValueError, match="set recompute to null"):
        norms_by_lag(layer, x, term)
    with pytest.raises(ValueError, match="no recurrent layer that runs forwards"):
        norms_by_lag(Recurrent(RNNCell(INPUT, HIDDEN).double(), reverse=True), x, term)
    with pytest.raises(ValueError, match=r"step must lie in -5 … 4, got 5"):
        norms_by_lag(Recurrent(RNNCell(INPUT, HIDDEN).double()), x, term, step=5)
