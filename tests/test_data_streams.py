"""Streams: every token is predicted once, rows go on from batch to batch, epochs can be resumed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from seqmodels.data import IGNORE, SequenceBatch, StreamLoader, make_streams

# N tokens, B streams, T columns
SIZES = [
    (24, 4, 3),
    (25, 4, 3),
    (27, 4, 3),
    (26, 4, 5),
    (9, 4, 1),
    (8, 4, 7),
    (7, 1, 2),
    (40, 3, 40),
]


def numbered(size: int) -> np.ndarray:
    return np.arange(size, dtype=np.int32)  # each token says its place


def stream_starts(size: int, streams: int) -> list[int]:
    """The first N mod B streams are one token longer."""
    return [b * (size // streams) + min(b, size % streams) for b in range(streams)]


@pytest.mark.parametrize(("size", "streams", "length"), SIZES)
def test_every_token_but_the_streams_first_is_predicted_once(
    size: int, streams: int, length: int
) -> None:
    loader = StreamLoader(numbered(size), streams, length)
    targets = torch.cat([batch.targets.flatten() for batch in loader])
    predicted = sorted(targets[targets != IGNORE].tolist())
    assert predicted == sorted(set(range(size)) - set(stream_starts(size, streams)))
    assert loader.num_targets == len(predicted) == size - streams


@pytest.mark.parametrize(("size", "streams", "length"), SIZES)
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_a_row_goes_on_in_the_next_batch(
    size: int, streams: int, length: int, drop_remainder: bool
) -> None:
    if drop_remainder:
        size += streams * length  # one chunk at least
    loader = StreamLoader(numbered(size), streams, length, drop_remainder=drop_remainder)
    batches = list(loader)
    assert len(batches) == len(loader)
    inputs = torch.cat([batch.inputs for batch in batches], dim=1)
    targets = torch.cat([batch.targets for batch in batches], dim=1)
    for row, (given, wanted) in enumerate(zip(inputs, targets, strict=True)):
        real = wanted != IGNORE
        assert torch.equal(wanted[real], given[real] + 1)
        assert torch.equal(given, given[0] + torch.arange(len(given)))
        if not drop_remainder:
            assert given[0] == stream_starts(size, streams)[row]


@pytest.mark.parametrize(("size", "streams", "length"), SIZES)
def test_batches_have_the_shape_that_was_asked_for(size: int, streams: int, length: int) -> None:
    batches = list(StreamLoader(numbered(size), streams, length))
    columns = -(-size // streams) - 1
    for batch in batches[:-1]:
        assert batch.inputs.shape == batch.targets.shape == (streams, length)
    assert batches[-1].inputs.shape == (streams, (columns - 1) % length + 1)
    assert {t.dtype for batch in batches for t in batch[:2]} == {torch.int64}
    assert all(batch.lengths is None and batch.inputs.min() >= 0 for batch in batches)


@pytest.mark.parametrize(
    ("size", "streams", "length", "batches"),
    [(25, 4, 2, 2), (27, 4, 5, 1), (24, 4, 3, 1), (929_589, 20, 20, 2323)],
)
def test_dropping_the_remainder_as_zaremba_does(
    size: int, streams: int, length: int, batches: int
) -> None:
    loader = StreamLoader(numbered(size), streams, length, drop_remainder=True)
    assert len(loader) == batches
    assert loader.num_targets == batches * streams * length
    first = next(iter(loader))
    assert first.inputs[:, 0].tolist() == [b * (size // streams) for b in range(streams)]


@pytest.mark.parametrize(("size", "streams", "length"), [(25, 4, 2), (103, 4, 7), (24, 3, 7)])
def test_the_batches_of_zaremba(size: int, streams: int, length: int) -> None:
    # The reader of their program: a matrix of B rows, of which batch i takes the columns i T to
    # (i + 1) T, and as targets those one later.
    rows = numbered(size)[: size // streams * streams].reshape(streams, -1)
    loader = StreamLoader(numbered(size), streams, length, drop_remainder=True)
    assert len(loader) == (size // streams - 1) // length
    for i, batch in enumerate(loader):
        assert batch.inputs.tolist() == rows[:, i * length : (i + 1) * length].tolist()
        assert batch.targets.tolist() == rows[:, i * length + 1 : (i + 1) * length + 1].tolist()


def test_equal_streams_are_views_of_the_tokens() -> None:
    tokens = numbered(24)
    inputs, targets = make_streams(tokens, 4)
    tokens[:] += 100
    assert inputs[0].tolist() == [100, 101, 102, 103, 104]
    assert targets[3].tolist() == [119, 120, 121, 122, 123]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_changing_a_batch_does_not_change_the_text(dtype: type) -> None:
    loader = StreamLoader(np.arange(6, dtype=dtype), 1, 5)
    for batch in loader:
        batch.inputs.zero_()
        batch.targets.zero_()
    assert next(iter(loader)).inputs.tolist() == [[0, 1, 2, 3, 4]]


# ---------------------------------------------------------------------------------- the position


def same(left: list[SequenceBatch], right: list[SequenceBatch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("done", [0, 1, 3, 6])
def test_a_fresh_loader_goes_on_where_the_saved_one_was(done: int) -> None:
    whole = list(StreamLoader(numbered(27), 4, 1))
    interrupted = StreamLoader(numbered(27), 4, 1)
    for _, _batch in zip(range(done), interrupted, strict=False):
        pass
    saved = json.loads(json.dumps(interrupted.state_dict()))
    resumed = StreamLoader(numbered(27), 4, 1)
    resumed.load_state_dict(saved)
    expected = whole[done:] or whole  # an epoch that is over is followed by the next one
    assert same(list(resumed), expected)
    assert same(list(resumed), whole)


def test_the_position_moves_before_a_batch_is_handed_out() -> None:
    loader = StreamLoader(numbered(13), 2, 2)
    seen = [loader.state_dict()["position"] for _ in loader]
    assert seen == [1, 2, 3]
    assert loader.state_dict() == {"position": 0, "epoch": 1}


def test_an_abandoned_iteration_is_continued() -> None:
    loader = StreamLoader(numbered(13), 2, 2)
    first = next(iter(loader))
    assert same([first, *loader], list(StreamLoader(numbered(13), 2, 2)))


@pytest.mark.parametrize("position", [-1, 4])
def test_a_position_outside_the_data_is_refused(position: int) -> None:
    loader = StreamLoader(numbered(13), 2, 2)
    with pytest.raises(ValueError, match=rf"position {position} lies outside the 3 batches"):
        loader.load_state_dict({"position": position})


@pytest.mark.parametrize(
    ("size", "streams", "length", "drop", "message"),
    [
        (7, 4, 2, False, "7 tokens are too few for 4 streams"),
        (8, 0, 2, False, "batch_size must be >= 1, got 0"),
        (8, 2, 0, False, "seq_len must be >= 1, got 0"),
        (10, 2, 5, True, "4 predictions each, fewer than one chunk of 5: lower data.seq_len"),
    ],
)
def test_impossible_sizes(size: int, streams: int, length: int, drop: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamLoader(numbered(size), streams, length, drop_remainder=drop)
