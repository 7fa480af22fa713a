"""Sequence to sequence: exactness of batches, attention and decoding; states handed over."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmodels.cells import ClockworkCell, Delay, GRUCell, LRUCell, LSTMCell, RNNCell
from seqmodels.data.base import IGNORE
from seqmodels.layers import Bidirectional, Recurrent, Stacked
from seqmodels.models import Attention, Bridge, EncoderDecoder, LinearHead, TokenEmbedding
from seqmodels.training.seq2seq import before

SOURCES, TARGETS = 7, 6
eager = partial(Recurrent, engine="eager")
both_ways = partial(Bidirectional, layer=eager)


def model_of(
    *, cell: Any = GRUCell, encoder: Any = None, decoder: Any = None, **settings: Any
) -> EncoderDecoder:
    torch.manual_seed(0)
    stack = {"hidden_size": 5, "layer": eager}
    return EncoderDecoder(
        SOURCES,
        TARGETS,
        source=partial(TokenEmbedding, size=3),
        target=partial(TokenEmbedding, size=4),
        cell=cell,
        encoder=partial(Stacked, **{**stack, **(encoder or {})}),
        decoder=partial(Stacked, **{**stack, **(decoder or {})}),
        head=LinearHead,
        **settings,
    ).double()


def wide(model: EncoderDecoder) -> EncoderDecoder:
    """The same with larger weights, so that answers differ from source to source."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(20.0 if name.startswith(("source", "target")) else 2.5)
    return model


def batch() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    lengths = torch.tensor([6, 1, 4, 3])
    inputs = torch.randint(0, SOURCES, (4, 6), generator=random)
    previous = torch.randint(0, TARGETS, (4, 5), generator=random)
    return inputs, previous, lengths


KINDS: dict[str, dict[str, Any]] = {
    "none": {"attention": "none"},
    "dot": {"attention": "dot"},
    "general": {"attention": "general", "encoder": {"hidden_size": 8}},
    "additive": {"attention_size": 2, "encoder": {"layer": both_ways}},
    "lstm": {"cell": LSTMCell, "encoder": {"num_layers": 3, "skip": "residual"}},
    "dense": {"encoder": {"num_layers": 2, "skip": "dense", "layer": both_ways}},
    "memory alone": {"bridge": "none"},
    "deep": {"cell": LSTMCell, "decoder": {"num_layers": 2}, "attention": "general"},
}
each_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)


@each_kind
def test_a_padded_batch_is_its_sequences_one_by_one(settings: dict[str, Any]) -> None:
    model = wide(model_of(**settings))
    inputs, previous, lengths = batch()
    logits, weights = model(inputs, previous, lengths)
    decoded = model.greedy(inputs, lengths, 8)
    for row, length in enumerate(lengths.tolist()):
        alone, own = model(inputs[row : row + 1, :length], previous[row : row + 1])
        assert torch.allclose(alone[0], logits[row], rtol=0, atol=1e-12)
        if weights is not None and own is not None:
            assert torch.allclose(own[0], weights[row, :, :length], rtol=0, atol=1e-12)
        single = model.greedy(inputs[row : row + 1, :length], None, 8)
        count = int(decoded.lengths[row])
        assert int(single.lengths[0]) == count
        assert torch.equal(single.tokens[0, :count], decoded.tokens[row, :count])
        assert (decoded.tokens[row, count:] == model.end).all()


@each_kind
def test_what_is_written_is_the_likeliest_given_itself(settings: dict[str, Any]) -> None:
    model = wide(model_of(**settings))
    inputs, _, lengths = batch()
    decoded = model.greedy(inputs, lengths, 8)
    logits, weights = model(inputs, before(decoded.tokens, model.end), lengths)
    for row, count in enumerate(decoded.lengths.tolist()):
        steps = min(count + 1, decoded.tokens.shape[1])
        assert torch.equal(logits[row, :steps].argmax(-1), decoded.tokens[row, :steps])
    if weights is not None:
        assert decoded.attention is not None
        assert torch.allclose(decoded.attention, weights, rtol=0, atol=1e-12)
    assert len({tuple(row) for row in decoded.tokens.tolist()}) > 1


@each_kind
def test_what_is_written_stops_at_the_end_and_in_time(settings: dict[str, Any]) -> None:
    model = model_of(**settings)
    inputs, _, lengths = batch()
    bias = model.head.bias
    assert isinstance(bias, Tensor)
    with torch.no_grad():
        bias[model.end] = 100.0
    model.train()
    decoded = model.greedy(inputs, lengths, 8)
    assert model.training
    assert decoded.tokens.shape == (4, 1) and decoded.lengths.tolist() == [0] * 4
    with torch.no_grad():
        bias[model.end] = -100.0
    decoded = model.greedy(inputs, lengths, 3)
    assert decoded.tokens.shape == (4, 3) and decoded.lengths.tolist() == [3] * 4


@each_kind
def test_the_decoder_does_not_see_what_it_predicts(settings: dict[str, Any]) -> None:
    model = model_of(**settings)
    inputs, previous, lengths = batch()
    usual, _ = model(inputs, previous, lengths)
    for t in range(previous.shape[1] - 1):
        changed = previous.clone()
        changed[:, t + 1 :] = (changed[:, t + 1 :] + 1) % TARGETS
        logits, _ = model(inputs, changed, lengths)
        assert torch.equal(logits[:, : t + 1], usual[:, : t + 1])
        assert not torch.equal(logits[:, t + 1], usual[:, t + 1])


@each_kind
def test_the_whole_source_reaches_every_prediction(settings: dict[str, Any]) -> None:
    model = model_of(**settings)
    inputs, previous, lengths = batch()
    usual, _ = model(inputs, previous, lengths)
    for s in range(inputs.shape[1]):
        changed = inputs.clone()
        changed[:, s] = (changed[:, s] + 1) % SOURCES
        moved = (model(changed, previous, lengths)[0] - usual).abs().amax(-1)  # (B, T)
        assert torch.equal(moved > 0, (s < lengths).unsqueeze(1).expand_as(moved))


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
def test_attention_is_the_equation(score: Any) -> None:
    torch.manual_seed(0)
    query, memory = torch.randn(2, 3, 4).double(), torch.randn(2, 5, 4).double()
    lengths = torch.tensor([5, 2])
    layer = Attention(4, 4, score=score).double()
    found, weights = layer(query, memory, layer.keys(memory), lengths)
    for b in range(2):
        for t in range(3):
            scores = []
            for s in range(int(lengths[b])):
                h, m = query[b, t], memory[b, s]
                if score == "dot":
                    scores.append(h @ m)
                elif score == "general":
                    scores.append(h @ layer.weight_memory @ m)
                else:
                    inner = torch.tanh(layer.weight_query @ h + layer.weight_memory @ m)
                    scores.append(layer.weight_score[0] @ inner)
            own = torch.stack(scores).exp()
            own = own / own.sum()
            assert torch.allclose(weights[b, t, : len(own)], own)
            context = own @ memory[b, : len(own)]
            combined = torch.tanh(layer.weight_combine @ torch.cat((context, query[b, t])))
            assert torch.allclose(found[b, t], combined)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3).double())
    assert (weights[1, :, 2:] == 0).all()


# --- the handing over of states ------------------------------------------------------------------


def stack_of(cell: Any, num_layers: int = 2, layer: Any = eager, size: int = 4) -> Stacked:
    return Stacked(3, cell=cell, hidden_size=size, num_layers=num_layers, layer=layer)


CLOCKED: list[Any] = [
    partial(ClockworkCell, periods=(1, 2)),
    partial(Delay, cell=RNNCell, lags=(1, 3)),
]


@pytest.mark.parametrize("cell", [RNNCell, GRUCell, LSTMCell, LRUCell, *CLOCKED])
def test_equal_stacks_copy_and_others_map(cell: Any) -> None:
    x = torch.randn(3, 5, 3)
    encoder, decoder = stack_of(cell), stack_of(cell)
    bridge = Bridge(encoder, decoder)
    assert bridge.kind == "copy" and not list(bridge.parameters())
    _, last = encoder(x)
    assert bridge(last, decoder.initial_state(3, x)) is last
    for other in (stack_of(cell, 1), stack_of(cell, 2, both_ways), stack_of(cell, 2, size=6)):
        bridge = Bridge(other, decoder)
        assert bridge.kind == "linear"
        _, last = other(x)
        first = decoder.initial_state(3, x)
        start = bridge(last, first)
        outputs, _ = decoder(x, start)
        loss = outputs.square().sum()
        loss.backward()
        for parameter in other.layers[-1].parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0
        for own, new in zip(first, start, strict=True):
            assert type(own) is type(new)
            for name, before_, after in zip(own._fields, own, new, strict=True):
                kept = name in ("t", "past") or not after.is_floating_point()
                assert torch.equal(before_, after) == kept, name


def test_the_linear_bridge_is_the_equation() -> None:
    encoder, decoder = stack_of(GRUCell, 1), stack_of(LSTMCell, 2)
    bridge = Bridge(encoder, decoder)
    x = torch.randn(3, 5, 3)
    outputs, last = encoder(x)
    start = bridge(last, decoder.initial_state(3, x))
    found = [field for layer in start for field in layer]
    for linear, field in zip(bridge.maps, found, strict=True):
        assert torch.allclose(field, torch.tanh(linear(outputs[:, -1])))


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"decoder": {"layer": both_ways}}, "model.decoder reads later steps"),
        ({"attention": "none", "bridge": "none"}, "would know nothing of the source"),
        ({"attention": "dot", "encoder": {"layer": both_ways}}, "choose general or additive"),
        ({"attention": "dots"}, "must be none or one of dot, general, additive"),
        ({"attention": "dot", "attention_size": 3}, "is of attention=additive alone"),
        ({"attention": "none", "attention_size": 3}, "is of attention=additive"),
        ({"bridge": "copy", "encoder": {"num_layers": 2}}, "choose bridge=linear or auto"),
        ({"bridge": "cpoy"}, "bridge must be one of auto, copy"),
    ],
)
def test_models_that_cannot_be_are_refused(settings: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        model_of(**settings)


def test_what_comes_before_the_targets() -> None:
    targets = torch.tensor([[1, 2, 5], [3, 5, IGNORE], [5, IGNORE, IGNORE]])
    assert before(targets, 5).tolist() == [[5, 1, 2], [5, 3, 5], [5, 5, 5]]
