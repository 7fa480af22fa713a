"""Back-propagation through time in its general form, as one autograd function for every cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from seqmodels.cells import Stage
from seqmodels.cells.past import read_all
from seqmodels.engines import steps
from seqmodels.engines.steps import Form, Tensors, pick

TWICE = "the compiled engine has no double backward: use engine='eager' to differentiate a gradient"


@dataclass(frozen=True)
class Plan:
    """All of a call that is no differentiable tensor."""

    stages: tuple[Stage[Any], ...]
    state: type
    keep: Tensor | None
    backend: str
    held: bool = False


def run(
    plan: Plan, gates_x: Tensor, state: Tensors, before: Tensor | None = None
) -> tuple[Tensor, Tensors]:
    """gates_x (T, B, G) and the first state -> outputs (T, B, H) and the last state.

    before (D, B, H): the outputs up to the first step, where stages read lags.
    """
    weights = (t for s in plan.stages for t in (*s.operator.weights, *s.params))
    tensors = (*state, *(() if before is None else (before,)), *weights)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (gates_x, *tensors)):
        y, *last = _ThroughTime.apply(plan, gates_x, *tensors)  # type: ignore[no-untyped-call]
        return y, tuple(last)
    with torch.no_grad():
        return _forward(plan, gates_x.detach(), _plain(state), before, None)


def _plain(tensors: Tensors) -> Tensors:
    """As every later step gives them: nothing about the first one may compile anew."""
    return tuple(t.detach().contiguous() for t in tensors)


def _index(kind: type, name: str) -> int:
    names: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]
    return names.index(name)


def _forms(plan: Plan, gates_x: Tensor, state: Tensors, shared: bool = False) -> list[Form]:
    count = len(plan.stages)
    fields = tuple(f.is_floating_point() for f in state)
    forms = []
    for number, stage in enumerate(plan.stages):
        # The product after this stage: the next one's, or the first one's at the next step.
        reader = plan.stages[(number + 1) % count]
        places = [_index(plan.state, name) for name in reader.reads]
        used = [gates_x, *state, *stage.params]
        forms.append(
            Form(
                state=plan.state,
                fields=fields,
                params=tuple(p.is_floating_point() for p in stage.params),
                back=tuple((place, state[place].shape[-1]) for place in places),
                last=number == count - 1,
                single=count == 1,
                masked=plan.keep is not None,
                shared=shared,
                traits=(tuple((t.dtype, t.shape[1:]) for t in used), gates_x.device),
            )
        )
    return forms


class _Tape:
    """What the backward pass needs of each step."""

    def __init__(self, stages: int) -> None:
        self.gates_h: list[list[Tensor]] = [[] for _ in range(stages)]
        self.before: list[list[Tensors]] = [[] for _ in range(stages)]


def _forward(
    plan: Plan, gates_x: Tensor, state: Tensors, before: Tensor | None, tape: _Tape | None
) -> tuple[Tensor, Tensors]:
    forms = _forms(plan, gates_x, state)
    moves = [
        steps.compiled(steps.forward, stage.update, form, plan.backend)
        for stage, form in zip(plan.stages, forms, strict=True)
    ]
    params = [_plain(stage.params) for stage in plan.stages]
    length = gates_x.shape[0]
    kept = [None] * length if plan.keep is None else plan.keep.contiguous().unbind(0)  # T × (B)
    past = [] if before is None else list(before.detach().unbind(0))
    outputs = []
    for row, keep in zip(gates_x.contiguous().unbind(0), kept, strict=True):  # T × (B, G)
        old = state
        for number, stage in enumerate(plan.stages):
            read = read_all(stage, plan.state(*state), past)
            gates_h = stage.operator.apply(read).to(read.dtype)  # (B, H) -> (B, G)
            if tape is not None:
                tape.gates_h[number].append(gates_h)
                tape.before[number].append(state)
            state, output = moves[number](row, gates_h, state, params[number], old, keep)
        outputs.append(output)
        if before is not None:
            past.append(state[0])
    return torch.stack(outputs), state  # (T, B, H)


class _ThroughTime(Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, gates_x: Tensor, *tensors: Tensor) -> Any:
        count = len(plan.state._fields)  # type: ignore[attr-defined]
        tape = _Tape(len(plan.stages))
        first = _plain(tensors[:count])
        before = tensors[count] if plan.held else None
        y, last = _forward(plan, gates_x.detach(), first, before, tape)
        ctx.plan = plan
        device = gates_x.device.type
        ctx.autocast = (
            torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        )
        saved: list[Tensor] = [gates_x, y, *tensors]
        # The outputs are the states of the steps where no mask makes them zero: kept once.
        ctx.from_y = plan.keep is None
        for number in range(len(plan.stages)):
            saved.extend(tape.gates_h[number])
            for t, state in enumerate(tape.before[number]):
                known = ctx.from_y and number == 0 and t > 0
                saved.extend(state[1:] if known else state)
        ctx.save_for_backward(*saved)
        # An input may come back as it was; an output must be a tensor of its own.
        taken = list(first)
        for f in last:
            taken.append(f.clone() if any(f is g for g in taken) else f)
        last = tuple(taken[count:])
        ctx.mark_non_differentiable(*(f for f in last if not f.is_floating_point()))
        return (y, *last)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        with torch.no_grad():
            if ctx.autocast is None:
                found = _backward(ctx, grads)
            else:
                device = ctx.saved_tensors[0].device.type
                with torch.autocast(device, dtype=ctx.autocast):
                    found = _backward(ctx, grads)
        return (None, *refuse_twice(found, TWICE))


def refuse_twice(found: list[Tensor | None], message: str) -> list[Tensor | None]:
    """The gradients, which raise `message` where they are differentiated in turn."""
    if not torch.is_grad_enabled():
        return found
    present = [g.requires_grad_() for g in found if g is not None]
    marked = iter(_Twice.apply(message, *present))  # type: ignore[no-untyped-call]
    return [None if g is None else next(marked) for g in found]


class _Twice(Function):
    """Passes gradients on, and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, message: str, *grads: Tensor) -> Any:
        ctx.message = message
        return tuple(g.view_as(g) for g in grads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(ctx.message)


def _recall(ctx: Any, count: int) -> tuple[Tensor, Tensor | None, _Tape]:
    """gates_x, the outputs before the first step, and the tape.

    Unpacking also checks that no weight was changed in between.
    """
    plan: Plan = ctx.plan
    gates_x, y, *rest = ctx.saved_tensors
    given = count + plan.held + sum(len(s.operator.weights) + len(s.params) for s in plan.stages)
    # Some are outputs too, which come back with their history.
    remembered = (t.detach() for t in rest[given:])
    outputs = y.detach().unbind(0)  # T × (B, H)
    tape = _Tape(len(plan.stages))
    for number in range(len(plan.stages)):
        tape.gates_h[number] = [next(remembered) for _ in outputs]
        for t in range(len(outputs)):
            known = [outputs[t - 1]] if ctx.from_y and number == 0 and t > 0 else []
            fields = [next(remembered) for _ in range(count - len(known))]
            tape.before[number].append((*known, *fields))
    return gates_x, rest[count].detach() if plan.held else None, tape


def _backward(ctx: Any, given: Any) -> list[Tensor | None]:
    plan: Plan = ctx.plan
    stages = plan.stages
    grad_y, *grad_last = given
    gates_x, before, tape = _recall(ctx, len(grad_last))
    rows = gates_x.detach().contiguous().unbind(0)  # T × (B, G)
    first = tape.before[0][0]
    params = [_plain(stage.params) for stage in stages]
    # Where an update adds the gates, one buffer serves both.
    shared = len(stages) == 1 and steps.shares(
        stages[0].update, plan.state, rows[0], tape.gates_h[0][0], first, params[0]
    )
    forms = _forms(plan, gates_x, first, shared)
    pulls = [
        steps.compiled(steps.backward, stage.update, form, plan.backend)
        for stage, form in zip(stages, forms, strict=True)
    ]
    length = len(rows)
    into_h = [h[0].new_empty(length, *h[0].shape) for h in tape.gates_h]
    into_x = (
        into_h[0] if shared else torch.empty_like(gates_x, memory_format=torch.contiguous_format)
    )
    sums = [
        tuple(torch.zeros_like(p) for p in pick(form.params, values))
        for form, values in zip(forms, params, strict=True)
    ]
    fields = forms[0].fields
    grads = tuple(g.contiguous() for g in pick(fields, tuple(grad_last)))
    depth = 0 if before is None else len(before)
    # The gradients of all outputs, which steps that read them later add to.
    into_y = torch.cat((grad_y.new_zeros(depth, *grad_y.shape[1:]), grad_y)) if depth else grad_y
    ys = into_y.contiguous().unbind(0)  # (D + T) × (B, H)
    widths = [first[_index(plan.state, name)].shape[-1] for name in stages[0].reads]
    back = first[0].new_zeros(first[0].shape[0], sum(widths))
    kept = [None] * length if plan.keep is None else plan.keep.contiguous().unbind(0)
    nowhere = gates_x.new_empty(0)
    places_x, places_h = into_x.unbind(0), [buffer.unbind(0) for buffer in into_h]
    for t in reversed(range(length)):
        carried: Tensors = ()
        for number in reversed(range(len(stages))):
            state = tape.before[number][t]
            grads, handed, sums[number] = pulls[number](
                rows[t],
                tape.gates_h[number][t],
                state,
                params[number],
                grads,
                back,
                ys[depth + t],
                kept[t],
                sums[number],
                # One tensor cannot be written to under two names.
                nowhere if shared else places_x[t],
                places_h[number][t],
            )
            carried = handed or carried
            back = stages[number].operator.transpose(places_h[number][t]).to(grads[0].dtype)
            lags = stages[number].lags
            if lags:
                own, *late = torch.split(
                    back, [back.shape[-1] - len(lags) * first[0].shape[-1]]
                    + [first[0].shape[-1]] * len(lags), dim=-1,
                )  # fmt: skip
                back = own
                for lag, part in zip(lags, late, strict=True):
                    ys[depth + t - lag].add_(part)
        if carried:
            grads = tuple(g + c for g, c in zip(grads, carried, strict=True))
    initial = iter(steps.add_back(forms[-1], grads, back))
    found: list[Tensor | None] = [into_x]
    found += [next(initial) if is_float else None for is_float in fields]
    past: list[Tensor] = []
    if before is not None:
        found.append(into_y[:depth])
        past = [*before.unbind(0), *(state[0] for state in tape.before[0][1:])]
    needed = iter(ctx.needs_input_grad[2 + len(fields) + plan.held :])
    for number, stage in enumerate(stages):
        weights = stage.operator.weights
        wanted = [next(needed) for _ in weights]
        if any(wanted):
            reads = torch.stack(
                [
                    read_all(stage, plan.state(*s), past[: depth + t])
                    for t, s in enumerate(tape.before[number])
                ]
            )
            products = stage.operator.weight_grads(
                reads.flatten(0, 1), into_h[number].flatten(0, 1)
            )  # (T, B, ·) -> (T·B, ·)
            found += [
                p.to(w.dtype) if want else None
                for p, w, want in zip(products, weights, wanted, strict=True)
            ]
        else:
            found += [None] * len(weights)
        total = iter(sums[number])
        found += [next(total) if is_float else None for is_float in forms[number].params]
        for _ in stage.params:
            next(needed)
    return found
