"""Number formats, and weights that go to a file and come back."""

from __future__ import annotations

import torch

from seqmodels.analysis.verify.subject import (
    RefutedError,
    Subject,
    compare,
    floats,
    named,
    trained,
)
from seqmodels.scan import scan

# bfloat16 has 8 bits: a step is right to some 0.4 %, and seven of them add up.
AUTOCAST_LIMIT = 0.1
FLOAT32_LIMIT = 1e-3


def dtype(subject: Subject) -> str:
    """Results have the dtype of the weights, and float32 is near float64."""
    exact = named(*scan(subject.cell(), subject.sequence()))
    cell = subject.cell(torch.float32)
    y, last = scan(cell, subject.sequence(dtype=torch.float32))
    for name, tensor in {"outputs": y, **named(y, last)}.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise RefutedError(f"{name}: expected torch.float32 as x, got {tensor.dtype}")
    worst = compare(named(y, last), exact, FLOAT32_LIMIT)
    return f"float64, float32 (relative error {worst:.1e})"


def autocast(subject: Subject) -> str:
    """Under bfloat16 autocast results stay near, and keep the dtype of x."""
    cell, x = subject.cell(torch.float32), subject.sequence(dtype=torch.float32)
    expected = named(*scan(cell, x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, last = scan(cell, x)
    for name, tensor in named(y, last).items():
        if tensor.is_floating_point() and tensor.dtype != x.dtype:
            raise RefutedError(f"{name}: expected {x.dtype} as x, got {tensor.dtype}")
    worst = compare(named(y, last), expected, AUTOCAST_LIMIT)
    parameters = trained(cell)
    if not parameters:  # a reservoir's weights are fixed
        return f"bfloat16, relative error {worst:.1e}; no gradients: nothing of it is trained"
    total = torch.stack([r.square().sum() for r in (y, *floats(last))]).sum()
    grads = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    for name, grad in zip(parameters, grads, strict=True):
        if grad is not None and not grad.isfinite().all():
            raise RefutedError(f"expected finite gradients under autocast, got others for {name}")
    return f"bfloat16, relative error {worst:.1e}"


def state_dict(subject: Subject) -> str:
    """Weights put into another cell make it the same function, bit for bit."""
    cell, other = subject.cell(), subject.cell(seed=1)
    x = subject.sequence()
    content = cell.state_dict()
    other.load_state_dict(content)
    expected = named(*scan(cell, x))
    for name, tensor in named(*scan(other, x)).items():
        if not torch.equal(tensor, expected[name]):
            raise RefutedError(
                f"{name}: expected the same bits from a cell with the same state_dict, got others: "
                "something that the equation uses is not in it"
            )
    return f"{len(content)} tensors: {', '.join(content)}" if content else "it is empty"
