"""Calls of a built kernel: buffers, pointers, and what is kept for the way back."""

from __future__ import annotations

import copy
import ctypes
import functools
import itertools
from typing import Any

import torch
from torch import Tensor

from seqmodels.engines.kernels.build import build
from seqmodels.engines.kernels.source import Source

_POINTER = ctypes.c_void_p
_INT = ctypes.c_int64


class _Track(ctypes.Structure):
    _fields_ = [("base", _POINTER), ("step", _INT), ("mask", _INT)]


class Kernel:
    """A kernel in memory, with the C structure of its call."""

    def __init__(self, source: Source) -> None:
        self.source = source
        library = build(source.text)
        fields, stages, most = len(source.widths), len(source.stages), source.most_params

        class Call(ctypes.Structure):
            _fields_ = [
                ("steps", _INT), ("batch", _INT), ("threads", _INT),
                ("gates_x", _POINTER), ("keep", _POINTER), ("y", _POINTER),
                ("field", _Track * fields), ("between", (_Track * fields) * stages),
                ("product", _Track * stages), ("weight", _POINTER * stages),
                ("bias", _POINTER * stages), ("params", (_POINTER * most) * stages),
                ("grad_y", _POINTER), ("grad_last", _POINTER * fields),
                ("into_x", _POINTER), ("into_h", _POINTER * stages),
                ("grad_first", _POINTER * fields), ("sums", (_POINTER * most) * stages),
                ("pack", _POINTER), ("pack_size", _POINTER), ("compute", _POINTER),
                ("gemm", _POINTER), ("set_threads", _POINTER),
            ]  # fmt: skip

        library.seqmodels_call_size.restype = ctypes.c_int64
        if library.seqmodels_call_size() != ctypes.sizeof(Call):
            raise AssertionError("the structure of a call differs from the kernel's")
        self._call = Call
        self._library = library
        for name in ("forward", "backward"):
            function = getattr(library, f"seqmodels_{name}")
            function.restype, function.argtypes = None, [_POINTER]

    def forward(self, run: Run) -> None:
        """Fill run's buffers with all states of the sequence."""
        self._library.seqmodels_forward(ctypes.byref(self._filled(run)))

    def backward(self, run: Run, grad_y: Tensor, grad_last: list[Tensor | None]) -> Gradients:
        """The gradients of all that the kernel reads."""
        source, batch = self.source, run.batch
        like = run.gates_x
        found = Gradients(
            into_x=torch.empty_like(like),
            into_h=[],
            first=[like.new_empty(batch, w) for w in source.widths],
            sums=[
                [like.new_zeros(run.threads, n, dtype=torch.float64) for n in stage.params]
                for stage in source.stages
            ],
        )
        call = self._filled(run)
        if run.lead is not None:
            # The gradients of all outputs, D of them before the first step.
            before = run.lead + 1
            found.outputs = torch.cat((grad_y.new_zeros(before, *grad_y.shape[1:]), grad_y))
            grad_y = found.outputs[before:]
        call.grad_y, call.into_x = grad_y.data_ptr(), found.into_x.data_ptr()
        for s, stage in enumerate(source.stages):
            if not stage.recur:
                found.into_h.append(None)
            elif stage.summed:
                found.into_h.append(found.into_x)
            else:
                found.into_h.append(like.new_empty(run.steps, batch, stage.recur))
            call.into_h[s] = _address(found.into_h[s])
            for p, total in enumerate(found.sums[s]):
                call.sums[s][p] = total.data_ptr()
        for f, grad in enumerate(grad_last):
            call.grad_last[f] = _address(grad)
            call.grad_first[f] = found.first[f].data_ptr()
        self._library.seqmodels_backward(ctypes.byref(call))
        return found

    def _filled(self, run: Run) -> Any:
        call = self._call()
        call.steps, call.batch, call.threads = run.steps, run.batch, run.threads
        call.gates_x, call.keep = run.gates_x.data_ptr(), _address(run.keep)
        call.y = _address(run.y)
        for f, track in enumerate(run.fields):
            _point(call.field[f], track, run.masks[f])
        for s in range(len(self.source.stages)):
            for f, between in enumerate(run.between[s]):
                _point(call.between[s][f], between, -1 if run.store else 0)
            _point(call.product[s], run.products[s], -1 if run.store else 0)
            call.weight[s], call.bias[s] = _address(run.weights[s]), _address(run.biases[s])
            for p, param in enumerate(run.params[s]):
                call.params[s][p] = param.data_ptr()
        for name, address in _routines(run.gates_x.dtype).items():
            setattr(call, name, address)
        return call


class Gradients:
    """What a way back finds, summed over time and batch where it belongs to parameters."""

    def __init__(
        self,
        into_x: Tensor,
        into_h: list[Tensor | None],
        first: list[Tensor],
        sums: list[list[Tensor]],
    ) -> None:
        self.into_x = into_x
        self.into_h = into_h
        self.first = first
        self.sums = sums
        self.outputs: Tensor | None = None  # (D + T, B, H), where outputs of the past are read


class Run:
    """The tensors of one call.

    Args:
        source: of the kernel.
        gates_x: (T, B, G), contiguous; overwritten where the kernel sums the gates.
        state: the first state, contiguous fields (B, ·).
        weights, biases: of each stage's product, contiguous, None without one.
        params: of each stage, contiguous.
        keep: (T, B) bool, contiguous, or None.
        store: whether to keep what the way back needs.
        before: (D, B, H), the outputs up to the first step where stages read lags, else None.
    """

    def __init__(
        self,
        source: Source,
        gates_x: Tensor,
        state: tuple[Tensor, ...],
        weights: list[Tensor | None],
        biases: list[Tensor | None],
        params: list[tuple[Tensor, ...]],
        keep: Tensor | None,
        store: bool,
        before: Tensor | None = None,
    ) -> None:
        self.lead = None if before is None else len(before) - 1
        self.gates_x, self.weights, self.biases = gates_x, weights, biases
        self.params, self.keep = params, keep
        self.steps, self.batch = gates_x.shape[:2]
        self.threads = max(1, min(torch.get_num_threads(), self.batch // source.together))
        self.store = store
        self._whole: list[Tensor] = []
        self.masks: list[int] = []
        for f, (first, width) in enumerate(zip(state, source.widths, strict=True)):
            # The outputs are the first field's states: they are all kept in any case.
            whole = store or (f == 0 and (keep is None or before is not None))
            slots = self.steps + 1 if whole else 2
            self.masks.append(-1 if whole else 1)
            lead = self.lead if f == 0 and self.lead is not None else 0
            track = gates_x.new_empty(lead + slots, self.batch, width)
            if lead and before is not None:
                track[:lead] = before[:-1]
            track[lead] = first.reshape(self.batch, width)
            self._whole.append(track)
        output = source.widths[0]
        self.y = None if keep is None else gates_x.new_empty(self.steps, self.batch, output)
        slots = self.steps if store else 1
        self.products = [
            gates_x.new_empty(slots, self.batch, stage.recur)
            if stage.recur and not stage.summed
            else None
            for stage in source.stages
        ]
        # Zeros where padding leaves places unwritten: the gradient of a weight is a product over
        # all places, and nothing times what memory happens to hold may be NaN.
        fresh = gates_x.new_empty if keep is None else gates_x.new_zeros
        self.between = [
            [
                fresh(slots, self.batch, width)
                if stage.changes[f] and not source.last(s, f)
                else None
                for f, width in enumerate(source.widths)
            ]
            for s, stage in enumerate(source.stages)
        ]

    @property
    def fields(self) -> list[Tensor]:
        """(T + 1, B, ·) each, or two steps of it: the first state and what the steps made of it."""
        first, *rest = self._whole
        return [first[self.lead or 0 :], *rest]

    def parted(self) -> tuple[Run, list[Tensor]]:
        """The run without its buffers, and the buffers: autograd keeps and frees them."""
        other = copy.copy(self)
        buffers = [self.gates_x, *self._whole]
        buffers += [b for b in (*self.products, *itertools.chain(*self.between)) if b is not None]
        other._whole, other.y = [], None
        other.products = [None if p is None else p.new_empty(0) for p in self.products]
        other.between = [
            [None if b is None else b.new_empty(0) for b in row] for row in self.between
        ]
        other.gates_x = self.gates_x.new_empty(0)
        return other, buffers

    def joined(self, buffers: tuple[Tensor, ...]) -> Run:
        """The run with its buffers again."""
        other = copy.copy(self)
        rest = iter(buffers)
        other.gates_x = next(rest)
        other._whole = [next(rest) for _ in self.masks]
        other.products = [None if p is None else next(rest) for p in self.products]
        other.between = [[None if b is None else next(rest) for b in row] for row in self.between]
        return other

    def before(self, source: Source, stage: int, field: int) -> Tensor:
        """(T, B, ·): a field as the stage read it, at every step; needs `store`."""
        for s in reversed(range(stage)):
            if source.stages[s].changes[field]:
                between = self.between[s][field]
                if between is not None:
                    return between
                return self.fields[field][1:]
        return self.fields[field][:-1]

    def lagged(self, lag: int) -> Tensor:
        """(T, B, H): the outputs of so many steps ago, at every step; needs `before`."""
        assert self.lead is not None
        first = self.lead + 1 - lag
        return self._whole[0][first : first + self.steps]

    def last(self, field: int) -> Tensor:
        """(B, ·): a field after the last step."""
        return self.fields[field][self.steps & self.masks[field]]


def _point(track: Any, buffer: Tensor | None, mask: int) -> None:
    """mask: -1 where every step has its own place, 1 where two take turns, 0 for one alone."""
    if buffer is None:
        return
    track.base, track.step = buffer.data_ptr(), buffer.stride(0)
    track.mask = mask


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The library behind torch's CPU operations, which has the products."""
    from pathlib import Path

    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        if (folder / name).exists():
            return ctypes.CDLL(str(folder / name))
    return None


@functools.cache
def _routines(dtype: torch.dtype) -> dict[str, int | None]:
    library = _library()

    def find(name: str) -> int | None:
        try:
            return ctypes.cast(getattr(library, name), _POINTER).value
        except AttributeError:
            return None

    single = dtype == torch.float32
    packed = {
        "pack": "cblas_sgemm_pack",
        "pack_size": "cblas_sgemm_pack_get_size",
        "compute": "cblas_sgemm_compute",
    }
    found = {key: find(name) for key, name in packed.items()} if single else {}
    if None in found.values():
        found = dict.fromkeys(packed)
    found["gemm"] = find("sgemm_" if single else "dgemm_")
    found["set_threads"] = find("MKL_Set_Num_Threads_Local")
    return found


def no_products(dtype: torch.dtype) -> bool:
    """Whether torch's library shows no routine for products of this dtype."""
    return _routines(dtype)["gemm"] is None
