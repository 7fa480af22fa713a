"""Each engine's back-propagation through time against autograd through the reference loop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqmodels.analysis.verify.subject import (
    Body,
    NotApplicableError,
    RefutedError,
    Subject,
    compare,
    seeded,
    trained,
    with_gradients,
)
from seqmodels.cells import Cell
from seqmodels.engines import ENGINES
from seqmodels.scan import scan

# The relative error that is let pass; float32 is used where an engine does not know float64.
LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4}
LENGTHS = [6, 1, 3, 4, 6]


def agrees(name: str) -> Body:
    """The check of one engine: values, last state and all gradients, in several situations."""

    def body(subject: Subject) -> str:
        reasons = [_refusal(name, subject, dtype) for dtype in LIMITS]
        able = [d for d, reason in zip(LIMITS, reasons, strict=True) if reason is None]
        if not able:
            raise NotApplicableError(f"may not run: {reasons[-1]}")
        return _compare(name, subject, able[0])

    return body


def _refusal(name: str, subject: Subject, dtype: torch.dtype) -> str | None:
    return ENGINES[name].why_not(subject.cell(dtype), subject.sequence(dtype=dtype), None, None)


def _compare(name: str, subject: Subject, dtype: torch.dtype) -> str:
    """With and without gradients, a state, one step, as many rows as units, lengths."""
    engine = ENGINES[name]
    cell = subject.cell(dtype).train()  # what is random in training is drawn alike: same seed
    worst, refused = 0.0, ""
    size = subject.hidden_size
    situations: list[tuple[str, int, int, bool, list[int] | None]] = [
        ("from the first state", 7, 3, False, None),
        ("with a state", 7, 3, True, None),
        ("T=1", 1, 3, True, None),
        ("B=H", 5, size, True, None),
        ("with lengths and NaN in the padding", 6, 5, True, LENGTHS),
    ]
    for label, steps, batch, given, lengths in situations:
        x = subject.sequence(steps, batch, dtype)
        state = subject.state(cell, batch) if given else None
        keep = None
        if lengths is not None:
            keep = torch.arange(steps).unsqueeze(1) < torch.tensor(lengths)
            x = x.masked_fill(~keep.unsqueeze(-1), float("nan"))
        reason = engine.why_not(cell, x, state, keep)
        if reason is not None:
            refused += f"; {label}: {reason}"
            continue

        def reference(
            cell: Cell[Any], x: Tensor, state: Any, keep: Tensor | None = keep
        ) -> tuple[Tensor, Any]:
            with seeded(subject.seed):
                return scan(cell, x, state, keep=keep)

        def other(
            cell: Cell[Any], x: Tensor, state: Any, keep: Tensor | None = keep
        ) -> tuple[Tensor, Any]:
            with seeded(subject.seed):
                return engine(cell, x, state, keep=keep)

        try:
            expected = with_gradients(reference, cell, x, state)
            worst = max(
                worst, compare(with_gradients(other, cell, x, state), expected, LIMITS[dtype])
            )
            with torch.no_grad():
                y, _ = other(cell, x, state)
            compare(
                {"outputs without gradients": y},
                {"outputs without gradients": expected["outputs"]},
                LIMITS[dtype],
            )
        except RefutedError as error:
            raise RefutedError(f"{label}: {error}") from None
    short = str(dtype).removeprefix("torch.")
    gradients = len(trained(cell)) + 1
    return (
        f"relative error {worst:.1e} ({short}): values, last state, gradients of the state and "
        f"{gradients} others{refused}"
    )
