"""torch's own kernels (oneDNN, cuDNN) for the cells whose equation is theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._VF import gru, lstm, rnn_relu, rnn_tanh  # what torch.nn.RNN, LSTM and GRU call
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
        kernel = _kernel(cell)
        if isinstance(kernel, str):
            return kernel
        if keep is not None:
            if not bool(keep[0].all()):
                return "packed sequences need every sequence to have its first step"
            if bool((keep[1:] & ~keep[:-1]).any()):
                return "packed sequences need each mask to be a prefix, and here steps are skipped"
        return None

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
    biased, train = len(weights) == 4, torch.is_grad_enabled()
    # (bias, layers, dropout, train, bidirectional); train only says whether to store for backward.
    options = (biased, 1, 0.0, train, False)
    if keep is None:
        hidden = [field.unsqueeze(0) for field in state]  # (B, H) -> (1, B, H)
        y, *last = kernel(x, _hidden(kernel, hidden), weights, *options, False)
        return y, type(state)(*(field.squeeze(0) for field in last))
    lengths = keep.sum(0).cpu()
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    assert order is not None and back is not None  # enforce_sorted=False gives both
    hidden = [field.index_select(0, order).unsqueeze(0) for field in state]  # (1, B, H)
    data, *last = kernel(
        packed.data, packed.batch_sizes, _hidden(kernel, hidden), weights, *options
    )
    out = PackedSequence(data, packed.batch_sizes, order, back)
    y, _ = pad_packed_sequence(out, total_length=x.shape[0])  # (T, B, H), zeros at padding
    return y, type(state)(*(f.squeeze(0).index_select(0, back) for f in last))


def _hidden(kernel: Kernel, fields: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return tuple(fields) if kernel is lstm else fields[0]


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
