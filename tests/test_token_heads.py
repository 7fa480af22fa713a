"""From hidden states to the loss of tokens."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from seqmodels.cells import GRUCell
from seqmodels.layers import Stacked
from seqmodels.models import (
    AdaptiveHead,
    SequenceModel,
    TokenEmbedding,
    TokenHead,
    linear_cross_entropy,
)


def some(rows: int, width: int, vocabulary: int, *, left_out: int = 0) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    hidden = torch.randn(rows, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, width, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(vocabulary, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows,))
    targets[:left_out] = -100
    return hidden, weight, bias, targets


@pytest.mark.parametrize("piece", [1, 30, 50, 1 << 20])  # of the 11 rows: 1, 2 or 3, 3 or 4, all
@pytest.mark.parametrize("left_out", [0, 5])
@pytest.mark.parametrize("with_bias", [True, False])
def test_loss_and_gradients_are_those_of_the_scores(
    piece: int, left_out: int, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = importlib.import_module("seqmodels.models.linear_cross_entropy")
    monkeypatch.setattr(place, "PIECE", piece)
    hidden, weight, bias, targets = some(11, 3, 13, left_out=left_out)
    kept = bias if with_bias else None
    ours = linear_cross_entropy(hidden, weight, kept, targets)
    theirs = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, kept), targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=0)
    wanted = [hidden, weight, bias] if with_bias else [hidden, weight]
    for a, b in zip(
        torch.autograd.grad(3.0 * ours, wanted), torch.autograd.grad(3.0 * theirs, wanted),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_thousands_of_scores_are_those_of_the_plain_way(dtype: torch.dtype) -> None:
    # Wider than any vector or block that a softmax works in, so that it may not read what it wrote.
    hidden, weight, bias, targets = some(9, 8, 40_000)
    hidden, weight, bias = (t.detach().to(dtype).requires_grad_() for t in (hidden, weight, bias))
    ours = linear_cross_entropy(hidden, weight, bias, targets)
    theirs = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), targets)
    near = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-11, "atol": 0.0}
    torch.testing.assert_close(ours, theirs, **near)
    for a, b in zip(
        torch.autograd.grad(ours, (hidden, weight, bias)),
        torch.autograd.grad(theirs, (hidden, weight, bias)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=near["rtol"], atol=max(near["atol"], 1e-15))


def test_a_gradient_is_handed_out_once_and_scaled_by_what_comes_after() -> None:
    hidden, weight, bias, targets = some(6, 3, 5)
    loss = linear_cross_entropy(hidden, weight, bias, targets)
    (whole,) = torch.autograd.grad(loss, weight, retain_graph=True)
    with pytest.raises(RuntimeError, match="handed out before and is not kept"):
        loss.backward()
    (part,) = torch.autograd.grad(
        0.25 * linear_cross_entropy(hidden, weight, bias, targets), weight
    )
    torch.testing.assert_close(part, 0.25 * whole)


def test_scores_far_apart_lose_nothing() -> None:
    hidden = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64)
    weight = torch.tensor([[900.0], [-900.0], [0.0]], dtype=torch.float64)
    targets = torch.tensor([1, 2, 0])
    loss = linear_cross_entropy(hidden, weight, None, targets)
    assert float(loss) == pytest.approx((1800 + 900 + 0) / 3)


def test_what_needs_no_gradient_gets_none_and_no_target_is_nan() -> None:
    hidden, weight, bias, targets = some(4, 3, 5)
    frozen = linear_cross_entropy(hidden, weight.detach(), bias.detach(), targets)
    frozen.backward()
    assert hidden.grad is not None and weight.grad is None and bias.grad is None
    with torch.no_grad():
        assert not linear_cross_entropy(hidden, weight, bias, targets).requires_grad
    nothing = torch.full_like(targets, -100)
    assert linear_cross_entropy(hidden, weight, bias, nothing).isnan()


def test_half_precision_products_with_a_softmax_in_single() -> None:
    hidden, weight, bias, targets = (t.float() if t.is_floating_point() else t
                                     for t in some(64, 16, 50))  # fmt: skip
    hidden, weight, bias = (t.detach().requires_grad_() for t in (hidden, weight, bias))
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(hidden, weight, bias, targets)
        theirs = nn.functional.cross_entropy(nn.functional.linear(hidden, weight, bias), targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    wanted = (hidden, weight, bias)
    for a, b in zip(
        torch.autograd.grad(ours, wanted), torch.autograd.grad(theirs, wanted), strict=True
    ):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.02


def model(head: Any, size: int = 6) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(
        20,
        embedding=partial(TokenEmbedding, size=size),
        cell=GRUCell,
        layers=partial(Stacked, num_layers=1, hidden_size=6),
        head=head,
    ).double()


class Scores(nn.Linear):
    """A head of one's own, without a loss."""

    def __init__(self, input_size: int, embedding: TokenEmbedding) -> None:
        super().__init__(input_size, embedding.num_tokens)


HEADS: dict[str, Any] = {
    "tokens": TokenHead,
    "tied": partial(TokenHead, tie_weights=True),
    "adaptive": partial(AdaptiveHead, cutoffs=(5, 12), div_value=2.0),
    "own": Scores,
}


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_of_a_model_is_that_of_its_scores(name: str) -> None:
    net = model(HEADS[name])
    inputs, targets = torch.randint(0, 20, (2, 3, 7))
    targets[0, :4] = -100
    loss, state = net.loss(inputs, targets)
    ours = torch.autograd.grad(loss, list(net.parameters()))
    scores, other = net(inputs)
    wanted = nn.functional.cross_entropy(scores.transpose(1, 2), targets)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    theirs = torch.autograd.grad(wanted, list(net.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(state, other)


def test_adaptive_scores_are_log_probabilities_and_its_limits_are_said() -> None:
    scores, _ = model(HEADS["adaptive"])(torch.randint(0, 20, (2, 4)))
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 4, dtype=torch.float64))
    for cutoffs in ((), (5, 5), (5, 20), (0, 3)):
        with pytest.raises(ValueError, match=r"cutoffs must increase and lie in 1\.\.19"):
            model(partial(AdaptiveHead, cutoffs=cutoffs))
    with pytest.raises(ValueError, match="leave the last of 2 clusters a unit"):
        model(partial(AdaptiveHead, cutoffs=(5, 12)))


def test_a_run_with_adaptive_softmax_says_what_does_not_fit(tmp_path: Path, capsys: Any) -> None:
    text = tiny.write_text(tmp_path)
    assert tiny.train(text, tmp_path / "bad", "model/head=adaptive") == 2
    assert "below the vocabulary of" in capsys.readouterr().err
    own = ("model/head=adaptive", "model.head.cutoffs=[5,10]", "model.head.div_value=2.0")
    assert tiny.train(text, tmp_path / "run", *own) == 0
    assert tiny.record(tmp_path / "run")["status"] == "finished"
