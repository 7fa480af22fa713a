"""The cells under test: every configs/model/cell/*.yaml, and each choice its arguments offer."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import yaml
from hydra.utils import get_class
from torch import Tensor

from seqmodels.cells import Cell
from seqmodels.engines import ENGINES
from seqmodels.engines.kernels.build import compiler

CONFIGS = Path(__file__).parents[1] / "configs" / "model" / "cell"
INPUT, HIDDEN = 3, 5
# Arguments that fit as few units as the tests have.
FEW_UNITS: dict[str, dict[str, Any]] = {
    "clockwork": {"periods": [1, 3]},
    "delay": {"lags": [1, 2, 4]},
    "lmu": {"order": 3},
    "reservoir": {"density": 0.6, "bias_scaling": 0.3, "leak": 0.7},
}
# Arguments that decide which numbers the weights are, and nothing of the equation.
ONLY_DRAWN = {"topology", "distribution", "input_distribution"}


class Case(typing.NamedTuple):
    """One cell with one setting of its arguments."""

    name: str
    kind: type[Cell[Any]]
    arguments: dict[str, Any]

    def make(self, input_size: int = INPUT, hidden_size: int = HIDDEN, seed: int = 0) -> Cell[Any]:
        torch.manual_seed(seed)
        cell: Any = self.kind
        return cell(input_size, hidden_size, **self.arguments).double()


def _variants(annotation: Any, value: Any) -> list[Any]:
    if annotation is bool:
        return [not value]
    if get_origin(annotation) is Literal:
        return [other for other in get_args(annotation) if other != value]
    return []


def _made(value: Any) -> Any:
    """A factory where the value is a node that describes one, such as an inner cell."""
    if not isinstance(value, dict) or not value.get("_partial_"):
        return value
    given = {k: v for k, v in value.items() if not k.startswith("_")}
    return partial(get_class(value["_target_"]), **given)


def _cases() -> list[Case]:
    cases = []
    for path in sorted(CONFIGS.glob("*.yaml")):
        arguments = yaml.safe_load(path.read_text(encoding="utf-8"))
        target, _ = arguments.pop("_target_"), arguments.pop("_partial_")
        arguments = {key: _made(value) for key, value in arguments.items()}
        arguments |= FEW_UNITS.get(path.stem, {})
        if target == "???":  # a third party's
            continue
        kind = get_class(target)
        cases.append(Case(path.stem, kind, arguments))
        hints = typing.get_type_hints(kind.__init__)
        for name in inspect.signature(kind).parameters:
            if name in ONLY_DRAWN:
                continue
            for other in _variants(hints[name], arguments.get(name)):
                label = f"{path.stem}-{name}={other}"
                cases.append(Case(label, kind, {**arguments, name: other}))
    return cases


CASES = _cases()
each_cell = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_trained_cell = pytest.mark.parametrize(
    "case",
    [case for case in CASES if any(True for _ in case.make().parameters())],
    ids=lambda case: case.name,
)


# Cells that no kernel can be printed for.
UNPRINTABLE: set[str] = set()


def able(case: Case) -> list[str]:
    """The engines that run this cell."""
    cell = case.make()
    x = torch.zeros(1, 1, INPUT, dtype=torch.float64)

    def runs(name: str) -> bool:
        if name == "generated":  # to ask it is to build its kernel
            return compiler() is not None and case.name not in UNPRINTABLE
        return ENGINES[name].why_not(cell, x, None, None) is None

    return [name for name in ENGINES if runs(name)]


PAIRS = [(case, engine) for case in CASES for engine in able(case)]
each_pair = pytest.mark.parametrize(
    ("case", "engine"), PAIRS, ids=[f"{case.name}:{engine}" for case, engine in PAIRS]
)


def sequence(steps: int = 7, batch: int = 4, size: int = INPUT, seed: int = 1) -> Tensor:
    """x (T, B, I), float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(steps, batch, size, generator=generator, dtype=torch.float64)


def random_state(cell: Cell[Any], batch: int = 4, seed: int = 2) -> Any:
    """A state that is not the initial one."""
    generator = torch.Generator().manual_seed(seed)
    template = cell.initial_state(batch, torch.zeros((), dtype=torch.float64))
    fields = [torch.rand(f.shape, generator=generator, dtype=f.dtype) - 0.5 for f in template]
    return type(template)(*fields)


def prefix(lengths: list[int], steps: int) -> Tensor:
    """keep (T, B): True on the first `length` steps."""
    return torch.arange(steps).unsqueeze(1) < torch.tensor(lengths)


def run(
    engine: str, cell: Cell[Any], x: Tensor, state: Any = None, keep: Tensor | None = None
) -> tuple[Tensor, Any]:
    """One call on the named engine, as `Recurrent` makes it."""
    assert ENGINES[engine].why_not(cell, x, state, keep) is None
    return ENGINES[engine](cell, x, state, keep=keep)


def gradients(
    call: Callable[..., tuple[Tensor, Any]], cell: Cell[Any], x: Tensor, state: Any, *rest: Any
) -> dict[str, Tensor]:
    """Outputs, last state and the gradient of a random sum of them to x, state and parameters."""
    x = x.detach().requires_grad_()
    if state is not None:
        state = type(state)(*(field.detach().requires_grad_() for field in state))
    y, last = call(cell, x, state, *rest)
    generator = torch.Generator().manual_seed(3)
    results = (y, *last)
    loss = sum(
        (r * torch.randn(r.shape, generator=generator, dtype=torch.float64)).sum() for r in results
    )
    names = [name for name, _ in cell.named_parameters()]
    wanted = [x, *(() if state is None else state), *cell.parameters()]
    labels = ["x", *(() if state is None else (f"state.{n}" for n in state._fields)), *names]
    # An output that the next step does not read is a field of the state without influence.
    grads = torch.autograd.grad(loss, wanted, materialize_grads=True)
    found = {"y": y, **{f"last.{n}": f for n, f in zip(last._fields, last, strict=True)}}
    found |= {f"grad {label}": grad for label, grad in zip(labels, grads, strict=True)}
    return {name: tensor.detach() for name, tensor in found.items()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(
            found[name],
            expected[name],
            rtol=1e-9,
            atol=1e-11,
            msg=lambda text, name=name: f"{name}: {text}",
        )
