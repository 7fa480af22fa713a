"""Cells that each break one promise, for the checks that must find it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell, Dense, Stage


class State(NamedTuple):
    h: Tensor  # (B, H)


def tanh(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    return State(torch.tanh(gates_x + gates_h))


class Good(Cell[State]):
    """s_t = tanh(W s_{t−1} + U x_t): keeps every promise."""

    def __init__(self, input_size: int, hidden_size: int, scale: float = 1.0) -> None:
        super().__init__(input_size, hidden_size)
        if scale <= 0:
            raise ValueError(f"expected scale > 0, got {scale}")
        self.scale = scale
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.reset_parameters()

    def project(self, x: Tensor) -> Tensor:
        return self.scale * x @ self.weight_ih.t()

    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), tanh),)

    def initial_state(self, batch_size: int, like: Tensor) -> State:
        return State(like.new_zeros(batch_size, self.hidden_size))


def _mix_rows(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    return State(torch.tanh(gates_x + gates_h - gates_h.mean(0, keepdim=True)))


class Leaks(Good):
    """The update sees the other rows of the batch."""

    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), _mix_rows),)


def _wrong_broadcast(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    """A number for each row is taken for one for each unit, unseen where B = H."""
    size = gates_x.mean(-1)  # (B)
    return State(torch.tanh(gates_x + gates_h + (size if len(size) == gates_x.shape[-1] else 0)))


class Broadcasts(Good):
    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), _wrong_broadcast),)


class SeesTheFuture(Good):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x.flip(0).cumsum(0).flip(0))


class SeesTheFutureQuietly(Good):
    """Without a gradient to show it."""

    def project(self, x: Tensor) -> Tensor:
        return super().project(x) + x.detach().sum(0, keepdim=True).mean(-1, keepdim=True)


def _forget(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    return State(torch.tanh(gates_x + gates_h * 0))


class IgnoresState(Good):
    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), _forget),)


class StartsAnew(Good):
    """The first step of every call begins anew, whatever state came in."""

    def project(self, x: Tensor) -> Tensor:
        first = torch.zeros_like(x[..., :1])
        first[0] = 100.0
        return torch.cat([super().project(x), first], dim=-1)

    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), _from_flag),)


def _from_flag(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    return State(torch.tanh(gates_x[..., :-1] + gates_h * (1 - gates_x[..., -1:] / 100)))


class KeepsState(Good):
    """What came before is kept in the module and added to what comes."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.last: Tensor | None = None

    def project(self, x: Tensor) -> Tensor:
        gates = super().project(x)
        if self.last is not None:
            gates = gates + self.last
        self.last = gates.detach().mean()
        return gates


class CountsCalls(Good):
    """A buffer that every call changes."""

    calls: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.register_buffer("calls", torch.zeros(()))

    def project(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().project(x)


def _detached(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    return State(torch.tanh(gates_x + gates_h.detach()))


class Detached(Good):
    """Nothing flows back through the recurrence."""

    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), _detached),)


class NoGradient(Good):
    """Nothing flows back at all."""

    def project(self, x: Tensor) -> Tensor:
        return super().project(x).detach()

    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh.detach()), tanh),)


class WrongBackward(Dense):
    """Right values, a wrong gradient of the weights: what only engines that use it can show."""

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(2 * g for g in super().weight_grads(h, grad))


class WrongOperator(Good):
    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(WrongBackward(self.weight_hh), tanh),)


def _too_wide(gates_x: Tensor, gates_h: Tensor, state: State) -> State:
    return State(torch.cat([torch.tanh(gates_x + gates_h), gates_x], dim=-1))


class WrongShapes(Good):
    def prepare(self) -> tuple[Stage[State], ...]:
        return (Stage(Dense(self.weight_hh), _too_wide),)


class WrongFirstField(Good):
    def initial_state(self, batch_size: int, like: Tensor) -> State:
        return State(like.new_zeros(batch_size, self.hidden_size + 1))


class WrongDtype(Good):
    def initial_state(self, batch_size: int, like: Tensor) -> State:
        return State(torch.zeros(batch_size, self.hidden_size))


class PlainTuple(Good):
    def initial_state(self, batch_size: int, like: Tensor) -> State:
        return (like.new_zeros(batch_size, self.hidden_size),)  # type: ignore[return-value]


class BatchFirst(Good):
    def project(self, x: Tensor) -> Tensor:
        return super().project(x).transpose(0, 1)


class Raises(Good):
    def project(self, x: Tensor) -> Tensor:
        raise RuntimeError("the projector\nis broken")


class Unsaved(Good):
    """A random part of the equation that no state_dict holds."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.shift = float(torch.randn(()))

    def project(self, x: Tensor) -> Tensor:
        return super().project(x) + self.shift


class ReadsPadding(Good):
    """NaN anywhere in the sequence is replaced by what the sequence's mean is, padding included."""

    def project(self, x: Tensor) -> Tensor:
        return super().project(x) - 0.1 * x.shape[0]
