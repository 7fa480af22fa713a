"""Signatures read from source files with `ast`, without importing the package.

Follows imports between modules, assignments of aliases and inheritance. Where the source alone
does not tell (decorators, metaclasses, star imports), it says so with `UncertainError`.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from typing import Any, Union

from .signatures import Argument, Signature
from .sources import (
    Found,
    Module,
    NotThere,
    UncertainError,
    bindings_of,
    dotted_name,
    lookup,
    module_of,
    resolve,
)

__all__ = ["NotThere", "UncertainError", "annotation", "signature"]


class SomeClass:
    """Stands for a class that was found but not imported: no number or text is an instance."""


def signature(target: str) -> Signature:
    """The signature of the class or function with this dotted name."""
    first, *parts = target.split(".")
    root = module_of(first)
    if root is None:
        raise UncertainError(target)
    found: Found = root
    for part in parts:
        if not isinstance(found, Module):
            raise UncertainError(target)
        found = lookup(found, part)
    if isinstance(found, Module):
        raise UncertainError(target)
    module, stmt = found
    name = parts[-1]
    if isinstance(stmt, ast.FunctionDef):
        if stmt.decorator_list:
            raise UncertainError(target)
        return _read(stmt, module, name, bound=False)
    if not isinstance(stmt, ast.ClassDef):
        raise UncertainError(target)
    init = _init(stmt, module)
    if init is None:
        return Signature(name, ())
    function, owner, inherited = init
    read = _read(function, owner, name, bound=True)
    if inherited and read.open and not read.arguments:
        return Signature(name, ())  # the base class swallows arguments only to refuse them
    return read


HARMLESS_DECORATORS = {"final", "runtime_checkable"}
NEUTRAL_BASES = {"object", "Protocol", "Generic", "ABC"}


def _init(cls: ast.ClassDef, module: Module) -> tuple[ast.FunctionDef, Module, bool] | None:
    """The constructor of a class: its own or the first inherited one, with its module."""
    decorators = {dotted_name(d).rpartition(".")[2] for d in cls.decorator_list}
    metaclass = [dotted_name(k.value).rpartition(".")[2] for k in cls.keywords]
    if not decorators <= HARMLESS_DECORATORS or any(name != "ABCMeta" for name in metaclass):
        raise UncertainError(cls.name)
    own = dict(bindings_of(cls.body))
    init = own.get("__init__")
    if "__new__" in own or (init is not None and not isinstance(init, ast.FunctionDef)):
        raise UncertainError(cls.name)
    if isinstance(init, ast.FunctionDef):
        if init.decorator_list:
            raise UncertainError(cls.name)
        return init, module, False
    for base in cls.bases:
        expression = base.value if isinstance(base, ast.Subscript) else base
        dotted = dotted_name(expression)
        if dotted.rpartition(".")[2] in NEUTRAL_BASES:
            continue
        found = resolve(dotted, module)
        if isinstance(found, Module) or not isinstance(found[1], ast.ClassDef):
            raise UncertainError(cls.name)
        inherited = _init(found[1], found[0])
        if inherited is not None:
            return inherited[0], inherited[1], True
    return None


def _read(function: ast.FunctionDef, module: Module, name: str, *, bound: bool) -> Signature:
    args = function.args
    plain = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults)) + [*args.defaults]
    pairs = [*zip(plain, defaults, strict=True)][max(int(bound), len(args.posonlyargs)) :]
    pairs += [*zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    read = tuple(
        Argument(
            arg.arg,
            Any if arg.annotation is None else annotation(arg.annotation, module),
            required=default is None,
            none_default=isinstance(default, ast.Constant) and default.value is None,
        )
        for arg, default in pairs
    )
    return Signature(name, read, open=args.kwarg is not None)


def annotation(node: ast.expr, module: Module) -> Any:
    """The typing object that an annotation stands for; Any where it cannot be told."""
    try:
        return _evaluate(node, module)
    except (UncertainError, TypeError, SyntaxError, RecursionError, AttributeError):
        return Any


def _evaluate(node: ast.expr, module: Module) -> Any:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return _evaluate(ast.parse(node.value, mode="eval").body, module)
        return node.value  # None, or the `...` of tuple[int, ...]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return Union[annotation(node.left, module), annotation(node.right, module)]  # noqa: UP007
    if isinstance(node, ast.Subscript):
        base = _evaluate(node.value, module)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if getattr(base, "_name", None) == "Literal":
            return base[tuple(ast.literal_eval(item) for item in inner)]
        if base is Any or base is SomeClass:
            return base
        return base[tuple(annotation(item, module) for item in inner)]
    if isinstance(node, ast.List):  # the arguments of Callable
        return [annotation(item, module) for item in node.elts]
    return _named(dotted_name(node), module)


def _named(dotted: str, module: Module) -> Any:
    first, *rest = dotted.split(".")
    stmt = module.bindings.get(first)
    if stmt is None and not rest and hasattr(builtins, first):
        return getattr(builtins, first)
    source = _standard_library(stmt, first, rest)
    if source is not None:
        return source
    found = resolve(dotted, module)
    if isinstance(found, Module):
        raise UncertainError(dotted)
    owner, bound = found
    if isinstance(bound, ast.ClassDef):
        bases = {dotted_name(b.value if isinstance(b, ast.Subscript) else b) for b in bound.bases}
        return Any if any(b.endswith(("Enum", "Protocol")) for b in bases) else SomeClass
    if isinstance(bound, ast.Assign | ast.AnnAssign) and bound.value is not None:
        last = dotted.rpartition(".")[2]
        value = _standard_library(owner.bindings.get(last), last, [])
        return value if value is not None else _evaluate(bound.value, owner)
    raise UncertainError(dotted)


def _standard_library(stmt: ast.stmt | None, name: str, rest: list[str]) -> Any:
    """What an import from the standard library binds; those modules are cheap."""
    found: Any = None
    if isinstance(stmt, ast.ImportFrom) and not stmt.level and stmt.module is not None:
        if stmt.module.split(".")[0] in sys.stdlib_module_names | {"typing_extensions"}:
            alias = next(a for a in stmt.names if (a.asname or a.name) == name)
            found = getattr(importlib.import_module(stmt.module), alias.name)
    elif isinstance(stmt, ast.Import):
        alias = next(a for a in stmt.names if (a.asname or a.name.split(".")[0]) == name)
        if alias.name.split(".")[0] in sys.stdlib_module_names:
            imported = importlib.import_module(alias.name)
            found = imported if alias.asname else sys.modules[name]
    for part in rest if found is not None else []:
        found = getattr(found, part)
    return found
