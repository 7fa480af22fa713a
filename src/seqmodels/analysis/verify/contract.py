"""What a cell promises before any number is looked at: types, shapes, purity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.analysis.verify.subject import RefutedError, Subject, named
from seqmodels.cells import Cell, Stage
from seqmodels.scan import scan

STEPS, BATCH = 4, 2


def expect(condition: bool, wanted: str, came: Any) -> None:
    """Raises RefutedError with what was expected and what came."""
    if not condition:
        raise RefutedError(f"expected {wanted}, got {came}")


def contract(subject: Subject) -> str:
    """Sizes, the shapes and dtypes of every part, and the form of the state."""
    cell = subject.cell()
    sizes = (cell.input_size, cell.hidden_size)
    asked = (subject.input_size, subject.hidden_size)
    expect(sizes == asked, f"(input_size, hidden_size) = {asked}", sizes)
    x = subject.sequence(STEPS, BATCH)
    state = cell.initial_state(BATCH, x)
    _state(cell, state, "initial_state", None)
    gates_x = cell.project(x)
    expect(
        isinstance(gates_x, Tensor) and gates_x.dim() >= 3 and gates_x.shape[:2] == x.shape[:2],
        f"project(x) of shape (T, B, G) = ({STEPS}, {BATCH}, ·)",
        tuple(gates_x.shape) if isinstance(gates_x, Tensor) else type(gates_x).__name__,
    )
    expect(gates_x.dtype == x.dtype, f"project(x) of {x.dtype}", gates_x.dtype)
    _stages(cell, gates_x[0], state)
    y, last = scan(cell, x)
    width = cell.output_size
    expect(
        tuple(y.shape) == (STEPS, BATCH, width),
        f"outputs (T, B, output_size) = {(STEPS, BATCH, width)}",
        tuple(y.shape),
    )
    expect(y.dtype == x.dtype, f"outputs of {x.dtype}", y.dtype)
    _state(cell, last, "the last state", state)
    fields = ", ".join(f"{n} {tuple(f.shape)}" for n, f in zip(state._fields, state, strict=True))
    return f"state {fields}; y {tuple(y.shape)} from x {tuple(x.shape)}"


def _state(cell: Cell[Any], state: Any, where: str, first: Any) -> None:
    fields = getattr(state, "_fields", None)
    expect(
        isinstance(state, tuple) and fields is not None,
        f"{where}: a NamedTuple of tensors",
        type(state).__name__,
    )
    fields = tuple(fields or ())
    expect(bool(fields) and fields[0] == "h", f"{where}: h as its first field", fields)
    for name, field in zip(state._fields, state, strict=True):
        expect(isinstance(field, Tensor), f"{where}: {name} a tensor", type(field).__name__)
        expect(
            field.dim() >= 1 and field.shape[0] == BATCH,
            f"{where}: {name} with the batch first, ({BATCH}, ·)",
            tuple(field.shape),
        )
        if field.is_floating_point():
            expect(
                field.dtype == torch.float64,
                f"{where}: {name} of the dtype of x, torch.float64",
                field.dtype,
            )
    expect(
        tuple(state[0].shape) == (BATCH, cell.output_size),
        f"{where}: h (B, output_size) = {(BATCH, cell.output_size)}",
        tuple(state[0].shape),
    )
    if first is not None:
        expect(type(state) is type(first), f"{where}: a {type(first).__name__}", type(state))
        for name, field, before in zip(first._fields, state, first, strict=True):
            expect(
                field.shape == before.shape and field.dtype == before.dtype,
                f"{where}: {name} {tuple(before.shape)} of {before.dtype} as at first",
                f"{tuple(field.shape)} of {field.dtype}",
            )


def _stages(cell: Cell[Any], gates_x: Tensor, state: Any) -> None:
    stages = cell.prepare()
    expect(
        isinstance(stages, tuple) and bool(stages) and all(isinstance(s, Stage) for s in stages),
        "prepare() to give a tuple of at least one Stage",
        type(stages).__name__,
    )
    for number, stage in enumerate(stages):
        unknown = [name for name in stage.reads if name not in state._fields]
        expect(not unknown, f"stage {number}: reads out of {state._fields}", unknown)
        read = torch.cat([getattr(state, name) for name in stage.reads], dim=-1)
        gates_h = stage.operator.apply(read)
        expect(
            gates_h.dim() >= 2 and gates_h.shape[0] == BATCH,
            f"stage {number}: operator.apply to give ({BATCH}, ·)",
            tuple(gates_h.shape),
        )
        state = stage.update(gates_x, gates_h, state, *stage.params)
        _state(cell, state, f"stage {number}: the update's state", state)


def no_state_in_the_module(subject: Subject) -> str:
    """A call leaves nothing behind: no tensor in the module, no influence on the next call."""
    cell = subject.cell()
    x, other = subject.sequence(), subject.sequence(seed=9)
    first = named(*scan(cell, x))
    before = _tensors(cell)
    values = {name: tensor.clone() for name, tensor in before.items()}
    scan(cell, other)
    after = _tensors(cell)
    new = [n for n, t in after.items() if n not in before or t is not before[n]]
    expect(not new, "a call to leave no tensor in the module", f"a new {', '.join(new[:3])}")
    changed = [n for n, v in values.items() if not torch.equal(after[n], v)]
    expect(
        not changed, "a call to change nothing in the module", f"a changed {', '.join(changed[:3])}"
    )
    again = named(*scan(cell, x))
    for name, tensor in first.items():
        expect(
            torch.equal(again[name], tensor),
            f"the same {name} from a second call with the same input",
            "others: something of a call stays behind",
        )
    return "the same call twice gives the same bits"


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Every tensor that a module holds: parameters, buffers, and attributes of any depth."""
    found: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        for name, value in {**vars(part), **part._parameters, **part._buffers}.items():
            if name not in ("_parameters", "_buffers", "_modules"):
                _collect(f"{path}.{name}" if path else name, value, found)
    return found


def _collect(name: str, value: Any, found: dict[str, Tensor]) -> None:
    if isinstance(value, Tensor):
        found[name] = value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _collect(f"{name}[{index}]", item, found)
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(f"{name}[{key!r}]", item, found)
