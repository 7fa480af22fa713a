"""Sampling: the distribution drawn from, the seed, and the state that is carried."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from seqmodels.cells import GRUCell
from seqmodels.layers import Stacked
from seqmodels.models import SequenceModel, TokenEmbedding, TokenHead
from seqmodels.sampling import choose_next, sample, stream


@pytest.fixture
def model() -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(
        7,
        embedding=partial(TokenEmbedding, size=5),
        cell=GRUCell,
        layers=partial(Stacked, hidden_size=6),
        head=TokenHead,
    ).double()


def shares(draw: Tensor, size: int) -> list[float]:
    return (torch.bincount(draw, minlength=size).double() / len(draw)).tolist()


def drawn(logits: list[float], **settings: object) -> list[float]:
    many = torch.tensor([logits]).expand(20_000, -1)
    generator = torch.Generator().manual_seed(3)
    return shares(choose_next(many, generator, **settings), len(logits))  # type: ignore[arg-type]


LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().tolist()


def test_of_equally_likely_tokens_no_more_than_k_are_left() -> None:
    found = drawn([0.0, 0.0, 0.0, -1.0], top_k=2)
    assert sum(share > 0 for share in found) == 2 and found[3] == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.5, 0.3, 0.15, 0.05]),
        ({"temperature": 0.0}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 1e-45}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 1e-30}, [1.0, 0.0, 0.0, 0.0]),
        ({"temperature": 0.5}, [x * x / 0.365 for x in (0.5, 0.3, 0.15, 0.05)]),
        ({"top_k": 2}, [0.625, 0.375, 0.0, 0.0]),
        ({"top_k": 10}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_p": 0.79}, [0.625, 0.375, 0.0, 0.0]),
        ({"top_p": 0.01}, [1.0, 0.0, 0.0, 0.0]),
        ({"top_k": 3, "top_p": 0.5}, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_distribution(settings: dict[str, object], expected: list[float]) -> None:
    found = drawn(LOGITS, **settings)
    assert found == pytest.approx(expected, abs=0.015)
    assert [f == 0 for f in found] == [e == 0 for e in expected]


def test_greedy_by_steps_equals_whole_sequences(model: SequenceModel) -> None:
    prompt = torch.tensor([[1, 2, 3], [4, 5, 6]])
    found = sample(model, prompt, 10, temperature=0.0)
    text = prompt
    with torch.no_grad():
        for _ in range(10):  # each time from the beginning, no state
            following = model(text)[0][:, -1].argmax(-1, keepdim=True)
            text = torch.cat([text, following], dim=1)
    assert torch.equal(found, text[:, 3:])


def test_a_seed_gives_the_same_text_and_touches_no_global_generator(model: SequenceModel) -> None:
    prompt = torch.tensor([[1]])
    before = torch.get_rng_state()
    first = sample(model, prompt, 30, seed=0)
    assert torch.equal(first, sample(model, prompt, 30, seed=0))
    assert not torch.equal(first, sample(model, prompt, 30, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_excluded_tokens_never_come(model: SequenceModel) -> None:
    found = sample(model, torch.tensor([[0]]), 300, temperature=5.0, exclude=(2, 4))
    assert set(found.flatten().tolist()) == {0, 1, 3, 5, 6}


def test_the_mode_of_the_model_is_put_back(model: SequenceModel) -> None:
    model.train()
    tokens = stream(model, torch.tensor([[0]]), 5)
    next(tokens)
    assert not model.training
    tokens.close()  # type: ignore[attr-defined]
    assert model.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"length": 0}, "length"),
    ],
)
def test_ranges(model: SequenceModel, settings: dict[str, object], message: str) -> None:
    arguments = {"length": 5, **settings}
    with pytest.raises(ValueError, match=message):
        sample(model, torch.tensor([[0]]), **arguments)  # type: ignore[arg-type]
