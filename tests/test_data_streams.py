"""Streams for truncated back-propagation: what is predicted, in what order, how it is resumed."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmodels.data.streams import IGNORE, SequenceBatch, StreamLoader, make_streams

# Tokens, streams, chunk: even; uneven streams; a short last chunk; both; a chunk longer than all.
SIZES = [(24, 3, 7), (25, 3, 7), (24, 3, 4), (101, 4, 7), (103, 4, 7), (10, 5, 3), (9, 1, 100)]


def loader(n: int, b: int, t: int, *, drop_remainder: bool = False) -> StreamLoader:
    """Every token is its own place, so that a batch tells where it came from."""
    return StreamLoader(np.arange(n), b, t, drop_remainder=drop_remainder)


def epoch(loader: StreamLoader) -> list[SequenceBatch]:
    return list(loader)


def rows(loader: StreamLoader) -> tuple[Tensor, Tensor]:
    """One epoch of inputs and targets, joined in time."""
    batches = epoch(loader)
    return torch.cat([b.inputs for b in batches], 1), torch.cat([b.targets for b in batches], 1)


def same(ours: list[SequenceBatch], theirs: list[SequenceBatch]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("n", "b", "t"), SIZES)
def test_every_token_is_predicted_once_but_the_first_of_each_stream(n: int, b: int, t: int) -> None:
    streams = loader(n, b, t)
    inputs, targets = rows(streams)
    predicted = targets[targets != IGNORE].tolist()
    assert len(predicted) == len(set(predicted)) == n - b == streams.num_targets
    assert sorted([*predicted, *inputs[:, 0].tolist()]) == list(range(n))


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(("n", "b", "t"), SIZES[:5])
def test_a_target_is_the_token_after_its_input(n: int, b: int, t: int, drop: bool) -> None:
    inputs, targets = rows(loader(n, b, t, drop_remainder=drop))
    known = targets != IGNORE
    assert torch.equal(targets[known], inputs[known] + 1)


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize(("n", "b", "t"), SIZES[:5])
def test_a_row_goes_on_in_the_same_row_of_the_next_batch(
    n: int, b: int, t: int, drop: bool
) -> None:
    batches = epoch(loader(n, b, t, drop_remainder=drop))
    for before, after in itertools.pairwise(batches):
        assert torch.equal(after.inputs[:, 0], before.targets[:, -1])


@pytest.mark.parametrize(("n", "b", "t"), SIZES)
def test_the_batches_are_full_but_the_last(n: int, b: int, t: int) -> None:
    streams = loader(n, b, t)
    batches = epoch(streams)
    widths = [batch.inputs.shape[1] for batch in batches]
    columns = -(-n // b) - 1
    assert len(streams) == len(batches) == -(-columns // t)
    assert widths[:-1] == [t] * (len(widths) - 1)
    assert 1 <= widths[-1] <= t
    assert sum(widths) == columns
    assert all(batch.inputs.shape == batch.targets.shape == (b, w) for batch, w in zip(batches, widths, strict=True))


def test_streams_of_two_lengths() -> None:
    inputs, targets = make_streams(np.arange(11), 3)
    assert inputs.tolist() == [[0, 1, 2], [4, 5, 6], [8, 9, 10]]
    assert targets.tolist() == [[1, 2, 3], [5, 6, 7], [9, 10, IGNORE]]


@pytest.mark.parametrize(("n", "b", "t"), [(103, 4, 7), (929, 20, 20), (24, 3, 7), (99, 2, 4)])
def test_drop_remainder_is_the_reader_of_zaremba(n: int, b: int, t: int) -> None:
    # Of the program that came with arXiv:1409.2329: x of batch i is column i·T and on, y one later.
    tokens = np.arange(n)
    length = n // b
    matrix = tokens[: b * length].reshape(b, length)
    steps = (length - 1) // t
    streams = loader(n, b, t, drop_remainder=True)
    batches = epoch(streams)
    assert len(streams) == len(batches) == steps
    assert streams.num_targets == b * steps * t
    for i, batch in enumerate(batches):
        assert batch.inputs.tolist() == matrix[:, i * t : (i + 1) * t].tolist()
        assert batch.targets.tolist() == matrix[:, i * t + 1 : (i + 1) * t + 1].tolist()


@pytest.mark.parametrize("done", [0, 1, 3, 4])
def test_a_loaded_position_gives_the_rest_of_the_epoch(done: int) -> None:
    whole = epoch(loader(103, 4, 7))
    first = loader(103, 4, 7)
    head = list(itertools.islice(first, done))
    # The saved state goes through a file, and is taken while the epoch runs.
    state = json.loads(json.dumps(first.state_dict()))
    second = loader(103, 4, 7)
    second.load_state_dict(state)
    rest = epoch(second)
    assert len(whole) == 4
    if done < len(whole):
        assert same(head + rest, whole)
    else:  # the epoch was over when it was saved: the next one comes, a whole one
        assert same(rest, whole)
    assert same(epoch(second), whole)


def test_the_position_moves_before_a_batch_is_handed_out() -> None:
    streams = loader(103, 4, 7)
    positions = [streams.state_dict()["position"] for _ in streams]
    assert positions == [1, 2, 3, 4]
    assert streams.state_dict() == {"position": 0}


def test_an_epoch_after_the_last_is_the_same_again() -> None:
    streams = loader(103, 4, 7)
    assert same(epoch(streams), epoch(streams))


def test_iteration_goes_on_where_it_was_left() -> None:
    streams = loader(103, 4, 7)
    whole = epoch(loader(103, 4, 7))
    iterator = iter(streams)
    next(iterator)
    assert same(epoch(streams), whole[1:])


@pytest.mark.parametrize("position", [-1, 5, 10**6])
def test_a_position_outside_the_epoch_is_refused(position: int) -> None:
    streams = loader(103, 4, 7)
    with pytest.raises(ValueError, match=rf"position {position} lies outside the 4 batches"):
        streams.load_state_dict({"position": position})
    assert streams.state_dict() == {"position": 0}


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_batches_are_int64_copies(kind: type) -> None:
    tokens = np.arange(24, dtype=kind)
    streams = StreamLoader(tokens, 3, 4)
    for batch in streams:
        assert batch.inputs.dtype == batch.targets.dtype == torch.int64
        assert batch.inputs.is_contiguous()
        assert batch.lengths is None
        batch.inputs.fill_(-7)
        batch.targets.fill_(-7)
    assert tokens.tolist() == list(range(24))
    assert same(epoch(streams), epoch(loader(24, 3, 4)))


@pytest.mark.parametrize(
    ("n", "b", "t", "drop", "said"),
    [
        (5, 3, 1, False, "5 tokens are too few for 3 streams"),
        (0, 1, 1, False, "0 tokens are too few for 1 streams"),
        (6, 0, 1, False, "batch_size must be >= 1, got 0"),
        (6, -2, 1, False, "batch_size must be >= 1, got -2"),
        (6, 2, 0, False, "seq_len must be >= 1, got 0"),
        (12, 2, 6, True, "5 predictions each, fewer than one chunk of 6"),
    ],
)
def test_impossible_sizes_are_refused(n: int, b: int, t: int, drop: bool, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        loader(n, b, t, drop_remainder=drop)


def test_the_least_text_that_is_enough() -> None:
    assert loader(6, 3, 5).num_targets == 3
    assert loader(14, 2, 6, drop_remainder=True).num_targets == 12
