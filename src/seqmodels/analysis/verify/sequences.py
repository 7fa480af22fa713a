"""A sequence in parts, step by step, and with padding gives what the whole gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.verify.subject import (
    RefutedError,
    Subject,
    compare,
    error_between,
    floats,
    fresh,
    named,
    with_gradients,
)
from seqmodels.cells import Cell
from seqmodels.scan import scan

CLOSE = 1e-10  # float64; the same products over other numbers of rows round differently


def carried_state(subject: Subject) -> str:
    """Two parts with the state handed over equal the whole, in values and in gradients."""
    cell, x = subject.cell(), subject.sequence(7)
    state = subject.state(cell)
    whole = with_gradients(scan, cell, x, state)
    _state_matters(cell, x, state)
    worst = 0.0
    for split in (1, 3, 4, 6):

        def parts(cell: Cell[Any], x: Tensor, state: Any, at: int = split) -> tuple[Tensor, Any]:
            head, state = scan(cell, x[:at], state)
            tail, state = scan(cell, x[at:], state)
            return torch.cat([head, tail]), state

        try:
            worst = max(worst, compare(with_gradients(parts, cell, x, state), whole, CLOSE))
        except RefutedError as error:
            raise RefutedError(f"split at step {split} of {len(x)}: {error}") from None
    return f"splits at 1, 3, 4, 6 of 7: values and gradients, relative error {worst:.1e}"


def _state_matters(cell: Cell[Any], x: Tensor, state: Any) -> None:
    moved = fresh(state)
    for field in floats(moved):
        field += 0.125
    with torch.no_grad():
        pairs = zip(scan(cell, x, state)[0], scan(cell, x, moved)[0], strict=True)
        same = all(torch.equal(a, b) for a, b in pairs)
    if same:
        raise RefutedError(
            "expected the outputs to depend on the state that is passed in, got the same outputs "
            "for two states: it is ignored"
        )


def stepping(subject: Subject) -> str:
    """Calls of one step each equal one call over all of them."""
    cell, x = subject.cell(), subject.sequence(5)
    with torch.no_grad():
        whole = named(*scan(cell, x))
        state, outputs = None, []
        for step in torch.split(x, 1):
            y, state = scan(cell, step, state)
            outputs.append(y)
    worst = compare(named(torch.cat(outputs), state), whole, CLOSE)
    return f"5 calls with T=1, relative error {worst:.1e}"


def padding(subject: Subject) -> str:
    """Steps that are masked out do not happen: values, gradients, NaN and the state's bits."""
    cell = subject.cell()
    lengths = [5, 1, 3, 5]
    steps = max(lengths)
    x, state = subject.sequence(steps), subject.state(cell)
    keep = torch.arange(steps).unsqueeze(1) < torch.tensor(lengths)  # (T, B)

    def masked(cell: Cell[Any], x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return scan(cell, x, state, keep=keep)

    clean = with_gradients(masked, cell, x, state)
    hidden = x.masked_fill(~keep.unsqueeze(-1), float("nan"))
    dirty = with_gradients(masked, cell, hidden, state)
    for name, tensor in clean.items():
        if not torch.equal(dirty[name], tensor):
            raise RefutedError(
                f"{name}: expected the same bits whatever the padding holds, got a relative "
                f"difference of {error_between(dirty[name], tensor):.2g} with NaN in it"
            )
    worst = 0.0
    for row, length in enumerate(lengths):
        with torch.no_grad():
            one = type(state)(*(f[row : row + 1] for f in state))
            y, last = scan(cell, x[:length, row : row + 1], one)
        found = {"outputs": clean["outputs"][:length, row : row + 1]}
        found |= {f"last {n}": clean[f"last {n}"][row : row + 1] for n in state._fields}
        try:
            worst = max(worst, compare(found, named(y, last), CLOSE))
        except RefutedError as error:
            raise RefutedError(f"a row of length {length} beside longer ones: {error}") from None
        rest = clean["outputs"][length:, row]
        if bool((rest != 0).any()):
            raise RefutedError("expected outputs of zero at padding, got others")
    with torch.no_grad():
        _, last = scan(cell, x, state, keep=torch.zeros_like(keep))
    for name, field, before in zip(state._fields, last, state, strict=True):
        if not torch.equal(field, before):
            raise RefutedError(f"expected {name} to be carried bit for bit over padding, got other")
    return f"lengths {lengths}, NaN in the padding, relative error to single rows {worst:.1e}"
