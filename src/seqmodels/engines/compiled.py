"""The general engine: any cell, its update and the gradient of it compiled, products hoisted."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Hashable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell, S, Stage
from seqmodels.cells.past import hold_past, put_back
from seqmodels.engines.base import EngineError
from seqmodels.engines.steps import CapturedTensor, identity
from seqmodels.engines.through_time import Plan, run


class Compiled:
    """Back-propagation through time in its general form, for every cell.

    Forward: one product for `project`, then for each t one product and one fused kernel made of
    `update`. Backward: for t = T … 1 one fused kernel made of the vector-Jacobian product that
    `torch.func.vjp` derives from `update`, and the transposed product. The gradients of the
    operators' weights are one product after the loop. Without gradients nothing is stored.

    torch.compile makes the kernels at the first call for an equation, dtype and device, once for
    all layers that share the equation; the length of a sequence is of no account.

    `auto` does not take it: name it where one has measured that it pays.

    Limits: no double backward (it raises; use the eager engine). An update may close over numbers
    and functions; its tensors go through `Stage.params`. The kernels need a C++ compiler on the
    CPU and Triton on CUDA.

    Attributes:
        backend: what torch.compile uses, "inductor" or "aot_eager"; "none" compiles nothing: the
            same engine from plain operations.
    """

    name = "compiled"

    def __init__(self, backend: str = "inductor") -> None:
        self.backend = backend
        # By cell, and what of the call it depends on: which tensor it captures, None for none.
        self._tried: WeakKeyDictionary[nn.Module, dict[Hashable, str | None]] = WeakKeyDictionary()

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        if torch._C._are_functorch_transforms_active():
            return "torch.func's transforms do not go through it"
        if torch.compiler.is_compiling():
            return "it compiles its own steps and cannot be part of what is being compiled"
        reason = _no_compiler(x.device.type) if self.backend == "inductor" else None
        return reason or self._captured(cell, x, keep)

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        return False

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
        plan = Plan(stages, type(state), keep, self.backend, before is not None)
        try:
            y, last = run(plan, cell.project(x), state, before)
        except CapturedTensor as error:
            raise EngineError(f"{type(cell).__name__}: {error}, or use engine='eager'") from None
        except Exception as error:
            if not _of_the_compiler(error):
                raise
            raise EngineError(
                f"{type(cell).__name__} could not be compiled: {_brief(error)}; use engine='eager'"
            ) from error
        end = type(state)(*last)
        return y, end if before is None else put_back(end, before, y, keep)

    def _captured(self, cell: Cell[S], x: Tensor, keep: Tensor | None) -> str | None:
        known = self._tried.setdefault(cell, {})
        key = signature(cell, x, keep)
        if key not in known:
            known[key] = captures(cell, x, keep)
        return known[key]


def signature(cell: Cell[S], x: Tensor, keep: Tensor | None) -> tuple[Hashable, ...]:
    frozen = tuple(p.requires_grad for p in cell.parameters())
    return (cell.training, frozen, keep is not None, x.dtype, x.device)


def _no_compiler(device: str) -> str | None:
    if device == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "torch.compile needs Triton on CUDA: it is not there"
    if device != "cpu":
        return f"it is made for the CPU and CUDA, and x is on {device}"
    # What torch's inductor looks for.
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        return f"torch.compile needs a C++ compiler and there is no {name}: install one or set CXX"
    return None


def _one_step(x: Tensor, keep: Tensor | None) -> Tensor:
    x = x[:1].detach()
    return x if keep is None else x.masked_fill(~keep[:1].unsqueeze(-1), 0.0)


def captures(cell: Cell[S], x: Tensor, keep: Tensor | None) -> str | None:
    """Why a gradient would be lost: that of an update's own tensors, or one that the cell itself
    looks at between steps; None where none would."""
    if cell.only_eager is not None:
        return cell.only_eager
    x = _one_step(x, keep)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():  # prepare may draw
        stages: tuple[Stage[Any], ...] = cell.prepare()
        first = cell.initial_state(x.shape[1], x)
        state = type(first)(*(f.detach() for f in first))
        gates_x = cell.project(x)[0].detach()
        for stage in stages:
            try:
                identity(stage.update)
            except CapturedTensor as error:
                return str(error)
            fields = [getattr(state, name) for name in stage.reads]
            read = fields[0] if len(fields) == 1 else torch.cat(fields, dim=-1)
            gates_h = stage.operator.apply(read).to(read.dtype).detach()
            params = [p.detach() for p in stage.params]
            new = stage.update(gates_x, gates_h, state, *params)
            if any(f.requires_grad for f in new):
                return (
                    "its update uses a tensor that requires a gradient and is not in Stage.params"
                )
            state = new
    return None


def _of_the_compiler(error: Exception) -> bool:
    return type(error).__module__.startswith(
        ("torch._dynamo", "torch._inductor", "torch._functorch")
    )


def _brief(error: Exception) -> str:
    """The first two lines: the first often says no more than who raised the second."""
    return " ".join(str(error).strip().split("\n")[:2])
