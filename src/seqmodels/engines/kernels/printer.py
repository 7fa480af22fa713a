"""Graphs of one row printed as C++ functions: fused loops over the units, sums in passes before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqmodels.engines.kernels.graph import (
    Constant,
    Indices,
    Input,
    Moved,
    Node,
    Pointwise,
    Reduced,
)
from seqmodels.engines.kernels.operations import POINTWISE
from seqmodels.engines.kernels.pieces import Pieces, arguments

_STARTS = {"sum": "0", "max": "-INFINITY", "min": "INFINITY"}
_CHEAP = {"add", "sub", "mul", "neg", "maximum", "minimum", "where", "relu", "abs", "square"}


@dataclass(frozen=True)
class Target:
    """Where a result goes. store: it is written; add: to what is there."""

    name: str
    node: Node
    mode: str = "store"


def row_function(name: str, signature: str, inputs: Sequence[str], targets: list[Target]) -> str:
    """A C++ function that computes the targets of one row.

    Args:
        name, signature: of the function; the signature declares what inputs and targets name.
        inputs: a C++ expression of a pointer for each `Input`, by its number.
        targets: what to compute and where to put it.

    Raises:
        NotPrintable: the elements of a row are read in an order without long runs.
    """
    # Each pointer in a name of its own: within a loop the compiler would read it for every element.
    lines = [f"  const T* __restrict in{n} = {given};\n" for n, given in enumerate(inputs)]
    lines += [f"  T* __restrict out{n} = {t.name};\n" for n, t in enumerate(targets)]
    pointers = "".join(lines)
    inputs = [f"in{n}" for n in range(len(inputs))]
    targets = [replace(t, name=f"out{n}") for n, t in enumerate(targets)]
    # What one pass computes and a later one reads again is kept in a buffer of the row.
    first = _Row(inputs, targets, set())
    text = first.text()
    if first.repeated:
        tried = _Row(inputs, targets, first.repeated)
        tried.text()
        text = _Row(inputs, targets, tried.loaded).text()
    return f"static inline void {name}({signature}) {{\n{pointers}{text}}}\n"


class _Row:
    """One printing of a row, with a given set of values that are kept between its passes."""

    def __init__(self, inputs: Sequence[str], targets: list[Target], kept: set[Any]) -> None:
        self._inputs = inputs
        self._targets = targets
        self._kept = kept
        self._depths: dict[Node, int] = {}
        self._names: dict[Any, str] = {}
        self._scalars: dict[Any, str] = {}
        self._buffers: dict[Any, str] = {}
        self._passes: dict[Any, set[int]] = {}
        self._lines: list[str] = []
        self._pieces = Pieces()
        self._pass = 0
        self._count = 0
        self._loop: list[str] = []
        self._vars: dict[Any, tuple[str, bool]] = {}
        self.loaded: set[Any] = set()

    @property
    def repeated(self) -> set[Any]:
        """The values that more than one pass computes."""
        return {key for key, passes in self._passes.items() if len(passes) > 1}

    def text(self) -> str:
        reductions: dict[int, list[Reduced]] = {}
        for target in self._targets:
            self._depth(target.node)
        for node, depth in self._depths.items():
            if isinstance(node, Reduced):
                reductions.setdefault(depth, []).append(node)
        for depth in sorted(reductions):
            self._pass += 1
            self._reduce(reductions[depth])
        self._pass += 1
        self._store()
        return "".join(f"  {line}\n" for line in self._lines)

    def _depth(self, node: Node) -> int:
        if node not in self._depths:
            below = [self._depth(a) for a in arguments(node)]
            self._depths[node] = max(below, default=0) + isinstance(node, Reduced)
        return self._depths[node]

    # Passes.

    def _reduce(self, nodes: list[Reduced]) -> None:
        groups: dict[int, list[tuple[Reduced, int, Indices]]] = {}
        for node in nodes:
            name = self._names[node] = f"r{len(self._names)}"
            self._lines.append(f"T {name}[{node.size}];")
            self._lines.append(f"for (auto& value : {name}) value = T({_STARTS[node.op]});")
            for number, members in enumerate(node.members):
                for piece in self._pieces.of(node.arg, members):
                    for part in _strands(node, piece):
                        groups.setdefault(len(part), []).append((node, number, part))
        for length, pieces in groups.items():
            self._begin()
            totals: list[tuple[str, Reduced, int]] = []
            for node, number, piece in pieces:
                value, _ = self._value(node.arg, piece)
                totals.append((self._new("t"), node, number))
                self._loop.append(_joined(totals[-1][0], node.op, value))
            for total, node, _ in totals:
                self._lines.append(f"T {total} = T({_STARTS[node.op]});")
            sums = ",".join(total for total, node, _ in totals if node.op == "sum")
            plain = any(node.op != "sum" for _, node, _ in totals)
            clause = "" if plain else f"simd reduction(+:{sums})"
            self._end(length, clause)
            for total, node, number in totals:
                self._lines.append(_joined(f"{self._names[node]}[{number}]", node.op, total))

    def _store(self) -> None:
        groups: dict[int, list[tuple[Target, int, Indices]]] = {}
        for target in self._targets:
            at = 0
            for piece in self._pieces.of(target.node, np.arange(target.node.size)):
                groups.setdefault(len(piece), []).append((target, at, piece))
                at += len(piece)
        for length, pieces in groups.items():
            self._begin()
            for target, at, piece in pieces:
                value, _ = self._value(target.node, piece)
                place = f"{target.name}[{at} + j]" if length > 1 else f"{target.name}[{at}]"
                if target.mode == "store":
                    self._loop.append(f"{place} = {value};")
                elif value != "T(0.0)":
                    self._loop.append(f"{place} += {value};")
            self._end(length, "simd")

    def _begin(self) -> None:
        self._loop, self._vars = [], {}

    def _end(self, length: int, clause: str) -> None:
        if length == 1:
            self._lines += ["{", *(f"  {line}" for line in self._loop), "}"]
            return
        if clause:
            self._lines.append(f"#pragma omp {clause}")
        self._lines.append(f"for (int64_t j = 0; j < {length}; ++j) {{")
        self._lines += [*(f"  {line}" for line in self._loop), "}"]

    # Values: an expression for one piece, and whether it is the same for all its elements.

    def _value(self, node: Node, at: Indices) -> tuple[str, bool]:
        if isinstance(node, Constant):
            return _literal(node.value), True
        if isinstance(node, Moved):
            return self._value(node.args[node.source[at[0]]], node.place[at])
        fixed = len(at) == 1 or bool(at[1] == at[0])
        start = int(at[0])
        if fixed:
            at = at[:1]
        place = f"{start}" if fixed else f"{start} + j"
        if isinstance(node, Input):
            return f"{self._inputs[node.number]}[{place}]", fixed
        if isinstance(node, Reduced):
            return f"{self._names[node]}[{place}]", fixed
        assert isinstance(node, Pointwise)
        key = (node, start, len(at))
        if fixed:
            if key not in self._scalars:
                self._scalars[key] = self._computed(node, at, self._lines)
            return self._scalars[key], True
        if key not in self._vars:
            if key in self._buffers and self._passes[key] != {self._pass}:
                self.loaded.add(key)
                return f"{self._buffers[key]}[j]", False
            self._vars[key] = (self._computed(node, at, self._loop), False)
            if _worth_keeping(node):
                self._passes.setdefault(key, set()).add(self._pass)
            if key in self._kept:
                buffer = self._buffers[key] = self._new("s")
                self._lines.append(f"alignas(64) T {buffer}[{len(at)}];")
                self._loop.append(f"{buffer}[j] = {self._vars[key][0]};")
        return self._vars[key]

    def _computed(self, node: Pointwise, at: Indices, lines: list[str]) -> str:
        args = [self._value(a, node.places(n, at))[0] for n, a in enumerate(node.args)]
        simple = _simplified(node.op, args)
        if simple is not None:
            return simple
        name = self._new("v")
        kind = "bool" if node.boolean else "T"
        lines.append(f"const {kind} {name} = {POINTWISE[node.op].format(*args)};")
        return name

    def _new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"


def _joined(total: str, op: str, value: str) -> str:
    """The statement that takes a value into a sum or a maximum."""
    if op == "sum":
        return f"{total} += {value};"
    return f"{total} = {'larger' if op == 'max' else 'smaller'}({total}, T({value}));"


def _strands(node: Reduced, piece: Indices) -> list[Indices]:
    """Parts of a long cheap sum that run side by side: one alone waits for each addition.

    Where the elements cost more than that they stay together, since other passes read them so.
    """
    if len(piece) < 256 or len(piece) % 32 or not _cheap(node.arg):
        return [piece]
    return np.split(piece, 4)


def _cheap(node: Node) -> bool:
    if isinstance(node, Pointwise) and node.op not in _CHEAP:
        return False
    return isinstance(node, Reduced) or all(_cheap(a) for a in arguments(node))


def _worth_keeping(node: Pointwise) -> bool:
    """Whether to store a value rather than to compute it twice: is there more than a sum in it?"""
    if node.boolean:
        return False
    if node.op not in _CHEAP:
        return True
    return any(isinstance(_origin(a), Pointwise) for a in node.args)


def _origin(node: Node) -> Node:
    while isinstance(node, Moved) and len(set(node.source.tolist())) == 1:
        node = node.args[node.source[0]]
    return node


def _simplified(op: str, args: list[str]) -> str | None:
    """x + 0 and 1 · x, as padded slices and seeds of gradients leave them; never 0 · x."""
    zero, one = "T(0.0)", "T(1.0)"
    if op == "add" and zero in args:
        return args[1] if args[0] == zero else args[0]
    if op == "sub" and args[1] == zero:
        return args[0]
    if op == "mul" and one in args:
        return args[1] if args[0] == one else args[0]
    return None


def _literal(value: float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    value = float(value)
    if math.isnan(value):
        return "T(NAN)"
    if math.isinf(value):
        return "T(INFINITY)" if value > 0 else "T(-INFINITY)"
    return f"T({value!r})"
