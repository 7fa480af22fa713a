"""One time step of a stage and its gradient as functions of tensors alone, compiled once each.

They know nothing of time, so no length of a sequence makes anything compile again.
"""

from __future__ import annotations

import functools
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
Update = Callable[..., Any]


class CapturedTensor(ValueError):
    """An update closes over a tensor, whose gradient would be lost."""


@dataclass(frozen=True)
class Form:
    """What the code of a step depends on, beside the update.

    Attributes:
        state: the type of the state.
        fields, params: which state fields and which params are floating point, and so have
            gradients.
        back: (field, width) of each part of the gradient that comes through the next product.
        last: whether the stage ends the time step, single: whether it also begins it.
        masked: whether there is a mask; only the last stage looks at it.
        shared: whether the gradients of gates_x and gates_h are one and the same tensor.
        traits: dtypes, devices and the like, so that none of them is a recompilation.
    """

    state: type
    fields: tuple[bool, ...]
    params: tuple[bool, ...]
    back: tuple[tuple[int, int], ...]
    last: bool
    single: bool
    masked: bool
    shared: bool
    traits: Hashable


def forward(update: Update, form: Form) -> Callable[..., tuple[Tensors, Tensor]]:
    """(gates_x, gates_h, state, params, old, keep) -> the state after the stage, and the output.

    `old` is the state at the beginning of the time step, which a masked row keeps.
    """

    def step(
        gates_x: Tensor, gates_h: Tensor, state: Tensors, params: Tensors, old: Tensors, keep: Any
    ) -> tuple[Tensors, Tensor]:
        new = tuple(update(gates_x, gates_h, form.state(*state), *params))
        if not (form.last and form.masked):
            return new, new[0]
        output = torch.where(_over(keep, new[0]), new[0], torch.zeros_like(new[0]))
        kept = (torch.where(_over(keep, n), n, o) for n, o in zip(new, old, strict=True))
        return tuple(kept), output

    return step


def backward(update: Update, form: Form) -> Callable[..., tuple[Tensors, Tensors, Tensors]]:
    """The vector-Jacobian product of `forward`, with what surrounds it in the loop.

    (gates_x, gates_h, state, params: the arguments of the step,
     grads: the gradient of the state after it, floating fields alone,
     back: the part of it that comes through the next product, still to be added,
     grad_y, keep: the gradient of the output and the mask, which the last stage uses,
     sums: the gradients of the params so far, into_x, into_h: where those of the gates go)
    -> the gradient of the state before it, what a masked row hands to the state at the beginning
    of the time step where that is another one, and the new sums.
    """
    floating = [i for i, is_float in enumerate(form.fields) if is_float]

    def step(
        gates_x: Tensor,
        gates_h: Tensor,
        state: Tensors,
        params: Tensors,
        grads: Tensors,
        back: Tensor,
        grad_y: Tensor,
        keep: Any,
        sums: Tensors,
        into_x: Tensor,
        into_h: Tensor,
    ) -> tuple[Tensors, Tensors, Tensors]:
        new = add_back(form, grads, back)
        carried: Tensors = ()
        if form.last and form.masked:
            # Selecting, not multiplying: 0 · NaN = NaN.
            carried = tuple(torch.where(_over(keep, g), torch.zeros_like(g), g) for g in new)
            new = (new[0] + grad_y, *new[1:])
            new = tuple(torch.where(_over(keep, g), g, torch.zeros_like(g)) for g in new)
        elif form.last:
            new = (new[0] + grad_y, *new[1:])

        def differentiable(gx: Tensor, gh: Tensor, fields: Tensors, values: Tensors) -> Tensors:
            whole = _merge(form.fields, fields, state)
            result = update(gx, gh, form.state(*whole), *_merge(form.params, values, params))
            return tuple(result[i] for i in floating)

        traced: Any = torch.func.vjp(
            differentiable,
            gates_x,
            gates_h,
            pick(form.fields, state),
            pick(form.params, params),
        )
        results, pull = traced
        new = tuple(g.to(r.dtype) for g, r in zip(new, results, strict=True))
        grad_x, grad_h, before, values = pull(new)
        if form.single and carried:
            before = tuple(b + c for b, c in zip(before, carried, strict=True))
            carried = ()
        into_h.copy_(grad_h)
        if form.last and not form.shared:
            into_x.copy_(grad_x)
        elif not form.last:  # it runs after the last one, which has filled the place
            into_x.add_(grad_x)
        return tuple(before), carried, tuple(s + v for s, v in zip(sums, values, strict=True))

    return step


def add_back(form: Form, grads: Tensors, back: Tensor) -> Tensors:
    """The gradient of the state with the parts that came through the product added."""
    floating = [i for i, is_float in enumerate(form.fields) if is_float]
    total, at = list(grads), 0
    for field, width in form.back:
        index = floating.index(field)
        total[index] = total[index] + back[..., at : at + width]
        at += width
    return tuple(total)


def pick(chosen: tuple[bool, ...], tensors: Tensors) -> Tensors:
    """The chosen ones."""
    return tuple(t for t, is_chosen in zip(tensors, chosen, strict=True) if is_chosen)


def _merge(chosen: tuple[bool, ...], some: Tensors, others: Tensors) -> Tensors:
    rest = iter(some)
    return tuple(
        next(rest) if is_chosen else o for is_chosen, o in zip(chosen, others, strict=True)
    )


def _over(keep: Tensor, field: Tensor) -> Tensor:
    return keep.reshape(-1, *[1] * (field.dim() - 1))  # (B) -> (B, 1, ...)


def shares(
    update: Update, kind: type, gates_x: Tensor, gates_h: Tensor, state: Tensors, params: Tensors
) -> bool:
    """Whether gates_x and gates_h have one gradient, as they have where an update adds them."""
    shapes = tuple((g.shape[1:], g.dtype) for g in (gates_x, gates_h))
    key = ("shares", identity(update), shapes)
    if key not in _MADE:
        with torch.enable_grad():
            row = slice(0, 1)
            gx, gh = (g[row].detach().requires_grad_() for g in (gates_x, gates_h))
            new = update(gx, gh, kind(*(s[row] for s in state)), *params)
            wanted = sum(f.sum() for f in new if f.requires_grad)
            same = False
            if isinstance(wanted, Tensor):
                a, b = torch.autograd.grad(wanted, (gx, gh), allow_unused=True)
                same = a is not None and b is not None and a.shape == b.shape
                same = same and a.data_ptr() == b.data_ptr() and a.stride() == b.stride()
        _remember(key, same, update)
    return bool(_MADE[key][0])


# What was made, by what it depends on. An update is kept beside it: its key holds addresses.
_MADE: OrderedDict[Hashable, tuple[Any, Update]] = OrderedDict()
_MOST = 512


def _remember(key: Hashable, made: Any, update: Update) -> None:
    _MADE[key] = (made, update)
    while len(_MADE) > _MOST:
        _MADE.popitem(last=False)


def compiled(make: Callable[..., Any], update: Update, form: Form, backend: str) -> Any:
    """`make(update, form)` by torch.compile, the same object for the same equation.

    Args:
        make: `forward` or `backward`.
        update, form: what it is made of. Layers whose updates are one function with equal values
            closed over share what is compiled.
        backend: a name that torch.compile knows, or "none" for the plain function.
    """
    if make is forward:
        form = replace(form, back=(), shared=False)  # of no account there
    key = (make, identity(update), form, backend)
    if key not in _MADE:
        step = make(update, form)
        if backend != "none":
            step = torch.compile(_own_code(step), fullgraph=True, backend=backend)
        _remember(key, step, update)
    _MADE.move_to_end(key)
    return _MADE[key][0]


def _own_code(step: Any) -> Any:
    """The same function with a code object of its own.

    torch.compile keeps and counts what it compiled by code object: cells that share one would
    search each other's and run into its limit together.
    """
    code = step.__code__.replace(co_name=f"{step.__name__}_{len(_MADE)}")
    own = types.FunctionType(code, step.__globals__, code.co_name, None, step.__closure__)
    own.__annotations__ = {}
    return own


def identity(update: Any) -> Hashable:
    """What makes two updates the same equation: their code and the values closed over.

    Raises:
        CapturedTensor: a closure, a default or a partial argument holds a tensor.
    """
    if isinstance(update, functools.partial):
        named = tuple((k, value_key(v)) for k, v in sorted(update.keywords.items()))
        return ("partial", identity(update.func), tuple(map(value_key, update.args)), named)
    if isinstance(update, types.FunctionType):
        cells = tuple(value_key(cell.cell_contents) for cell in update.__closure__ or ())
        defaults = tuple(map(value_key, update.__defaults__ or ()))
        named = tuple((k, value_key(v)) for k, v in sorted((update.__kwdefaults__ or {}).items()))
        return (id(update.__code__), id(update.__globals__), cells, defaults, named)
    if isinstance(update, types.MethodType):
        return ("method", identity(update.__func__), id(update.__self__))
    return id(update)


def value_key(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        raise CapturedTensor(
            "its update closes over a tensor; tensors go through the params of the Stage"
        )
    if isinstance(value, tuple | list):
        return (type(value), *map(value_key, value))
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return (type(value), value)
    return identity(value)
