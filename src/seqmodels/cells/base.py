"""What a recurrent cell is: an equation in three parts, without time, engines or layers.

    gates_x = project(x)                       all input work, once for the whole sequence
    gates_h = stage.operator.apply(h)          the one linear map of the recurrence
    state   = stage.update(gates_x_t, gates_h, state)       the equation, no products over units

Letters, here and everywhere: T time, B batch, I input size, H hidden size, G gates (the width of
all gates together). Sequences are time-major (T, B, ·) at this level.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from seqmodels.cells.operators import Operator

# A NamedTuple of tensors, each with the batch first; the first field is the output h (B, H).
S = TypeVar("S", bound=tuple[Tensor, ...])


@dataclass(frozen=True)
class Stage(Generic[S]):
    """One linear map and the update that uses its value. Most cells have one stage.

    Attributes:
        operator: the linear map, with the effective weights of this call.
        update: (gates_x (B, G), gates_h (B, ·), state, *params) -> state. Pure, row by row over B,
            no products over units: engines derive its gradient and fuse it.
        reads: the fields of the state that are concatenated as the operator's input. A later stage
            reads the state that the earlier one left.
        params: small tensors that `update` takes after the state (peepholes, leaks).
        lags: how many steps ago the outputs are that the operator reads after those fields. For
            engines alone (`seqmodels.cells.past.hold_past`).
    """

    operator: Operator
    update: Callable[..., S]
    reads: tuple[str, ...] = ("h",)
    params: tuple[Tensor, ...] = ()
    lags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Affine:
    """Fields of the state that move by s_t = a_t · s_{t-1} + b_t, unit by unit, at all steps.

    Attributes:
        fields: one field of the state, or two: the real and the imaginary part of a complex one.
        a: one tensor for each field, (T, B, H), or what broadcasts to it. |a| <= 1 keeps a scan
            over many steps stable.
        b: one tensor for each field, (T, B, H).
    """

    fields: tuple[str, ...]
    a: tuple[Tensor, ...]
    b: tuple[Tensor, ...]


class Cell(nn.Module, ABC, Generic[S]):
    """A recurrence s_t = f(x_t, s_{t-1}), written so that any engine can run it.

    Args:
        input_size: I >= 1, the width of x_t.
        hidden_size: H >= 1, the number of units.

    Attributes:
        output_size: the width of the output h_t; H unless a cell says otherwise.
        gates: names of the row blocks of `weight_ih` and `weight_hh`, in order.
        memory_gate: the gate that retains the past as its bias grows, if the cell has one.
        write_gate: the gate that lets new content in as its bias grows, if there is one apart.
        not_activations: fields of the state that are no activations of units, such as a clock:
            they are neither learned, nor zoned out.
        past_apart: whether an engine may hold the field `past` in its outputs: `update` leaves a
            `past` without width as it is.
        only_eager: why no engine but the eager one may run it; None: any may.
    """

    gates: tuple[str, ...] = ()
    memory_gate: str | None = None
    write_gate: str | None = None
    not_activations: tuple[str, ...] = ()
    past_apart: bool = False
    only_eager: str | None = None

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(
                    f"{type(self).__name__}: {name} must be a positive integer, got {size!r}"
                )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = hidden_size

    @property
    def places(self) -> int:
        """How many rows of the batch make one system: a linear map may read across them.

        One but for cells over the places of an image, whose rows stand one after the other.
        """
        return 1

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """All the work on the input that needs no state: (T, B, I) -> (T, B, G)."""

    @abstractmethod
    def prepare(self) -> tuple[Stage[S], ...]:
        """The stages of one time step with this call's effective weights; run once per call."""

    @abstractmethod
    def initial_state(self, batch_size: int, like: Tensor) -> S:
        """The state before the first step, (B, ·) a field, with the dtype and device of `like`."""

    def linear(self, gates_x: Tensor) -> tuple[Affine, ...] | None:
        """The first stage as linear recurrences, if that is what it is: (T, B, G) -> their a and b.

        A cell that says so runs on the engine `parallel`. It promises that the first stage changes
        these fields alone and as said, and that every later stage computes the other fields from
        gates_x and from fields that this step has set: nothing else is carried in time. None, as
        here: it is not linear. A class that overrides `prepare` says it anew.
        """
        return None

    def reset_parameters(self) -> None:
        """Every parameter uniform in ±1/√H, as torch.nn's recurrent modules do."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def check(self, x: Tensor, state: S | None, keep: Tensor | None) -> None:
        """Refuse what does not fit this cell, before broadcasting can make sense of it.

        Raises:
            ValueError: wrong shape, dtype or device of x (T, B, I), a state field, or keep (T, B).
        """
        name = type(self).__name__
        if x.dim() != 3 or x.shape[2] != self.input_size or x.shape[0] == 0 or x.shape[1] == 0:
            raise ValueError(
                f"{name} expected x of shape (T, B, {self.input_size}) with T, B >= 1, "
                f"got {tuple(x.shape)}"
            )
        weight = next(self._floats(), None)
        if weight is not None:
            if x.device != weight.device:
                raise ValueError(
                    f"{name} has its parameters on {weight.device} and x is on {x.device}: "
                    "move one of them with .to(...)"
                )
            if not x.is_floating_point() or (
                x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type)
            ):
                raise ValueError(
                    f"{name} has parameters of {weight.dtype} and x is of {x.dtype}: "
                    f"convert x.to({weight.dtype}) or the model"
                )
        if state is not None:
            self._check_state(x, state)
        if keep is not None and (
            keep.shape != x.shape[:2] or keep.dtype != torch.bool or keep.device != x.device
        ):
            raise ValueError(
                f"expected keep of shape (T, B) = {tuple(x.shape[:2])}, torch.bool on {x.device}, "
                f"got {tuple(keep.shape)}, {keep.dtype} on {keep.device}"
            )

    def _check_state(self, x: Tensor, state: S) -> None:
        name = type(self).__name__
        # One row is enough to know every field's width and dtype.
        template = self.initial_state(1, x)
        if type(state) is not type(template):
            raise ValueError(
                f"{name} expected a {type(template).__name__} as its state, "
                f"got a {type(state).__name__}"
            )
        fields: tuple[str, ...] = template._fields  # type: ignore[attr-defined]
        for field, came_field, row in zip(fields, state, template, strict=True):
            expected = (x.shape[1], *row.shape[1:])
            if (
                came_field.shape != expected
                or came_field.dtype != row.dtype
                or came_field.device != x.device
            ):
                raise ValueError(
                    f"{name} expected state.{field} of shape {expected}, {row.dtype} on {x.device} "
                    f"(x is {tuple(x.shape)}), got {tuple(came_field.shape)}, {came_field.dtype} "
                    f"on {came_field.device}"
                )

    def like(self) -> Tensor:
        """A tensor with the dtype and device of the cell: a parameter, a buffer, or a zero."""
        return next(self._floats(), torch.zeros(())).detach()

    def _floats(self) -> Iterator[Tensor]:
        tensors = itertools.chain(self.parameters(), self.buffers())
        return (t for t in tensors if t.is_floating_point())

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


def gated_parameters(cell: Cell[S], bias: bool) -> None:
    """Register weight_ih (G·H, I), weight_hh (G·H, H) and the two biases (G·H), torch's names.

    `bias=False` registers both biases as None, as torch.nn's modules leave them out.
    """
    rows = len(cell.gates) * cell.hidden_size
    cell.weight_ih = nn.Parameter(torch.empty(rows, cell.input_size))
    cell.weight_hh = nn.Parameter(torch.empty(rows, cell.hidden_size))
    cell.register_parameter("bias_ih", nn.Parameter(torch.empty(rows)) if bias else None)
    cell.register_parameter("bias_hh", nn.Parameter(torch.empty(rows)) if bias else None)
