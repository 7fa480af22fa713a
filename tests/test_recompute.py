"""Recomputing through time: the same numbers in less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cell_cases import CASES, PAIRS, Case, random_state, sequence
from seqmodels.cells import LSTMCell
from seqmodels.engines import ENGINES, Compiled
from seqmodels.layers import Recurrent

SOME = [(c, e) for c, e in PAIRS if c.name in ("lstm", "gru") and e != "generated"]
SOME += [(c, e) for c, e in PAIRS if c.name == "lstm" and e == "generated"]
each_pair = pytest.mark.parametrize(
    ("case", "engine"), SOME, ids=[f"{c.name}:{e}" for c, e in SOME]
)


def results(layer: Recurrent[Any], lengths: Tensor | None, state: Any) -> list[Tensor]:
    torch.manual_seed(5)
    x = sequence().transpose(0, 1).requires_grad_()
    y, last = layer(x, state, lengths)
    loss = y.square().sum() + sum(f.sum() for f in last)
    torch.manual_seed(6)  # of no account: what is computed again draws what it drew before
    return [y, *last, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@each_pair
@pytest.mark.parametrize("recompute", [1, 3, "sqrt", 100])
@pytest.mark.parametrize("lengths", [None, [7, 1, 4, 4], [2, 1, 2, 2]], ids=["full", "some", "few"])
@pytest.mark.parametrize("given", [False, True], ids=["initial", "given"])
def test_nothing_changes_but_memory(
    case: Case,
    engine: str,
    recompute: Any,
    lengths: list[int] | None,
    given: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ENGINES, "compiled", Compiled("none"))
    sizes = None if lengths is None else torch.tensor(lengths)
    layer = Recurrent(case.make(), engine=engine, reverse=given)
    state = random_state(layer.cell) if given else None
    expected = results(layer, sizes, state)
    layer.recompute = recompute
    for found, value in zip(results(layer, sizes, state), expected, strict=True):
        torch.testing.assert_close(found, value)


@pytest.mark.parametrize("options", [{"weight_drop": 0.5}, {"recurrent_dropout": 0.5}], ids=str)
def test_what_is_drawn_once_a_call_is_the_same_in_all_pieces(options: dict[str, float]) -> None:
    (case,) = (case for case in CASES if case.name == "lstm")
    layer = Recurrent(case.make(), engine="eager", **options)  # type: ignore[arg-type]
    expected = results(layer, None, None)
    layer.recompute = 2
    for found, value in zip(results(layer, None, None), expected, strict=True):
        torch.testing.assert_close(found, value)


@pytest.mark.parametrize("options", [{"zoneout": 0.5}, {"noise": 0.5}], ids=str)
def test_what_is_drawn_at_every_step_is_drawn_again_as_it_was(options: dict[str, float]) -> None:
    (case,) = (case for case in CASES if case.name == "lstm")
    layer = Recurrent(case.make(), engine="eager", recompute=3, **options)  # type: ignore[arg-type]
    found = results(layer, None, None)
    layer.recompute = None
    torch.manual_seed(5)
    x = sequence().transpose(0, 1).requires_grad_()
    outputs, state = [], None
    for piece in x.split(3, dim=1):
        y, state = layer(piece, state)
        outputs.append(y)
    y = torch.cat(outputs, 1)
    loss = y.square().sum() + sum(f.sum() for f in state)
    grads = torch.autograd.grad(loss, [x, *layer.parameters()])
    for a, b in zip(found, [y, *state, *grads], strict=True):
        torch.testing.assert_close(a, b)


def most_bytes(steps: int, recompute: Any) -> int:
    """The most memory that a training step takes on top of x, by torch's own allocator."""
    layer = Recurrent(LSTMCell(2, 16), engine="eager", recompute=recompute)
    x = torch.randn(4, steps, 2)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        y, _ = layer(x)
        y.sum().backward()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    now = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most - 3 * y.numel() * y.element_size()  # the outputs, their pieces and the gradient


def test_memory_grows_with_the_root_of_the_length() -> None:
    plain = most_bytes(256, None) / most_bytes(64, None)
    roots = most_bytes(256, "sqrt") / most_bytes(64, "sqrt")
    assert plain > 3.5 and roots < 2.6
    assert most_bytes(256, "sqrt") < most_bytes(256, None) / 4
