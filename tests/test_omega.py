"""The regulariser on gradient norms: the paper's formula, its immediate derivative, any cell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqmodels.cells import GRUCell, IndRNNCell, LSTMCell, RNNCell
from seqmodels.layers import Bidirectional, Recurrent
from seqmodels.scan import scan
from seqmodels.training.omega import Omega
from tiny import checkpoint, record, train, write_text


def states(cell: RNNCell, x: Tensor) -> Tensor:
    """h_0 … h_T of a tanh network, (T + 1, B, H)."""
    h = [torch.zeros(x.shape[1], cell.hidden_size, dtype=x.dtype)]
    for row in cell.project(x):
        h.append(torch.tanh(row + h[-1] @ cell.weight_hh.t()))
    return torch.stack(h)


def formula(weight: Tensor, h: Tensor, deltas: Tensor) -> Tensor:
    """Ω of the vanilla RNN; δ and h constants."""
    back = (deltas * (1 - h[1:] ** 2)) @ weight
    ratio = back.square().sum(-1) / deltas.square().sum(-1)
    return (ratio - 1).square().mean()


@pytest.mark.parametrize("engine", ["eager", "auto", "generated"])
def test_of_the_vanilla_network_is_the_formula_and_its_finite_difference(engine: str) -> None:
    torch.manual_seed(0)
    layer = Recurrent(RNNCell(3, 4), engine=engine).double()
    cell = layer.cell
    assert isinstance(cell, RNNCell)
    x, weights = torch.randn(2, 6, 3).double(), torch.randn(6, 2, 4).double()

    # ∂L/∂h_t of L = Σ weights · h, by leaves that are added to every state
    leaves = torch.zeros(6, 2, 4, dtype=torch.float64, requires_grad=True)
    h, loss = torch.zeros(2, 4).double(), torch.zeros(()).double()
    for row, leaf, weight in zip(cell.project(x.transpose(0, 1)), leaves, weights, strict=True):
        h = torch.tanh(row + h @ cell.weight_hh.t()) + leaf
        loss = loss + (h * weight).sum()
    (deltas,) = torch.autograd.grad(loss, leaves)
    path = states(cell, x.transpose(0, 1)).detach()

    omega = Omega(layer)
    y, _ = layer(x)
    (y * weights.transpose(0, 1)).sum().backward()
    plain = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
    value = omega.add_gradient(0.3)
    expected = formula(cell.weight_hh.detach(), path, deltas)
    assert float(value) == pytest.approx(float(expected), rel=1e-10)
    added = cell.weight_hh.grad - plain["cell.weight_hh"]  # type: ignore[operator]
    eps = 1e-6
    for i in range(4):
        for j in range(4):
            shift = torch.zeros(4, 4).double()
            shift[i, j] = eps
            w = cell.weight_hh.detach()
            slope = (formula(w + shift, path, deltas) - formula(w - shift, path, deltas)) / 2 / eps
            assert float(added[i, j]) == pytest.approx(0.3 * float(slope), rel=1e-5, abs=1e-8)
    for name, parameter in layer.named_parameters():
        if name != "cell.weight_hh":
            assert torch.equal(parameter.grad, plain[name])  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [RNNCell, LSTMCell, GRUCell, IndRNNCell])
@pytest.mark.parametrize("reverse", [False, True])
def test_of_any_cell_is_the_ratio_of_the_jacobian(make: Any, reverse: bool) -> None:
    """δ and the Jacobian of the whole state by autograd, sequence by sequence, padding left out."""
    torch.manual_seed(1)
    layer = Recurrent(make(3, 4), reverse=reverse, engine="eager").double()
    x, lengths = torch.randn(2, 5, 3).double(), torch.tensor([5, 3])
    omega = Omega(layer)
    y, _ = layer(x, None, lengths)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    value = float(omega.add_gradient(1.0))
    terms = []
    for b, length in enumerate(lengths.tolist()):
        order = range(length - 1, -1, -1) if reverse else range(length)
        state = tuple(f.requires_grad_() for f in layer.cell.initial_state(1, x))
        kind, path, loss = type(layer.cell.initial_state(1, x)), [state], torch.zeros(()).double()
        for t in order:
            _, new = scan(layer.cell, x[b : b + 1, t : t + 1].transpose(0, 1), kind(*path[-1]))
            # Apart: the gradient of c_t is without its way through h_t, another field of s_t.
            path.append(tuple(field.clone() for field in new))
            loss = loss + (path[-1][0] * weights[b, t]).sum()
        for t in range(length):
            deltas = torch.autograd.grad(
                loss, path[t + 1], retain_graph=True, materialize_grads=True, allow_unused=True
            )
            back = torch.autograd.grad(
                path[t + 1], path[t], deltas, retain_graph=True, materialize_grads=True,
                allow_unused=True,
            )  # fmt: skip
            size = sum(float(d.square().sum()) for d in deltas)
            terms.append((sum(float(g.square().sum()) for g in back) / size - 1) ** 2)
    assert value == pytest.approx(sum(terms) / len(terms), rel=1e-8)


def test_both_directions_and_dropped_weights() -> None:
    torch.manual_seed(0)
    part = partial(Recurrent, weight_drop=0.5)
    layer = Bidirectional(lambda: GRUCell(3, 4), layer=part)
    omega = Omega(layer)
    y, _ = layer(torch.randn(2, 5, 3))
    y.sum().backward()
    before = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
    assert float(omega.add_gradient(1.0)) > 0
    changed = [
        not torch.equal(b, p.grad)  # type: ignore[arg-type]
        for b, p in zip(before, layer.parameters(), strict=True)
    ]
    names = [name for name, _ in layer.named_parameters()]
    assert {n for n, c in zip(names, changed, strict=True) if c} == {
        "forwards.cell.weight_hh",
        "backwards.cell.weight_hh",
    }


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Recurrent(GRUCell(3, 4), recompute=2), "recompute"),
        (Recurrent(GRUCell(3, 4), recurrent_dropout=0.5), "recurrent_dropout"),
        (nn.Linear(2, 2), "the model has none"),
    ],
)
def test_refused_where_it_cannot_be_computed(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Omega(layer)


def test_in_training_it_is_logged_and_changes_the_recurrent_weights(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    extra = ("model/cell=rnn", "clip=none", "trainer.max_steps=2", "optimizer=sgd")
    assert train(text, tmp_path / "plain", *extra) == 0
    assert train(text, tmp_path / "omega", *extra, "task.omega=2.0") == 0
    a, b = (checkpoint(tmp_path / run)["state_dict"] for run in ("plain", "omega"))
    name = "model.backbone.layers.0.cell.weight_hh"
    assert not torch.equal(a[name], b[name])
    assert record(tmp_path / "omega")["metrics"]["train/omega"] > 0
    assert "train/omega" not in record(tmp_path / "plain")["metrics"]
    assert train(text, tmp_path / "no", *extra, "task.omega=-1.0") == 2
