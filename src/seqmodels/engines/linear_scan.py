"""s_t = a_t · s_{t-1} + b_t for all t in few large operations, and its gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

CHUNK = 16
# From this many numbers a step on, operations on one step are large enough: a loop over the steps
# passes over memory once where the chunks pass twice.
WIDE = 8192


def linear_scan(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """All states of a linear recurrence, elementwise, real or complex.

        s_t = a_t · s_{t-1} + b_t,  t = 1 … T,  s_0 = first

    The sequence is cut into chunks of 16 steps. A loop over the places in a chunk takes all chunks
    together: first for what each makes of a state that enters it (one factor, one summand) and,
    when the states that enter are known by the same means (a scan over the chunks), for all s_t.
    So the work and memory are O(T), the operations in sequence O(log T), and each s_t is computed
    from the one before it: nothing is divided. Where a step alone is wide the loop is over steps.

    The gradient is the same recurrence from the end to the beginning and can be differentiated
    again. It keeps a and s. Stable where |a_t| <= 1.

    Args:
        a: (T, B, H), T >= 1; may be expanded.
        b: (T, B, H).
        first: (B, H).

    Returns:
        s (T, B, H).
    """
    return _Forward.apply(a, b, first)  # type: ignore[no-any-return, no-untyped-call]


class _Forward(Function):
    """s_t = a_t s_{t-1} + b_t."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        states = b.new_empty(len(b) + 1, *b.shape[1:])
        states[0] = first
        _solve(a, b, first, states[1:], back=False)
        s = states[1:]
        ctx.save_for_backward(a, first, states[:-1], s)
        return s

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        a, first, before, s = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again: with its history
            before = torch.cat((first.unsqueeze(0), s[:-1]))
        total = _Backward.apply(a, grad)  # type: ignore[no-untyped-call]
        into_a = total * before.conj() if ctx.needs_input_grad[0] else None
        return into_a, total, a[0].conj() * total[0]


class _Backward(Function):
    """d_t = conj(a_{t+1}) d_{t+1} + grad_t, from the end: the gradient to b_t."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, grad: Tensor) -> Tensor:
        total = torch.empty_like(grad, memory_format=torch.contiguous_format)
        total[-1] = grad[-1]
        if len(grad) > 1:
            _solve(a[1:].conj().resolve_conj(), grad[:-1], grad[-1], total[:-1], back=True)
        ctx.save_for_backward(a, total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        a, total = ctx.saved_tensors
        into = linear_scan(a, grad, torch.zeros_like(grad[0]))
        into_a = torch.cat((torch.zeros_like(total[:1]), into[:-1].conj() * total[1:]))
        return into_a, into


def _solve(a: Tensor, b: Tensor, first: Tensor, out: Tensor, back: bool) -> None:
    """Fill out (T, ...), from the last step to the first where `back`."""
    steps = len(b)
    if steps <= CHUNK or first.numel() >= WIDE:
        _loop(a, b, first, out, back)
        return
    count = steps // CHUNK
    whole, rest = count * CHUNK, steps % CHUNK
    # Whole chunks come first in the order of the run, and then what is left over.
    body = slice(rest, None) if back else slice(whole)
    tail = slice(rest) if back else slice(whole, None)
    shape = (count, CHUNK, *first.shape)
    # To cut an axis up needs no copy, even of a tensor that is expanded.
    places = (t[body].view(shape).unbind(1) for t in (a, b, out))  # CHUNK × (count, B, H)
    steps_in = list(zip(*places, strict=True))
    if back:
        steps_in.reverse()
    entering = first.new_empty(count, *first.shape)
    start, others = (-1, slice(-1)) if back else (0, slice(1, None))
    entering[start] = first
    if count > 1:
        # The last chunk of the run hands its state to none of them.
        lead = slice(1, None) if back else slice(-1)
        factor, summand = steps_in[0][0][lead].clone(), steps_in[0][1][lead].clone()
        for a_t, b_t, _ in steps_in[1:]:
            torch.addcmul(b_t[lead], a_t[lead], summand, out=summand)
            factor.mul_(a_t[lead])
        _solve(factor, summand, first, entering[others], back)
    state = entering
    for a_t, b_t, out_t in steps_in:
        state = torch.addcmul(b_t, a_t, state, out=out_t)
    if rest:
        _loop(a[tail], b[tail], state[0 if back else -1], out[tail], back)


def _loop(a: Tensor, b: Tensor, first: Tensor, out: Tensor, back: bool) -> None:
    steps = list(zip(a.unbind(0), b.unbind(0), out.unbind(0), strict=True))
    state = first
    for a_t, b_t, out_t in reversed(steps) if back else steps:
        state = torch.addcmul(b_t, a_t, state, out=out_t)
