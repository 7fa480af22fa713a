"""What a `_target_` accepts: the names, annotations and defaults of its arguments.

For packages that are slow to import the answer is read from their source (see `static.py`);
everything else is imported and inspected.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from ..errors import closest, did_you_mean

# Importing torch takes seconds and Lightning many: an error must not wait for that.
READ_FROM_SOURCE = ("seqmodels", "torch", "lightning", "pytorch_lightning")


class TargetError(Exception):
    """A `_target_` that cannot be had; the message is for the user."""


@dataclass(frozen=True)
class Argument:
    name: str
    annotation: Any = Any  # Any: unknown, accepts everything
    required: bool = True
    none_default: bool = False  # `x: int = None` accepts None, whatever its annotation says


@dataclass(frozen=True)
class Signature:
    """The keyword arguments of a callable; `open`: it takes any other keyword too."""

    name: str
    arguments: tuple[Argument, ...]
    open: bool = False

    def __getitem__(self, name: str) -> Argument:
        return next(a for a in self.arguments if a.name == name)

    @property
    def names(self) -> list[str]:
        return [a.name for a in self.arguments]


@cache
def signature(target: str) -> Signature:
    """The signature of the class or function with this dotted name.

    Raises:
        TargetError: it does not exist, cannot be imported or is not callable.
    """
    from . import static

    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise TargetError(f"expected _target_=package.Class, got {target!r}")
    if parts[0] in READ_FROM_SOURCE:
        try:
            return static.signature(target)
        except static.NotThere as error:
            raise TargetError(cannot_import(target, error.prefix, error.candidates)) from None
        except static.UncertainError:
            pass  # the source alone does not tell (decorators, dataclasses): import it
    return inspect_callable(locate(target), target)


def cannot_import(target: str, prefix: str, candidates: Iterable[str]) -> str:
    """`prefix` of `target` exists and holds `candidates`, but not the name that follows."""
    rest = target[len(prefix) + 1 :] if prefix else target
    near = closest(rest.split(".")[0], candidates)
    reason = (
        f" in {prefix!r}" if near and "." in prefix and rest != target.rsplit(".", 1)[1] else ""
    )
    return f"cannot import {target!r}{reason}{did_you_mean(near)}"


def locate(target: str) -> Any:
    """Import the object with this dotted name."""
    parts = target.split(".")
    found: Any = None
    prefix = ""
    for part in parts:
        name = f"{prefix}.{part}" if prefix else part
        if prefix and hasattr(found, part):
            found = getattr(found, part)
        elif not prefix or inspect.ismodule(found):
            try:
                found = importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is not None and (
                    name == error.name or name.startswith(error.name + ".")
                ):
                    raise TargetError(cannot_import(target, prefix, _names(found))) from None
                raise TargetError(_broken(target, name, error)) from error
            except Exception as error:
                raise TargetError(_broken(target, name, error)) from error
        else:
            raise TargetError(cannot_import(target, prefix, _names(found)))
        prefix = name
    return found


def _names(found: Any) -> list[str]:
    if found is None:
        return [module.name for module in pkgutil.iter_modules()]
    names = [name for name in dir(found) if not name.startswith("_")]
    return names + [module.name for module in pkgutil.iter_modules(getattr(found, "__path__", []))]


def _broken(target: str, module: str, error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" at {error.filename}:{error.lineno}"
        error = SyntaxError(error.msg)
    return f"cannot import {target!r}: {module} raises {type(error).__name__}: {error}{where}"


def inspect_callable(found: Any, target: str) -> Signature:
    """The signature of an object that is at hand."""
    name = target.rsplit(".", 1)[1]
    if not callable(found):
        raise TargetError(f"{target!r} is not a class or function but {type(found).__name__}")
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except (ValueError, TypeError):  # some built-ins have none
        return Signature(name, (), open=True)
    function: Any = found.__init__ if inspect.isclass(found) else found
    if inspect.isclass(found) and "__init__" not in vars(found) and _only_variadic(parameters):
        return Signature(name, ())  # the base class swallows arguments only to refuse them
    hints = _hints(function, {p.name: p.annotation for p in parameters})
    accepted = tuple(
        Argument(
            p.name,
            hints.get(p.name, Any),
            required=p.default is p.empty,
            none_default=p.default is None,
        )
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    )
    return Signature(name, accepted, open=any(p.kind is p.VAR_KEYWORD for p in parameters))


def _only_variadic(parameters: list[inspect.Parameter]) -> bool:
    kinds = [p.kind for p in parameters]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def _hints(function: Callable[..., Any], annotations: dict[str, Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # a name that only type checkers import spoils them all: one at a time
        return {name: _one_hint(function, a) for name, a in annotations.items()}


def _one_hint(function: Callable[..., Any], annotation: Any) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = type("holder", (), {"__annotations__": {"x": annotation}})
    try:
        return get_type_hints(holder, getattr(function, "__globals__", {}))["x"]
    except Exception:
        return Any
