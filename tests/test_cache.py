"""The continuous cache beside its definition."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
from seqmodels.cells import GRUCell
from seqmodels.cli import main
from seqmodels.layers import Stacked
from seqmodels.models import ContinuousCache, SequenceModel, TokenEmbedding, TokenHead, with_cache


def model() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(
        6,
        embedding=partial(TokenEmbedding, size=4),
        cell=GRUCell,
        layers=partial(Stacked, num_layers=1, hidden_size=5),
        head=TokenHead,
    ).double()


def by_definition(net: SequenceModel, x: Tensor, size: int, theta: float, weight: float) -> Tensor:
    hidden, _ = net.backbone(net.embedding(x))
    own = net.head(hidden).softmax(-1)
    for row in range(len(x)):
        for t in range(1, x.shape[1]):
            past = range(max(0, t - size), t)
            scores = torch.stack([theta * hidden[row, t] @ hidden[row, i] for i in past])
            cached = torch.zeros(6, dtype=torch.float64)
            for share, i in zip(scores.softmax(0), past, strict=True):
                cached[x[row, i + 1]] += share
            own[row, t] = (1 - weight) * own[row, t] + weight * cached
    return own


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("chunk", [1, 4, 5, 11])
def test_it_is_its_definition_however_the_text_is_cut(size: int, chunk: int) -> None:
    net = model()
    x = torch.randint(0, 6, (2, 11))
    cached = ContinuousCache(net, size=size, theta=2.0, weight=0.3)
    state, parts = None, []
    for part in x.split(chunk, 1):
        scores, state = cached(part, state)
        parts.append(scores)
    found = torch.cat(parts, 1).exp()
    torch.testing.assert_close(found, by_definition(net, x, size, 2.0, 0.3))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 11, dtype=torch.float64))


@torch.no_grad()
def test_without_weight_it_is_the_model_and_its_limits_are_said() -> None:
    net, x = model(), torch.randint(0, 6, (2, 11))
    plain = net(x)[0].log_softmax(-1)
    torch.testing.assert_close(ContinuousCache(net, size=4, theta=1.0, weight=0.0)(x)[0], plain)
    for bad in ({"size": 0}, {"theta": -1.0}, {"theta": float("nan")}, {"weight": 1.5}):
        with pytest.raises(ValueError, match="must"):
            ContinuousCache(net, **{"size": 4, "theta": 1.0, "weight": 0.1, **bad})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is for language models"):
        with_cache(torch.nn.Linear(2, 2), size=4, theta=1.0, weight=0.1)


def test_words_that_come_again_are_measured_as_likelier(tmp_path: Path, capsys: Any) -> None:
    text, run = tiny.write_text(tmp_path), tmp_path / "run"
    assert tiny.train(text, run) == 0

    def loss(*own: str) -> float:
        capsys.readouterr()
        assert main(["eval", f"run={run}", "split=valid", *own]) == 0
        rows = capsys.readouterr().out.splitlines()
        return float(next(row for row in rows if row.startswith("val/loss")).split()[1])

    plain = loss()
    assert loss("cache=50", "cache_weight=0.0") == pytest.approx(plain, abs=2e-4)
    # The text repeats itself, and the model of six steps does not know it yet.
    assert loss("cache=150", "cache_theta=5.0", "cache_weight=0.3") < plain - 0.01
    assert main(["eval", f"run={run}", "cache_theta=1.0"]) == 2
    assert "cache_theta is of a cache, and there is none" in capsys.readouterr().err
