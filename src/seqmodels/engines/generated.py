"""The engine of printed kernels: any cell's equation as C++ loops of its own, on the CPU."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd import Function

from seqmodels.cells import Cell, LSTMCell, S, Stage
from seqmodels.cells.past import hold_past, put_back
from seqmodels.engines.base import EngineError
from seqmodels.engines.compiled import captures, signature
from seqmodels.engines.kernels.build import BuildError, compiler
from seqmodels.engines.kernels.call import Kernel, Run, no_products
from seqmodels.engines.kernels.graph import NotPrintable
from seqmodels.engines.kernels.source import Source, make_source, printed_with_update
from seqmodels.engines.steps import CapturedTensor, identity, value_key
from seqmodels.engines.through_time import refuse_twice

TWICE = (
    "the generated engine has no double backward: use engine='eager' to differentiate a gradient"
)
# Below this many states in a call the loop in Python is soon over, and a kernel would have to be
# read or built first.
WORTHWHILE = 2**15
_MOST = 256


class Generated:
    """A C++ kernel for each equation, printed from the traced graphs of `update` and its gradient.

    Each thread carries a slice of the batch through the whole sequence, so there is no barrier and
    no Python within it; the products are MKL's, with the recurrent weights packed once a call. The
    way back recomputes the gates from their sums. The gradients of the operators' weights are one
    product after the loop, as in the compiled engine.

    A kernel depends on the equation, the sizes of a row and the dtype, neither on the batch nor on
    the length. It is built at its first call, in seconds, and kept in the user's cache
    directory (`SEQMODELS_CACHE`), where later processes find it.

    Limits: the CPU, float32 and float64; operators that are dense, block-diagonal or elementwise;
    updates made of elementwise operations, moves of elements and sums within a row. No double
    backward (it raises; use the eager engine). Under autocast the input's product runs in the lower
    precision and the recurrence in that of the state. Needs a C++ compiler.
    """

    name = "generated"

    def __init__(self) -> None:
        # By cell, and what of the call it depends on: why not, or None.
        self._tried: WeakKeyDictionary[nn.Module, dict[Hashable, str | None]] = WeakKeyDictionary()
        self._sources: OrderedDict[Hashable, Source] = OrderedDict()
        self._kernels: OrderedDict[Hashable, Kernel] = OrderedDict()

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        """Whether `auto` should take it: not for calls of a few small steps, nor for the one case
        where torch's own kernel has measured faster."""
        if type(cell) is LSTMCell and not torch.is_grad_enabled():
            return False
        return x.shape[0] * x.shape[1] * cell.hidden_size >= WORTHWHILE

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        if x.device.type != "cpu":
            return f"it is made for the CPU, and x is on {x.device}"
        if x.dtype not in (torch.float32, torch.float64):
            return f"it is made for float32 and float64, and x is of {x.dtype}"
        if torch._C._are_functorch_transforms_active():
            return "torch.func's transforms do not go through it"
        if torch.compiler.is_compiling():
            return "it cannot be part of what torch.compile compiles"
        if compiler() is None:
            return "it needs a C++ compiler and there is none: install g++ or set CXX"
        if no_products(x.dtype):
            return "torch's library on this machine shows no routine for products (sgemm, dgemm)"
        known = self._tried.setdefault(cell, {})
        key = signature(cell, x, keep)
        if key not in known:
            known[key] = captures(cell, x, keep) or self._unprintable(cell, x)
        return known[key]

    def __call__(
        self, cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
    ) -> tuple[Tensor, S]:
        cell.check(x, state, keep)
        if state is None:
            state = cell.initial_state(x.shape[1], x)
        if keep is not None:
            # As in `scan`: 0 · NaN = NaN in the backward pass.
            x = x.masked_fill(~keep.unsqueeze(-1), 0.0)
        stages, state, before = hold_past(cell, cell.prepare(), state, keep)
        # A projection of rows that do not lie one after the other costs a second pass.
        gates_x = cell.project(x.contiguous()).to(state[0].dtype)
        try:
            kernel = self._kernel(stages, gates_x, state)
        except (CapturedTensor, NotPrintable, BuildError) as error:
            raise EngineError(f"{type(cell).__name__}: {error}; use engine='eager'") from error
        own = _of_its_own(gates_x, cell, x)
        y, last = _run(kernel, stages, gates_x, own, state, keep, before)
        end = type(state)(*last)
        return y, end if before is None else put_back(end, before, y, keep)

    def _unprintable(self, cell: Cell[S], x: Tensor) -> str | None:
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # prepare may draw
            state = cell.initial_state(x.shape[1], x)
            try:
                stages, state, _ = hold_past(cell, cell.prepare(), state, None)
                self._kernel(stages, cell.project(x[:1]).to(state[0].dtype), state)
            except (CapturedTensor, NotPrintable) as error:
                return str(error)
            except BuildError as error:
                warnings.warn(f"no kernel for {type(cell).__name__}: {error}", stacklevel=2)
                return str(error)
        return None

    def _kernel(self, stages: tuple[Stage[Any], ...], gates_x: Tensor, state: Any) -> Kernel:
        key = _key(stages, gates_x, state)
        if key not in self._kernels:
            other = [f for f in state if f.dtype != gates_x.dtype]
            if other:
                raise NotPrintable(f"a field of its state is of {other[0].dtype}")
            row = type(state)(*(f[:1].detach() for f in state))
            source = make_source(stages, gates_x[0, :1].detach(), row)
            self._kernels[key] = Kernel(source)
            while len(self._kernels) > _MOST:
                self._kernels.popitem(last=False)
        self._kernels.move_to_end(key)
        return self._kernels[key]


def _key(stages: tuple[Stage[Any], ...], gates_x: Tensor, state: Any) -> Hashable:
    """What the text of a kernel depends on."""
    parts: list[Any] = [type(state), gates_x.dtype, gates_x.shape[2:]]
    parts += [f.shape[1:] for f in state]
    for stage in stages:
        operator = stage.operator
        numbers = tuple(
            (name, value_key(value))
            for name, value in sorted(vars(operator).items())
            if not isinstance(value, Tensor)
        )
        shapes = tuple(w.shape for w in operator.weights)
        params = tuple((p.shape, p.dtype) for p in stage.params)
        parts.append((type(operator), numbers, shapes, stage.reads, stage.lags, params))
        parts.append(identity(stage.update))
    return tuple(parts)


def _run(
    kernel: Kernel,
    stages: tuple[Stage[Any], ...],
    gates_x: Tensor,
    own: bool,
    state: Any,
    keep: Tensor | None,
    before: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    held = () if before is None else (before,)
    tensors = (*state, *held, *(t for s in stages for t in (*s.operator.weights, *s.params)))
    if torch.is_grad_enabled() and any(t.requires_grad for t in (gates_x, *tensors)):
        plain = (kernel, stages, keep, own, before is not None)
        y, *last = _Printed.apply(*plain, gates_x, *tensors)  # type: ignore[no-untyped-call]
        return y, tuple(last)
    with torch.no_grad():
        run = _new_run(kernel, stages, gates_x, tuple(state), keep, own, before, store=False)
        kernel.forward(run)
        return _results(run, state)


def _results(run: Run, state: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    y = run.fields[0][1:] if run.y is None else run.y
    last = tuple(run.last(f).reshape(first.shape).clone() for f, first in enumerate(state))
    return y.reshape(*y.shape[:2], *state[0].shape[1:]), last


def _new_run(
    kernel: Kernel,
    stages: tuple[Stage[Any], ...],
    gates_x: Tensor,
    state: tuple[Tensor, ...],
    keep: Tensor | None,
    own: bool,
    before: Tensor | None,
    store: bool,
) -> Run:
    gates_x = gates_x.detach()
    summed = kernel.source.stages[0].summed
    # It will hold the sums: nobody else may see it change.
    gates_x = gates_x.clone() if summed and not own else gates_x.contiguous()
    weights: list[Tensor | None] = []
    biases: list[Tensor | None] = []
    params = []
    for stage, layout in zip(stages, kernel.source.stages, strict=True):
        inside = printed_with_update(stage)
        matrix = [] if inside else [w.detach().contiguous() for w in stage.operator.weights]
        weights.append(matrix[0] if layout.recur else None)
        biases.append(matrix[1] if layout.recur and len(matrix) > 1 else None)
        params.append(tuple(p.detach().contiguous() for p in (*inside, *stage.params)))
    keep = None if keep is None else keep.contiguous()
    first = tuple(f.detach() for f in state)
    before = None if before is None else before.detach()
    return Run(kernel.source, gates_x, first, weights, biases, params, keep, store, before)


_PRODUCTS = {"AddmmBackward0", "MmBackward0"}


def _of_its_own(gates_x: Tensor, cell: Cell[S], x: Tensor) -> bool:
    """Whether nothing else, and no gradient, is computed from these values."""
    if not gates_x.is_contiguous():
        return False
    node = gates_x.grad_fn
    if node is None:
        held = (x, *cell.parameters(), *cell.buffers())
        storage = gates_x.untyped_storage().data_ptr()
        return all(storage != t.untyped_storage().data_ptr() for t in held)
    # The fresh value of a linear map, which its gradient does not look at.
    if node.name() in ("ViewBackward0", "UnsafeViewBackward0"):
        node = node.next_functions[0][0]
    return node is not None and node.name() in _PRODUCTS


class _Printed(Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, stages: tuple[Stage[Any], ...], keep: Any, own: bool,
        held: bool, gates_x: Tensor, *tensors: Tensor,
    ) -> Any:  # fmt: skip
        count = len(kernel.source.widths)
        state = tensors[:count]
        before = tensors[count] if held else None
        run = _new_run(kernel, stages, gates_x, state, keep, own, before, store=True)
        kernel.forward(run)
        y, last = _results(run, state)
        ctx.kernel, ctx.stages = kernel, stages
        ctx.run, buffers = run.parted()
        # Unpacking checks that nothing was changed in between.
        ctx.count = len(buffers)
        ctx.save_for_backward(*buffers, *tensors)
        return (y, *last)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *grad_last: Tensor) -> Any:
        run = ctx.run.joined(ctx.saved_tensors[: ctx.count])
        with torch.no_grad():
            found = _gradients(ctx, run, grad_y, grad_last)
        return (None, None, None, None, None, *refuse_twice(found, TWICE))


def _gradients(
    ctx: Any, run: Run, grad_y: Tensor, grad_last: tuple[Tensor, ...]
) -> list[Tensor | None]:
    kernel: Kernel = ctx.kernel
    source = kernel.source
    back = kernel.backward(run, grad_y.contiguous(), [g.contiguous() for g in grad_last])
    found: list[Tensor | None] = [back.into_x]
    found += [g.reshape(grad.shape) for g, grad in zip(back.first, grad_last, strict=True)]
    held = back.outputs is not None
    if back.outputs is not None:
        found.append(back.outputs[: len(back.outputs) - run.steps])
    needed = iter(ctx.needs_input_grad[6 + len(source.widths) + held :])
    for number, stage in enumerate(ctx.stages):
        layout, inside = source.stages[number], printed_with_update(stage)
        weights = stage.operator.weights
        wanted = [next(needed) for _ in weights]
        sums = [s.sum(0) for s in back.sums[number]]
        if inside:
            found += [s.to(w.dtype).reshape(w.shape) for s, w in zip(sums, weights, strict=False)]
        elif layout.recur and any(wanted):
            parts = [run.before(source, number, f).flatten(0, 1) for f in layout.reads]
            parts += [run.lagged(lag).flatten(0, 1) for lag in layout.lags]
            reads = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
            into_h = back.into_h[number]
            assert into_h is not None
            products = stage.operator.weight_grads(reads, into_h.flatten(0, 1))
            found += [p if want else None for p, want in zip(products, wanted, strict=True)]
        else:
            found += [None] * len(weights)
        found += [
            s.to(p.dtype).reshape(p.shape)
            for s, p in zip(sums[len(inside) :], stage.params, strict=True)
        ]
        for _ in stage.params:
            next(needed)
    return found
