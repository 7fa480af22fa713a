"""Gradients against differences; what may depend on what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError, gradcheck

from seqmodels.analysis.verify.subject import (
    NotApplicableError,
    RefutedError,
    Subject,
    floats,
    fresh,
    trained,
)
from seqmodels.cells import Cell
from seqmodels.scan import scan

STEPS, BATCH = 3, 2


def gradcheck_inputs(subject: Subject) -> str:
    """The derivative of outputs and last state to x."""
    cell, x, state = _call(subject)
    return _gradcheck(cell, x.requires_grad_(), state, {"x": x})


def gradcheck_state(subject: Subject) -> str:
    """The same to the state before the first step."""
    cell, x, state = _call(subject)
    state = fresh(state, requires_grad=True)
    fields = zip(state._fields, state, strict=True)
    sources = {f"state.{name}": field for name, field in fields if field.requires_grad}
    if not sources:
        raise NotApplicableError("no field of the state is a real number")
    return _gradcheck(cell, x, state, sources)


def gradcheck_parameters(subject: Subject) -> str:
    """The same to every parameter that is trained."""
    cell, x, state = _call(subject)
    sources = trained(cell)
    if not sources:
        raise NotApplicableError("no parameter is trained")
    return _gradcheck(cell, x, state, sources)


def _call(subject: Subject) -> tuple[Cell[Any], Tensor, Any]:
    cell = subject.cell()
    return cell, subject.sequence(STEPS, BATCH), subject.state(cell, BATCH)


def _gradcheck(cell: Cell[Any], x: Tensor, state: Any, sources: Mapping[str, Tensor]) -> str:
    def results(*given: Tensor) -> tuple[Tensor, ...]:
        y, last = scan(cell, x, state)
        # A result that lost its history is compared like the others: its derivative reads zero.
        nothing = sum((0.0 * g.sum() for g in given), torch.zeros((), dtype=x.dtype))
        return tuple(r + nothing for r in (y, *floats(last)))

    given = tuple(sources.values())
    try:
        gradcheck(results, given, eps=1e-6, atol=1e-6, rtol=1e-4)
    except GradcheckError as error:
        names = ["outputs", *(n for n, f in zip(state._fields, state, strict=True) if _real(f))]
        raise RefutedError(_told(str(error), names, list(sources))) from None
    return f"{sum(s.numel() for s in given)} derivatives, float64, T={STEPS}, B={BATCH}"


def _real(field: Tensor) -> bool:
    return field.is_floating_point()


def _told(message: str, outputs: list[str], inputs: list[str]) -> str:
    """What disagrees, out of gradcheck's pages of numbers."""
    numbers = re.search(r"output (\d+) with respect to input (\d+)", message)
    if numbers is None:
        return f"expected autograd and difference quotients to agree, got: {message.strip()[:200]}"
    y, x = outputs[int(numbers[1])], inputs[int(numbers[2])]
    return f"∂({y})/∂({x}): expected autograd and difference quotients to agree, got other values"


def causality(subject: Subject) -> str:
    """∂y_t/∂x_{t'>t} = 0: no output sees the future."""
    cell, x = subject.cell(), subject.sequence(6, 2)
    other = subject.sequence(6, 2, seed=8)
    leaf = x.clone().requires_grad_()
    y, _ = scan(cell, leaf)
    for t in range(len(x) - 1):
        changed = torch.cat([x[: t + 1], other[t + 1 :]])
        with torch.no_grad():
            moved = float((scan(cell, changed)[0][: t + 1] - y[: t + 1]).abs().max())
        seen = _gradient(y[t], leaf)[t + 1 :]
        if not moved <= 1e-12 or bool((seen != 0).any()):
            raise RefutedError(
                f"expected no output to depend on later inputs, got outputs up to step {t} that "
                f"move by {moved:.2g} when later inputs change, and |∂y_{t}/∂x_t'| up to "
                f"{float(seen.abs().max()):.2g} for t' > {t}"
            )
    return f"∂y_t/∂x_t' = 0 for every t' > t, T={len(x)}"


def rows_independent(subject: Subject) -> str:
    """∂y_b/∂x_{b'≠b} = 0, with as many rows as units, where a wrong broadcast goes unseen."""
    cell = subject.cell()
    batch = max(2, subject.hidden_size)
    x, other = subject.sequence(4, batch), subject.sequence(4, batch, seed=8)
    state = subject.state(cell, batch)
    leaf = x.clone().requires_grad_()
    y, _ = scan(cell, leaf, state)
    for b in range(batch):
        changed = other.clone()
        changed[:, b] = x[:, b]
        with torch.no_grad():
            moved = float((scan(cell, changed, state)[0][:, b] - y[:, b]).abs().max())
            alone, _ = scan(cell, x[:, b : b + 1], type(state)(*(f[b : b + 1] for f in state)))
            apart = float((alone[:, 0] - y[:, b]).abs().max())
        seen = _gradient(y[:, b], leaf)
        seen[:, b] = 0.0
        if not moved <= 1e-12 or bool((seen != 0).any()):
            raise RefutedError(
                f"expected row {b} to depend on its own input alone, got outputs that move by "
                f"{moved:.2g} when the other rows change, and |∂y_{b}/∂x_b'| = "
                f"{float(seen.abs().max()):.2g}"
            )
        if not apart <= 1e-10:
            raise RefutedError(
                f"expected row {b} alone to give what it gives within a batch of {batch}, "
                f"got a difference of {apart:.2g}"
            )
    return f"∂y_b/∂x_b' = 0 for every b' ≠ b, B = H = {batch}"


def _gradient(y: Tensor, x: Tensor) -> Tensor:
    """Of a random sum of y to x; zero where y does not depend on it."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    weights = torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view_as(y)
    (grad,) = torch.autograd.grad(
        y, x, weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return grad
