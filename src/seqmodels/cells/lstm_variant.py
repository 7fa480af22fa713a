"""Long short-term memories with peepholes, layer normalisation or coupled gates."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqmodels.cells.base import Cell, Stage, gated_parameters
from seqmodels.cells.lstm import LSTMState
from seqmodels.cells.operators import Dense

_EPSILON = 1e-5  # under the root of the variance, as torch.nn.LayerNorm's


def _norm(a: Tensor, gain: Tensor, shift: Tensor | None = None) -> Tensor:
    return functional.layer_norm(a, a.shape[-1:], gain, shift, _EPSILON)


def _update(
    peephole: bool,
    layer_norm: bool,
    coupled: bool,
    bias: bool,
    gates_x: Tensor,
    gates_h: Tensor,
    state: LSTMState,
    *params: Tensor,
) -> LSTMState:
    rest = list(params)
    if layer_norm:
        gates_x = _norm(gates_x, rest.pop(0), rest.pop(0) if bias else None)
        gates_h = _norm(gates_h, rest.pop(0))
    gates = (gates_x + gates_h).chunk(3 if coupled else 4, dim=-1)  # (B, GH) -> G × (B, H)
    f, g, o = gates[-3:]
    if peephole:
        f = f + rest.pop(0) * state.c
    retain, candidate = torch.sigmoid(f), torch.tanh(g)
    if coupled:
        c = candidate + retain * (state.c - candidate)  # i = 1 - f
    else:
        i = gates[0] + rest.pop(0) * state.c if peephole else gates[0]
        c = retain * state.c + torch.sigmoid(i) * candidate
    if peephole:
        o = o + rest.pop(0) * c
    shown = _norm(c, rest.pop(0), rest.pop(0) if bias else None) if layer_norm else c
    return LSTMState(torch.sigmoid(o) * torch.tanh(shown), c)


class LSTMVariantCell(Cell[LSTMState]):
    """Long short-term memory with any of three changes; with none it is `LSTMCell`.

        f_t = sigmoid(b_f + N(W_f h_{t-1}) + N(U_f x_t) + p_f · C_{t-1})
        i_t = sigmoid(b_i + N(W_i h_{t-1}) + N(U_i x_t) + p_i · C_{t-1})     or 1 - f_t, coupled
        C̃_t = tanh(b_C + N(W_C h_{t-1}) + N(U_C x_t))
        C_t = f_t · C_{t-1} + i_t · C̃_t
        o_t = sigmoid(b_o + N(W_o h_{t-1}) + N(U_o x_t) + p_o · C_t)
        h_t = o_t · tanh(N(C_t))

    Symbols:
        x_t (I), h_t (H) in (-1, 1), C_t (H), f, i, o, C̃, U (G·H, I) = `weight_ih`,
        W (G·H, H) = `weight_hh`, b = `bias_ih` + `bias_hh`: those of `LSTMCell`. h_0 = C_0 = 0. The
        rows are those of i, f, C̃ (named g), o; coupled gates have no rows of i. C_t is then in
        (-1, 1), otherwise in (-∞, ∞).
        p (H each) = `peephole_f`, `peephole_i`, `peephole_o`: the gates' view of the memory; zero
        without peepholes.
        N: with layer normalisation N(a) = gain · (a - mean) / √(variance + 1e-5), the mean and
        variance over all G·H rows together; otherwise N(a) = a. Its gains are `gain_hh` (G·H) for
        W h, `gain_ih` (G·H) for U x, and `gain_c` (H) for C, where `shift_c` (H) is added.

    Args:
        input_size: I >= 1.
        hidden_size: H >= 1.
        peephole: whether the gates see the memory.
        layer_norm: whether N normalises.
        coupled: whether i = 1 - f: a quarter fewer parameters; what is forgotten is replaced.
        bias: whether there is a b, and a shift of N(C).

    Gains start at 1 and the shift at 0. How much is retained at the start is set as for every gated
    cell, with `seqmodels.initialisers.ForgetBias` (init=forget_bias).

    Against the papers: Gers et al. also truncate the gradient. Ba et al. have shifts in all three
    norms; two of them only add to b and are left out. The peepholes see C before its norm.

    References: Gers & Schmidhuber, "Recurrent nets that time and count", IJCNN 2000,
    https://doi.org/10.1109/IJCNN.2000.861302; Ba, Kiros & Hinton, "Layer normalization", 2016,
    https://arxiv.org/abs/1607.06450; Greff et al., "LSTM: a search space odyssey", 2015 (coupled
    gates), https://arxiv.org/abs/1503.04069.

    >>> import torch
    >>> from seqmodels.scan import scan
    >>> y, state = scan(LSTMVariantCell(3, 4, peephole=True), torch.zeros(5, 2, 3))  # (T, B, I)
    >>> tuple(y.shape), tuple(state.h.shape), tuple(state.c.shape)
    ((5, 2, 4), (2, 4), (2, 4))
    """

    gates: tuple[str, ...] = ("i", "f", "g", "o")
    memory_gate = "f"
    write_gate: str | None = "i"
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    shift_c: Tensor | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        peephole: bool = False,
        layer_norm: bool = False,
        coupled: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.peephole = peephole
        self.layer_norm = layer_norm
        self.coupled = coupled
        if coupled:
            self.gates = ("f", "g", "o")
            self.write_gate = None
        gated_parameters(self, bias)
        if peephole:
            self.peephole_f = nn.Parameter(torch.empty(hidden_size))
            if not coupled:
                self.peephole_i = nn.Parameter(torch.empty(hidden_size))
            self.peephole_o = nn.Parameter(torch.empty(hidden_size))
        if layer_norm:
            rows = len(self.gates) * hidden_size
            self.gain_ih = nn.Parameter(torch.empty(rows))
            self.gain_hh = nn.Parameter(torch.empty(rows))
            self.gain_c = nn.Parameter(torch.empty(hidden_size))
            shift = nn.Parameter(torch.empty(hidden_size)) if bias else None
            self.register_parameter("shift_c", shift)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As every cell, but norms that only normalise."""
        super().reset_parameters()
        if self.layer_norm:
            for gain in (self.gain_ih, self.gain_hh, self.gain_c):
                nn.init.ones_(gain)
            if self.shift_c is not None:
                nn.init.zeros_(self.shift_c)

    def project(self, x: Tensor) -> Tensor:
        # A norm of the whole sequence would be a second pass over memory: it goes with the update,
        # and b, which is added after it.
        bias = None if self.layer_norm else self._bias()
        return functional.linear(x, self.weight_ih, bias)  # (T, B, I) -> (T, B, GH)

    def _bias(self) -> Tensor | None:
        if self.bias_ih is None or self.bias_hh is None:
            return None
        return self.bias_ih + self.bias_hh

    def prepare(self) -> tuple[Stage[LSTMState], ...]:
        params: list[Tensor] = []  # in the order in which _update takes them
        bias = self._bias()
        if self.layer_norm:
            params += [self.gain_ih, *([] if bias is None else [bias]), self.gain_hh]
        if self.peephole:
            params.append(self.peephole_f)
            if not self.coupled:
                params.append(self.peephole_i)
            params.append(self.peephole_o)
        if self.layer_norm:
            params.append(self.gain_c)
            if self.shift_c is not None:
                params.append(self.shift_c)
        update = partial(_update, self.peephole, self.layer_norm, self.coupled, bias is not None)
        return (Stage(Dense(self.weight_hh), update, params=tuple(params)),)

    def initial_state(self, batch_size: int, like: Tensor) -> LSTMState:
        shape = (batch_size, self.hidden_size)
        return LSTMState(like.new_zeros(shape), like.new_zeros(shape))

    def extra_repr(self) -> str:
        names = ("peephole", "layer_norm", "coupled")
        return ", ".join((super().extra_repr(), *(n for n in names if getattr(self, n))))
