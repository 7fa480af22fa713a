"""The cell under examination, its inputs, and how one check runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from seqmodels.cells import Cell
from seqmodels.scan import scan

CellFactory = Callable[[int, int], Cell[Any]]
Status = Literal["passed", "failed", "skipped", "measured"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: "passed", "failed", "skipped" (does not apply, and why) or "measured" (a figure
            without a judgement).
        detail: the figures; of a failed check what was expected and what came.
    """

    name: str
    status: Status
    detail: str


class RefutedError(Exception):
    """A property does not hold; the message says what was expected and what came."""


class NotApplicableError(Exception):
    """There is nothing to check, and why."""


class Measured(str):
    """The detail of a check that judges nothing."""


@dataclass(frozen=True)
class Subject:
    """A factory of cells and the small sizes that it is examined with."""

    factory: CellFactory
    input_size: int
    hidden_size: int
    seed: int = 0

    def cell(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Cell[Any]:
        """A fresh cell in evaluation mode: nothing is drawn at random within it."""
        with seeded(self.seed + seed):
            cell = self.factory(self.input_size, self.hidden_size)
        if not isinstance(cell, Cell):
            raise RefutedError(
                f"expected a seqmodels.cells.Cell from the factory, got {type(cell).__name__}"
            )
        return cell.to(dtype).eval()

    def sequence(
        self, steps: int = 7, batch: int = 4, dtype: torch.dtype = torch.float64, seed: int = 1
    ) -> Tensor:
        """x (T, B, I)."""
        generator = torch.Generator().manual_seed(self.seed + seed)
        shape = (steps, batch, self.input_size)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def state(self, cell: Cell[Any], batch: int = 4, seed: int = 2) -> Any:
        """A state that the cell comes to by itself, so that it is in every field's range."""
        dtype = cell.like().dtype
        with torch.no_grad():
            _, state = scan(cell, self.sequence(3, batch, dtype, seed))
        return fresh(state)


Body = Callable[[Subject], str]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers that depend on the seed alone; the caller's generator is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def perform(name: str, body: Body, subject: Subject) -> Check:
    """Run one check; whatever the cell raises becomes its failure."""
    try:
        with seeded(subject.seed):
            detail = body(subject)
    except NotApplicableError as error:
        return Check(name, "skipped", str(error))
    except RefutedError as error:
        return Check(name, "failed", str(error))
    except Exception as error:
        return Check(name, "failed", f"expected it to run, got {brief(error)}")
    return Check(name, "measured" if isinstance(detail, Measured) else "passed", str(detail))


def brief(error: BaseException) -> str:
    """The type and the first lines of a message."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}" if lines else type(error).__name__


def fresh(state: Any, *, requires_grad: bool = False) -> Any:
    """The same values without their history."""
    fields = [field.detach().clone() for field in state]
    if requires_grad:
        fields = [f.requires_grad_() if f.is_floating_point() else f for f in fields]
    return type(state)(*fields)


def floats(tensors: Any) -> list[Tensor]:
    """Those of the tensors that can have a gradient."""
    return [t for t in tensors if t.is_floating_point()]


def trained(cell: Cell[Any]) -> dict[str, Tensor]:
    """The parameters that take part in training."""
    return {name: p for name, p in cell.named_parameters() if p.requires_grad}


def error_between(found: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value expected; infinite where either is not."""
    if found.shape != expected.shape:
        raise RefutedError(f"expected shape {tuple(expected.shape)}, got {tuple(found.shape)}")
    found, expected = found.detach().double(), expected.detach().double()
    if not (bool(found.isfinite().all()) and bool(expected.isfinite().all())):
        return float("inf")
    if not found.numel():
        return 0.0
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    return difference / largest if largest > 0 else difference


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], limit: float) -> float:
    """The largest relative error of named tensors.

    Raises:
        RefutedError: it is beyond the limit; names the tensor.
    """
    worst, where = 0.0, ""
    for name, tensor in expected.items():
        error = error_between(found[name], tensor)
        if not error <= worst:
            worst, where = error, name
    if not worst <= limit:
        raise RefutedError(
            f"{where}: expected a relative error of at most {limit:.0e}, got {worst:.2g}"
        )
    return worst


def named(y: Tensor, last: Any) -> dict[str, Tensor]:
    """Outputs and last state under their names."""
    return {"outputs": y, **{f"last {n}": f for n, f in zip(last._fields, last, strict=True)}}


def with_gradients(
    call: Callable[..., tuple[Tensor, Any]], cell: Cell[Any], x: Tensor, state: Any = None
) -> dict[str, Tensor]:
    """Outputs, last state, and the gradients of a random sum of them to all that goes in.

    Args:
        call: (cell, x, state) -> (y, last state).
    """
    x = x.detach().clone().requires_grad_()
    state = None if state is None else fresh(state, requires_grad=True)
    y, last = call(cell, x, state)
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros((), dtype=x.dtype)
    for result in (y, *floats(last)):
        weights = torch.randn(result.shape, generator=generator, dtype=torch.float64)
        total = total + (result * weights.to(result.dtype)).sum()
    sources = {"gradient of x": x}
    if state is not None:
        fields = zip(state._fields, state, strict=True)
        sources |= {f"gradient of state.{n}": f for n, f in fields if f.requires_grad}
    sources |= {f"gradient of {name}": p for name, p in trained(cell).items()}
    grads = torch.autograd.grad(
        total, list(sources.values()), allow_unused=True, materialize_grads=True
    )
    found = named(y, last) | dict(zip(sources, grads, strict=True))
    return {name: tensor.detach() for name, tensor in found.items()}
