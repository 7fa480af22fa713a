"""A cell's stages as C++: what of them depends on time goes into loops.h, the rest is printed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqmodels.cells import Dense, Neighbours, Stage
from seqmodels.cells.operators import BlockDiagonal
from seqmodels.cells.past import Lagged
from seqmodels.engines.kernels.graph import Input, Moved, Node, NotPrintable, Pointwise, trace
from seqmodels.engines.kernels.printer import Target, row_function

Tensors = tuple[Tensor, ...]


class Block(NamedTuple):
    """A product with a part of the matrix: rows of the result, columns of one field.

    matrix: where the part begins; first: whether nothing was written to these rows before; lag: how
    many steps ago the output is that it reads, 0 for the field as it is; shift: how many rows of
    the batch further on the row is that a row reads.
    """

    field: int
    column: int
    columns: int
    row: int
    rows: int
    matrix: int
    first: bool
    lag: int = 0
    shift: int = 0


@dataclass(frozen=True)
class StageLayout:
    """What the loops need to know of a stage.

    Attributes:
        recur: width of its product, 0 where the operator is printed with the update.
        reads: numbers of the fields that the product reads.
        lags: how many steps ago the outputs are that it reads after them.
        blocks: the products that it consists of.
        row: length of a row of the matrix.
        summed: whether the update reads nothing of gates_x and gates_h but their sum.
        params: sizes of what the update reads beside: the operator's weights where it is printed
            with the update, then the stage's params.
        changes: which fields the stage changes.
    """

    recur: int
    reads: tuple[int, ...]
    lags: tuple[int, ...]
    blocks: tuple[Block, ...]
    row: int
    summed: bool
    params: tuple[int, ...]
    changes: tuple[bool, ...]


@dataclass(frozen=True)
class Source:
    """The text of a kernel and the layout of its arguments."""

    text: str
    gates: int
    widths: tuple[int, ...]
    stages: tuple[StageLayout, ...]
    together: int = 1  # rows of the batch that read each other

    @property
    def most_params(self) -> int:
        return max(1, *(len(s.params) for s in self.stages), 1)

    def last(self, stage: int, field: int) -> bool:
        """Whether the stage is the last one that changes the field."""
        return self.stages[stage].changes[field] and not any(
            s.changes[field] for s in self.stages[stage + 1 :]
        )


_PRODUCTS = (Dense, BlockDiagonal, Lagged, Neighbours)


def is_product(stage: Stage[Any]) -> bool:
    """Whether the loops run its operator, as products with parts of a matrix."""
    return type(stage.operator) in _PRODUCTS


def printed_with_update(stage: Stage[Any]) -> Tensors:
    """The operator's weights where the operator is no product over units, else nothing."""
    return () if is_product(stage) else tuple(stage.operator.weights)


def _blocks(
    operator: Any, reads: tuple[int, ...], lags: tuple[int, ...], widths: list[int]
) -> tuple[Block, ...]:
    """The products of an operator whose argument is these fields, and outputs, side by side."""
    if isinstance(operator, BlockDiagonal):
        return _heads(operator, reads, widths)
    if isinstance(operator, Lagged):
        return _parts(operator, reads, widths)
    if isinstance(operator, Neighbours):
        return _shifted(operator, reads, widths)
    rows, at, found = operator.weight.shape[0], 0, []
    for field in reads:
        found.append(Block(field, 0, widths[field], 0, rows, at, at == 0))
        at += widths[field]
    for lag in lags:
        found.append(Block(0, 0, widths[0], 0, rows, at, at == 0, lag))
        at += widths[0]
    return tuple(found)


def _parts(operator: Lagged, reads: tuple[int, ...], widths: list[int]) -> tuple[Block, ...]:
    """One product for each field, or part of one, that is read."""
    rows, at, found = operator.weight.shape[0], 0, []
    for first, width in operator.columns:
        begin = 0
        for field in reads:
            low, high = max(first, begin), min(first + width, begin + widths[field])
            if low < high:
                found.append(Block(field, low - begin, high - low, 0, rows, at, at == 0))
                at += high - low
            begin += widths[field]
    return tuple(found)


def _shifted(operator: Neighbours, reads: tuple[int, ...], widths: list[int]) -> tuple[Block, ...]:
    """One product for each offset. That of the row itself comes first, for it reaches all rows."""
    if len(reads) > 1:
        raise NotPrintable("its map of neighbours reads more than one field of the state")
    rows, width = operator.weight.shape[0], widths[reads[0]]
    numbers = sorted(range(len(operator.offsets)), key=lambda k: operator.offsets[k] != 0)
    return tuple(
        Block(reads[0], 0, width, 0, rows, k * width, place == 0, shift=operator.offsets[k])
        for place, k in enumerate(numbers)
    )


def _heads(operator: BlockDiagonal, reads: tuple[int, ...], widths: list[int]) -> tuple[Block, ...]:
    """One product for each gate of each head."""
    if len(reads) > 1:
        raise NotPrintable("its block-diagonal map reads more than one field of the state")
    rows, units = operator.weight.shape
    width = widths[reads[0]]
    return tuple(
        Block(reads[0], row % width, units, row, units, row * units, True)
        for row in range(0, rows, units)
    )


def make_source(stages: tuple[Stage[Any], ...], gates_x: Tensor, state: Any) -> Source:
    """Trace and print the kernel of these stages for rows like gates_x (1, G) and state (1, ·).

    Raises:
        NotPrintable: an update is not made of elementwise operations, moves and sums in a row.
    """
    gates_x = torch.zeros_like(gates_x)
    state = type(state)(*(torch.zeros_like(f) for f in state))
    with torch.no_grad():
        traced = [_Traced(n, s, gates_x, state) for n, s in enumerate(stages)]
        # What no stage changes the last one writes again: the next step looks for it there.
        for field in range(len(state)):
            if not any(t.changes[field] for t in traced):
                traced[-1].changes[field] = True
        texts = [t.printed(last=t is traced[-1]) for t in traced]
    layouts = [t.layout() for t in traced]
    widths = tuple(f.numel() for f in state)
    together = {s.operator.positions for s in stages if isinstance(s.operator, Neighbours)} or {1}
    if len(together) > 1:
        raise NotPrintable(f"its maps of neighbours go over lines of {sorted(together)} places")
    source = Source("", gates_x.numel(), widths, tuple(layouts), max(together))
    kind = {torch.float32: "float", torch.float64: "double"}[gates_x.dtype]
    text = "\n".join(
        [
            "#include <cmath>\n#include <cstdint>\n#include <cstdlib>\n#include <cstring>",
            f"#include <utility>\n#include <vector>\nusing T = {kind};",
            _resource("numbers.h"),
            *texts,
            _dispatch(len(stages)),
            _constants(source),
            _resource("loops.h"),
        ]
    )
    return replace(source, text=text)


def _resource(name: str) -> str:
    return resources.files("seqmodels.engines.kernels").joinpath(name).read_text("utf-8")


_FORWARD = (
    "const T* gates_x, const T* gates_h, const T* const* state, const T* const* params, "
    "T* const* next"
)
_BACKWARD = (
    "const T* gates_x, const T* gates_h, const T* const* state, const T* const* params, "
    "const T* const* grad_next, T* into_x, T* into_h, T* const* grad_state, T* const* sums"
)


def _dispatch(stages: int) -> str:
    lines = []
    for name, signature in (("forward", _FORWARD), ("backward", _BACKWARD)):
        names = ", ".join(part.split()[-1].lstrip("*") for part in signature.split(","))
        lines.append(f"static inline void {name}_row(int stage, {signature}) {{")
        lines.append("  switch (stage) {")
        lines += [f"    case {s}: return {name}_{s}({names});" for s in range(stages)]
        lines.append("  }\n}")
    return "\n".join(lines)


def _constants(source: Source) -> str:
    stages, fields = source.stages, range(len(source.widths))

    def row(values: Any) -> str:
        return "{" + ", ".join(str(int(v)) for v in values) + "}"

    def table(rows: Any) -> str:
        return "{" + ", ".join(row(r) for r in rows) + "}"

    def padded(values: tuple[int, ...], count: int) -> list[int]:
        return [*values, *[0] * (count - len(values))]

    most, blocks = source.most_params, max(1, *(len(s.blocks) for s in stages), 1)
    empty = Block(0, 0, 0, 0, 0, 0, False)
    last = [[source.last(s, f) for f in fields] for s in range(len(stages))]
    return "\n".join(
        [
            f"constexpr int FIELDS = {len(source.widths)}, STAGES = {len(stages)};",
            f"constexpr int MOST_PARAMS = {most};",
            f"constexpr int64_t TOGETHER = {source.together};",
            f"constexpr int64_t GATES = {source.gates}, OUTPUT = {source.widths[0]};",
            f"constexpr int64_t WIDTH[] = {row(source.widths)};",
            f"constexpr int64_t RECUR[] = {row(s.recur for s in stages)};",
            f"constexpr bool SUMMED[] = {row(s.summed for s in stages)};",
            "struct Block { int field, column, columns, row, rows; int64_t matrix; bool first; "
            "int lag, shift; };",
            f"constexpr int MOST_BLOCKS = {blocks};",
            f"constexpr int LD[] = {row(s.row for s in stages)};",
            f"constexpr int BLOCKS[] = {row(len(s.blocks) for s in stages)};",
            f"constexpr Block BLOCK[][{blocks}] = {{",
            *(f"  {table([*s.blocks, *[empty] * (blocks - len(s.blocks))])}," for s in stages),
            "};",
            f"constexpr int PARAMS[] = {row(len(s.params) for s in stages)};",
            f"constexpr int64_t SIZE[][{most}] = {table(padded(s.params, most) for s in stages)};",
            f"constexpr bool CHANGES[][FIELDS] = {table(s.changes for s in stages)};",
            f"constexpr bool LAST[][FIELDS] = {table(last)};",
        ]
    )


class _Traced:
    """One stage: what it changes is known when all are traced, and then they are printed."""

    def __init__(self, number: int, stage: Stage[Any], gates_x: Tensor, state: Any) -> None:
        self.number, self.stage, self.state = number, stage, state
        self.inside = printed_with_update(stage)
        self.reads = tuple(state._fields.index(name) for name in stage.reads)
        self.params = tuple(torch.zeros_like(p) for p in (*self.inside, *stage.params))
        self.dense = is_product(stage)
        self.recur = stage.operator.weights[0].shape[0] if self.dense else 0
        gates_h = gates_x.new_zeros(1, self.recur)
        given = (*state, *self.params)
        self.outputs = trace(self._apart, (gates_x, gates_h, *given))
        _check_shapes(self.outputs, state)
        # Of several stages each reads its own part of gates_x, which must stay as it is.
        self.summed = self.dense and number == 0 and _is_sum(self.outputs, gates_x, gates_h)
        self.gates = (gates_x, gates_h)
        # The state's numbers among the inputs: unchanged fields come out as they went in.
        self.changes = [
            not (isinstance(o, Input) and o.number == 2 + f) for f, o in enumerate(self.outputs)
        ]

    def layout(self) -> StageLayout:
        widths = [f.numel() for f in self.state]
        operator: Any = self.stage.operator
        return StageLayout(
            self.recur,
            self.reads if self.dense else (),
            self.stage.lags,
            _blocks(operator, self.reads, self.stage.lags, widths) if self.dense else (),
            operator.weight.shape[1] if self.dense else 0,
            self.summed,
            tuple(p.numel() for p in self.params),
            tuple(self.changes),
        )

    def printed(self, last: bool) -> str:
        """The functions that move one row forward and back."""
        self.summed = self.summed and last
        forward: Callable[..., Tensors] = self._together if self.summed else self._apart
        gates = self.gates[:1] if self.summed else self.gates
        given = (*self.state, *self.params)
        outputs = trace(forward, (*gates, *given)) if self.summed else self.outputs
        count = len(self.state)
        inputs = [
            "gates_h" if self.summed else "gates_x",
            *([] if self.summed else ["gates_h"]),
            *(f"state[{f}]" for f in range(count)),
            *(f"params[{p}]" for p in range(len(self.params))),
        ]
        targets = [Target(f"next[{f}]", o) for f, o in enumerate(outputs) if self.changes[f]]
        text = row_function(f"forward_{self.number}", _FORWARD, inputs, targets)

        def pull(*args: Tensor) -> Tensors:
            primals, cotangents = args[:-count], args[-count:]
            _, back = torch.func.vjp(forward, *primals)  # type: ignore[misc]
            found: Tensors = back(cotangents)
            return found

        # Tensors of their own: one passed twice would be traced as one.
        grads = trace(pull, (*gates, *given, *(f.clone() for f in self.state)))
        inputs += [f"grad_next[{f}]" for f in range(count)]
        targets = [Target("into_x", grads[0], "store" if last else "add")]
        if self.dense and not self.summed:
            targets.append(Target("into_h", grads[1]))
        rest = grads[len(gates) :]
        targets += [Target(f"grad_state[{f}]", rest[f]) for f in range(count)]
        targets += [Target(f"sums[{p}]", rest[count + p], "total") for p in range(len(self.params))]
        return text + row_function(f"backward_{self.number}", _BACKWARD, inputs, targets)

    def _apart(self, gates_x: Tensor, gates_h: Tensor, *rest: Tensor) -> Tensors:
        fields, values = rest[: len(self.state)], rest[len(self.state) :]
        if not self.dense:
            parts = [fields[r] for r in self.reads]
            read = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
            gates_h = _with_weights(self.stage.operator, self.inside, values).apply(read)
        kind = type(self.state)
        return tuple(
            self.stage.update(gates_x, gates_h, kind(*fields), *values[len(self.inside) :])
        )

    def _together(self, gates: Tensor, *rest: Tensor) -> Tensors:
        return self._apart(gates, torch.zeros_like(gates), *rest)


def _with_weights(operator: Any, weights: Tensors, values: Tensors) -> Any:
    """The same operator with traced tensors in place of its weights."""
    other = copy.copy(operator)
    for name, value in vars(operator).items():
        for weight, traced in zip(weights, values, strict=False):
            if value is weight:
                setattr(other, name, traced)
    return other


def _check_shapes(outputs: list[Node], state: Any) -> None:
    for name, output, field in zip(state._fields, outputs, state, strict=True):
        if output.shape != tuple(field.shape):
            raise NotPrintable(
                f"its update turns state.{name} of one row from {tuple(field.shape)} into "
                f"{output.shape}"
            )


def _is_sum(outputs: list[Node], gates_x: Tensor, gates_h: Tensor) -> bool:
    """Whether every use of gates_x and gates_h is the sum of the same elements of both."""
    if gates_x.shape != gates_h.shape:
        return False
    seen: dict[Node, bool] = {}

    def origin(node: Node) -> tuple[int, Any] | None:
        """Which of the two a node shows, and which elements of it."""
        if isinstance(node, Input):
            return (node.number, np.arange(node.size)) if node.number < 2 else None
        if not isinstance(node, Moved):
            return None
        found = [origin(node.args[s]) for s in sorted(set(node.source.tolist()))]
        if len(found) != 1 or found[0] is None:
            return None
        return found[0][0], found[0][1][node.place]

    def legal(node: Node) -> bool:
        if node not in seen:
            seen[node] = False if origin(node) is not None else _legal_inside(node)
        return seen[node]

    def _legal_inside(node: Node) -> bool:
        below: tuple[Node, ...] = getattr(node, "args", ())
        if isinstance(node, Pointwise) and node.op == "add":
            a, b = origin(node.args[0]), origin(node.args[1])
            if a is not None and b is not None:
                same = node.args[0].shape == node.args[1].shape and np.array_equal(a[1], b[1])
                return same and {a[0], b[0]} == {0, 1}
        if hasattr(node, "arg"):
            below = (node.arg,)
        return all(legal(b) for b in below)

    return all(legal(o) for o in outputs)
