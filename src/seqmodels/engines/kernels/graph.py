"""An update, or its gradient, traced for one row into a small graph of elementwise operations.

The row is traced with batch size 1, so every shape is known, and whatever only moves elements
(views, slices, concatenations, padding) becomes a table of indices: the operation itself is run on
the numbers of the elements, so that no layout needs code of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqmodels.engines.kernels.operations import FILLS, MOVES, POINTWISE, REDUCTIONS, SAME

Indices = np.ndarray[Any, np.dtype[np.int64]]


class NotPrintable(ValueError):
    """An update does something that a kernel of one row cannot be printed for; says what."""


@dataclass(frozen=True, eq=False)
class Node:
    """A tensor of one row: `size` elements in row-major order of `shape`."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Input(Node):
    """An argument of the traced function."""

    number: int


@dataclass(frozen=True, eq=False)
class Constant(Node):
    """One number at every place."""

    value: float | bool


@dataclass(frozen=True, eq=False)
class Pointwise(Node):
    """An operation of the table in `pointwise`, element by element, arguments broadcast."""

    op: str
    args: tuple[Node, ...]
    boolean: bool = False

    def places(self, argument: int, at: Indices) -> Indices:
        """Where the argument is read for the elements `at` of the result."""
        shape = self.args[argument].shape
        numbers = np.arange(self.args[argument].size).reshape(shape)
        return np.broadcast_to(numbers, self.shape).reshape(-1)[at]


@dataclass(frozen=True, eq=False)
class Moved(Node):
    """Element k is element place[k] of args[source[k]]."""

    args: tuple[Node, ...]
    source: Indices
    place: Indices


@dataclass(frozen=True, eq=False)
class Reduced(Node):
    """Element k is the sum or the largest of the elements members[k] of the argument."""

    op: str  # sum | max | min
    arg: Node
    members: Indices  # (size, how many)


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    from torch._decomp import core_aten_decompositions, get_decompositions

    aten = torch.ops.aten
    table = dict(core_aten_decompositions())
    wanted = [
        aten.native_layer_norm, aten.native_group_norm, aten._softmax, aten._log_softmax,
        aten.gelu, aten.silu, aten.elu, aten.leaky_relu, aten.softplus, aten.log_sigmoid_forward,
        aten.var, aten.var_mean, aten.mean, aten.std, aten.hardtanh, aten.hardsigmoid,
    ]  # fmt: skip
    table.update(get_decompositions(wanted))
    return table


def trace(function: Callable[..., tuple[Tensor, ...]], args: Sequence[Tensor]) -> list[Node]:
    """The graph of `function(*args)`, one node for each tensor that it returns.

    Raises:
        NotPrintable: there is an operation that is neither elementwise, nor a move of elements, nor
            a reduction over some of them.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(function, decomposition_table=_decompositions())(*args)
    # It would keep what an operation in place writes to, and drops what nobody reads.
    traced.graph.eliminate_dead_code()
    return _Reader(traced).read()


def _key(node: Node) -> Any:
    """Equal for nodes with equal values."""
    values = (getattr(node, name) for name in node.__dataclass_fields__)
    return (type(node), *(v.tobytes() if isinstance(v, np.ndarray) else v for v in values))


class _Reader:
    def __init__(self, traced: Any) -> None:
        self._traced = traced
        self._known: dict[Any, Any] = {}
        self._made: dict[Any, Node] = {}

    def _one(self, node: Node) -> Node:
        """The node that has this value already, so that nothing is computed twice."""
        return self._made.setdefault(_key(node), node)

    def read(self) -> list[Node]:
        inputs = 0
        for fx in self._traced.graph.nodes:
            if fx.op == "placeholder":
                self._known[fx] = Input(tuple(fx.meta["val"].shape), inputs)
                inputs += 1
            elif fx.op == "get_attr":
                self._known[fx] = self._constant(getattr(self._traced, fx.target))
            elif fx.op == "output":
                results = fx.args[0]
                return [self._node(r) for r in results]
            else:
                self._known[fx] = self._call(fx)
        raise AssertionError("a graph ends with its output")

    def _node(self, fx: Any) -> Any:
        if isinstance(fx, torch.fx.Node):
            return self._known[fx]
        if isinstance(fx, bool | int | float):
            return self._one(Constant((), fx))
        raise NotPrintable(f"it uses {fx!r} where a tensor or a number was expected")

    def _constant(self, tensor: Tensor) -> Node:
        if tensor.numel() == 1:
            return self._one(Constant(tuple(tensor.shape), tensor.item()))
        parts = tuple(self._one(Constant((), value)) for value in tensor.flatten().tolist())
        numbers = np.arange(len(parts))
        return self._one(Moved(tuple(tensor.shape), parts, numbers, np.zeros_like(numbers)))

    def _call(self, fx: Any) -> Any:
        if fx.target is operator.getitem:
            return self._known[fx.args[0]][fx.args[1]]
        name = str(fx.target).removeprefix("aten.").removeprefix("prims.")
        base = name.split(".")[0]
        shape = _shape(fx.meta["val"])
        if base in FILLS:
            return self._filled(fx, base, shape)
        if base in SAME:
            return self._node(fx.args[0])
        if base == "copy_":
            return self._overwritten(fx, self._node(fx.args[1]))
        if base in MOVES:
            return self._moved(fx)
        if base in REDUCTIONS:
            return self._reduced(fx, base, shape)
        in_place = base.endswith("_") and not base.startswith("_")
        if base.rstrip("_") in POINTWISE and "out" not in fx.kwargs:
            node = self._pointwise(fx, base.rstrip("_"), shape)
            return self._overwritten(fx, node) if in_place else node
        raise NotPrintable(
            f"its update uses {fx.target}, and a kernel can be printed only of elementwise "
            "operations, of moves of elements within a row and of sums over it"
        )

    def _overwritten(self, fx: Any, value: Node) -> Node:
        if isinstance(self._known[fx.args[0]], Moved | Input):
            raise NotPrintable(f"its update writes into a tensor in place ({fx.target})")
        if value.shape != self._known[fx.args[0]].shape:
            raise NotPrintable(f"its update broadcasts into a tensor in place ({fx.target})")
        self._known[fx.args[0]] = value
        return value

    def _filled(self, fx: Any, base: str, shape: tuple[int, ...]) -> Node:
        if "zeros" in base or "empty" in base:
            return self._one(Constant(shape, 0.0))
        if "ones" in base:
            return self._one(Constant(shape, 1.0))
        value = fx.args[0] if base == "scalar_tensor" else fx.args[-1]
        if not isinstance(value, bool | int | float):
            raise NotPrintable(f"{fx.target} is filled with {value!r}")
        return self._one(Constant(shape, value))

    def _pointwise(self, fx: Any, base: str, shape: tuple[int, ...]) -> Node:
        args: list[Node] = [
            self._node(a) for a in fx.args if not isinstance(a, torch.dtype) and a is not None
        ]
        boolean = fx.meta["val"].dtype == torch.bool
        if base in ("add", "sub", "rsub") and fx.kwargs.get("alpha", 1) != 1:
            scale = self._one(Constant((), fx.kwargs["alpha"]))
            args[1] = self._one(Pointwise(args[1].shape, "mul", (args[1], scale)))
        if base == "clamp":
            low = fx.args[1] if len(fx.args) > 1 else fx.kwargs.get("min")
            high = fx.args[2] if len(fx.args) > 2 else fx.kwargs.get("max")
            node: Node = args[0]
            if low is not None:
                node = self._one(Pointwise(shape, "clamp_min", (node, self._node(low))))
            if high is not None:
                node = self._one(Pointwise(shape, "clamp_max", (node, self._node(high))))
            return node
        if base == "threshold_backward":
            above = self._one(Pointwise(shape, "gt", (args[1], args[2]), True))
            return self._one(
                Pointwise(shape, "where", (above, args[0], self._one(Constant((), 0.0))))
            )
        if base == "pow":
            return self._power(shape, args[0], args[1])
        if base == "rsub":
            args, base = [args[1], args[0]], "sub"
        if len(args) != POINTWISE[base].count("{"):
            raise NotPrintable(f"its update uses {fx.target} with the arguments {fx.args}")
        return self._one(Pointwise(shape, base, tuple(args), boolean))

    def _moved(self, fx: Any) -> Any:
        """Run the operation on the numbers of the elements, counted through all arguments."""
        sources: list[Node] = []
        first: list[int] = []

        def numbered(value: Any) -> Any:
            if isinstance(value, torch.fx.Node):
                node = self._known[value]
                start = first[-1] + sources[-1].size if sources else 0
                sources.append(node)
                first.append(start)
                return torch.arange(start, start + node.size).reshape(node.shape)
            if isinstance(value, list | tuple):
                return type(value)(numbered(v) for v in value)
            return value

        args = [numbered(a) for a in fx.args]
        if "constant_pad_nd" in str(fx.target):
            # The padding is a number of its own, one past the last element.
            fill = args[2] if len(args) > 2 else 0.0
            args = [args[0], args[1], sources[0].size]
            sources.append(self._one(Constant((1,), fill)))
            first.append(sources[0].size)
        if fx.target is torch.ops.aten.slice_backward.default:
            return self._inverse_slice(fx, args, sources)
        kwargs = {k: v for k, v in fx.kwargs.items() if k not in ("dtype", "memory_format")}
        result = fx.target(*args, **kwargs)

        def decoded(numbers: Tensor) -> Node:
            flat = numbers.reshape(-1).numpy().astype(np.int64)
            source = np.searchsorted(np.asarray(first), flat, side="right") - 1
            place = flat - np.asarray(first, dtype=np.int64)[source]
            return self._one(Moved(tuple(numbers.shape), tuple(sources), source, place))

        if isinstance(result, Tensor):
            return decoded(result)
        return [decoded(r) for r in result]

    def _inverse_slice(self, fx: Any, args: list[Any], sources: list[Node]) -> Node:
        whole = torch.zeros(args[1], dtype=torch.int64)
        whole[(slice(None),) * args[2] + (slice(args[3], args[4], args[5]),)] = args[0] + 1
        flat = whole.reshape(-1).numpy()
        zero = self._one(Constant((1,), 0.0))
        source = np.where(flat == 0, 1, 0)
        return self._one(
            Moved(tuple(whole.shape), (*sources, zero), source, np.maximum(flat - 1, 0))
        )

    def _reduced(self, fx: Any, base: str, shape: tuple[int, ...]) -> Node:
        arg = self._node(fx.args[0])
        dims = fx.args[1] if len(fx.args) > 1 and isinstance(fx.args[1], list | tuple) else []
        dims = [d % len(arg.shape) for d in dims] or list(range(len(arg.shape)))
        rest = [d for d in range(len(arg.shape)) if d not in dims]
        numbers = np.arange(arg.size).reshape(arg.shape).transpose([*rest, *dims])
        count = int(np.prod([arg.shape[d] for d in dims], dtype=np.int64))
        members = numbers.reshape(-1, count)
        op = {"amax": "max", "amin": "min", "max": "max", "min": "min"}.get(base, "sum")
        if base == "var":
            return self._variance(fx, arg, members, shape)
        if count == 1:
            return self._one(Moved(shape, (arg,), np.zeros(len(members), np.int64), members[:, 0]))
        node: Node = self._one(Reduced(shape, op, arg, members))
        if base == "mean":
            node = self._one(Pointwise(shape, "mul", (node, self._one(Constant((), 1.0 / count)))))
        return node

    def _variance(self, fx: Any, arg: Node, members: Indices, shape: tuple[int, ...]) -> Node:
        count = members.shape[1]
        correction = fx.args[2] if len(fx.args) > 2 else fx.kwargs.get("correction", 1)
        total: Node = self._one(Reduced((len(members),), "sum", arg, members))
        mean = self._one(
            Pointwise((len(members),), "mul", (total, self._one(Constant((), 1.0 / count))))
        )
        owner = np.empty(arg.size, np.int64)
        owner[members.reshape(-1)] = np.repeat(np.arange(len(members)), count)
        spread = self._one(Moved(arg.shape, (mean,), np.zeros(arg.size, np.int64), owner))
        apart = self._one(Pointwise(arg.shape, "sub", (arg, spread)))
        squares = self._one(Pointwise(arg.shape, "mul", (apart, apart)))
        summed = self._one(Reduced(shape, "sum", squares, members))
        return self._one(
            Pointwise(
                shape, "mul", (summed, self._one(Constant((), 1.0 / max(count - correction, 0))))
            )
        )

    def _power(self, shape: tuple[int, ...], base: Node, exponent: Node) -> Node:
        if isinstance(exponent, Constant) and exponent.value in (2, 3):
            square = self._one(Pointwise(shape, "mul", (base, base)))
            return (
                square
                if exponent.value == 2
                else self._one(Pointwise(shape, "mul", (square, base)))
            )
        if isinstance(exponent, Constant) and exponent.value == 1:
            return base
        if isinstance(exponent, Constant) and exponent.value in (0.5, -0.5, -1):
            name = {0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}[exponent.value]
            return self._one(Pointwise(shape, name, (base,)))
        return self._one(Pointwise(shape, "pow", (base, exponent)))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, Tensor) else ()
