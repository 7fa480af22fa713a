"""torch's own kernels (oneDNN, cuDNN) for the cells whose equation is theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._VF import gru, lstm, rnn_relu, rnn_tanh  # what torch.nn.RNN, LSTM and GRU call
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqmodels.cells import Cell, GRUCell, LSTMCell, RNNCell, S

Kernel = Callable[..., Any]
# The mode numbers of torch.backends.cudnn.rnn.get_cudnn_mode.
_RNN_RELU, _RNN_TANH, _LSTM, _GRU = 0, 1, 2, 3


class Native:
    """The kernels behind torch.nn.RNN, LSTM and GRU, called with the cell's own parameters.

    Limits: the three cells themselves, not subclasses of them, whose equation may differ. Masks
    must be prefixes (a sequence, then its padding). There is no double backward through oneDNN's
    LSTM and cuDNN's kernels, where torch raises: use the eager engine. Under autocast on the CPU
    the whole recurrence runs in the lower precision, the state of the LSTM included.
    """

    name = "native"

    def why_not(self, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> str | None:
        kernel = cell.only_eager or _kernel(cell)
        if isinstance(kernel, str):
            return kernel
        if keep is not None:
            if not bool(keep[0].all()):
                return "packed sequences need every sequence to have its first step"
            if bool((keep[1:] & ~keep[:-1]).any()):
                return "packed sequences need each mask to be a prefix, and here steps are skipped"
        return None

    def pays(self, cell: Cell[S], x: Tensor) -> bool:
        return True

    def __call__(
        self, cell: Cell[S], x: Tensor, state: S | None = None, *, keep: Tensor | None = None
    ) -> tuple[Tensor, S]:
        cell.check(x, state, keep)
        found = _kernel(cell)
        if isinstance(found, str):
            raise ValueError(found)
        kernel, mode = found
        if state is None:
            state = cell.initial_state(x.shape[1], x)
        weights = _weights(cell)
        dtype = x.dtype
        if x.is_cuda:
            _flatten(weights, cell, mode)
        elif torch.is_autocast_enabled(x.device.type) and dtype != torch.float64:
            # torch's autocast leaves the state behind, which oneDNN refuses: lower all together.
            low = torch.get_autocast_dtype(x.device.type)
            weights = [w.to(low) for w in weights]
            x, state = x.to(low), _map(state, lambda s: s.to(low))
            with torch.autocast(x.device.type, enabled=False):
                y, state = _run(kernel, x, state, weights, keep)
            return y.to(dtype), _map(state, lambda s: s.to(dtype))
        y, state = _run(kernel, x, state, weights, keep)
        if y.dtype != dtype:  # autocast on an accelerator
            y, state = y.to(dtype), _map(state, lambda s: s.to(dtype))
        return y, state


def _kernel(cell: Cell[S]) -> tuple[Kernel, int] | str:
    """The kernel and cuDNN's number for it, or the reason why there is none."""
    kind = type(cell)
    if kind is LSTMCell:
        return lstm, _LSTM
    if kind is GRUCell:
        return gru, _GRU
    if isinstance(cell, RNNCell) and kind is RNNCell:
        if cell.nonlinearity == "tanh":
            return rnn_tanh, _RNN_TANH
        if cell.nonlinearity == "relu":
            return rnn_relu, _RNN_RELU
        return f"torch has no kernel for an RNN with nonlinearity={cell.nonlinearity!r}"
    return f"torch has no kernel for the equation of {kind.__name__}"


def _weights(cell: Cell[S]) -> list[Tensor]:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [w for name in names if (w := getattr(cell, name)) is not None]


def _map(state: S, function: Callable[[Tensor], Tensor]) -> S:
    return type(state)(*map(function, state))


def _run(
    kernel: Kernel, x: Tensor, state: S, weights: list[Tensor], keep: Tensor | None
) -> tuple[Tensor, S]:
    if keep is None:
        y, fields = _dense(kernel, x, list(state), weights)
    elif x.device.type == "cpu":
        y, fields = _segments(kernel, x, list(state), weights, keep)
    else:
        y, fields = _packed(kernel, x, list(state), weights, keep)
    return y, type(state)(*fields)


Fields = list[Tensor]  # of the state, (B, H) each


def _dense(
    kernel: Kernel, x: Tensor, fields: Fields, weights: list[Tensor]
) -> tuple[Tensor, Fields]:
    y, *last = kernel(x, _hidden(fields), weights, *_options(weights), False)
    return y, [field.squeeze(0) for field in last]  # (1, B, H) -> (B, H)


def _segments(
    kernel: Kernel, x: Tensor, fields: Fields, weights: list[Tensor], keep: Tensor
) -> tuple[Tensor, Fields]:
    """Sequences sorted by length, one dense call for each stretch of time without an end in it.

    torch's own packed kernel on the CPU slices its input at every step, which makes the backward
    pass cost O(T²): an LSTM with T, B, H = 784, 32, 128 took 25 s there, 0.6 s in the eager loop
    and 0.4 s so (forward and backward, one core, lengths from 392 to 784).
    """
    order = keep.sum(0).argsort(descending=True, stable=True)  # (B), longest first
    x = x.index_select(1, order)
    fields = [field.index_select(0, order) for field in fields]
    running, steps = torch.unique_consecutive(keep.sum(1), return_counts=True)
    outputs: list[Tensor] = []
    ended: list[Fields] = []  # the rows that ended at each stretch, shortest sequences first
    pieces = torch.split(x, steps.tolist())
    for count, piece in zip(running.tolist(), pieces, strict=True):
        if count < fields[0].shape[0]:
            ended.append([field[count:] for field in fields])
            fields = [field[:count] for field in fields]
        if count == 0:
            outputs.append(piece.new_zeros(*piece.shape[:2], ended[0][0].shape[1]))
            continue
        y, fields = _dense(kernel, piece[:, :count], fields, weights)
        outputs.append(
            functional.pad(y, (0, 0, 0, x.shape[1] - count))
        )  # (T', B', H) -> (T', B, H)
    back = order.argsort()
    parts = zip(fields, *reversed(ended), strict=True)
    return torch.cat(outputs).index_select(1, back), [
        torch.cat(part).index_select(0, back) for part in parts
    ]


def _packed(
    kernel: Kernel, x: Tensor, fields: Fields, weights: list[Tensor], keep: Tensor
) -> tuple[Tensor, Fields]:
    """cuDNN's own variable lengths."""
    packed = pack_padded_sequence(x, keep.sum(0).cpu(), enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None and back is not None  # enforce_sorted=False gives both
    hidden = _hidden([field.index_select(0, order) for field in fields])
    data, *last = kernel(packed.data, packed.batch_sizes, hidden, weights, *_options(weights))
    out = PackedSequence(data, packed.batch_sizes, order, back)
    y, _ = pad_packed_sequence(out, total_length=x.shape[0])  # (T, B, H), zeros at padding
    return y, [field.squeeze(0).index_select(0, back) for field in last]


def _options(weights: list[Tensor]) -> tuple[bool, int, float, bool, bool]:
    """bias, layers, dropout, train (whether to store for a backward pass), bidirectional."""
    return len(weights) == 4, 1, 0.0, torch.is_grad_enabled(), False


def _hidden(fields: Fields) -> Tensor | list[Tensor]:
    """The state as the kernels take it: (B, H) -> (1, B, H), a list where it has two fields."""
    rows = [field.unsqueeze(0) for field in fields]
    return rows if len(rows) > 1 else rows[0]


def _flatten(weights: list[Tensor], cell: Cell[S], mode: int) -> None:
    """Lay the parameters out in one buffer, as cuDNN wants them, unless they already are.

    Otherwise every call would copy them and warn. The parameters keep their identity.
    """
    owners = {w.untyped_storage().data_ptr() for w in weights}
    if len(owners) == 1:
        return
    first = weights[0]
    flattenable = (
        len(owners) == len(weights)
        and all(isinstance(w, nn.Parameter) and w.dtype == first.dtype for w in weights)
        and torch.backends.cudnn.is_acceptable(first)  # type: ignore[no-untyped-call]
        and torch._use_cudnn_rnn_flatten_weight()
    )
    if flattenable:
        with torch.cuda.device(first.device), torch.no_grad():
            torch._cudnn_rnn_flatten_weight(
                weights,
                len(weights),
                cell.input_size,
                mode,
                cell.hidden_size,
                0,  # no projection
                1,  # layer
                False,  # time-major
                False,  # one direction
            )
