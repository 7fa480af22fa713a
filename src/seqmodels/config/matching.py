"""Does a value of the configuration fit an annotation?"""

from __future__ import annotations

import collections.abc
import os
import types
import typing
from typing import Any, Literal, Union

from ..errors import closest, did_you_mean


class Built:
    """Stands for the value of a `_target_` node, known only when it is built."""


SEQUENCES = (
    *(list, set, frozenset, collections.abc.Sequence, collections.abc.MutableSequence),
    *(collections.abc.Iterable, collections.abc.Collection, collections.abc.Set),
)
MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
NODE = "a node with _target_"
SCALARS = (bool, int, float, str)


def fits(value: Any, annotation: Any) -> bool:
    """bool is not an int; an int is a float; what is unknown fits."""
    if isinstance(value, Built) or annotation is Any or isinstance(annotation, typing.TypeVar):
        return True
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin is typing.Annotated:
        return fits(value, args[0])
    if origin in (Union, types.UnionType):
        return any(fits(value, member) for member in args)
    if origin is Literal:
        return any(value == item and type(value) is type(item) for item in args)
    if annotation is None or annotation is type(None):
        return value is None
    if isinstance(annotation, typing.NewType):
        return fits(value, annotation.__supertype__)
    kind = origin or annotation
    if kind in SCALARS:
        return _scalar(value, kind)
    if kind is tuple:
        return isinstance(value, list) and _tuple(value, args)
    if kind in SEQUENCES:
        return isinstance(value, list) and all(fits(v, a) for v in value for a in args[:1])
    if kind in MAPPINGS:
        return isinstance(value, dict) and all(fits(v, a) for v in value.values() for a in args[1:])
    if kind is collections.abc.Callable or kind is type:
        return False
    if isinstance(kind, type):
        return _instance(value, kind)
    return True


def _scalar(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _tuple(value: list[Any], args: tuple[Any, ...]) -> bool:
    if not args:
        return True
    if len(args) == 2 and args[1] is Ellipsis:
        return all(fits(v, args[0]) for v in value)
    return len(value) == len(args) and all(map(fits, value, args))


def _instance(value: Any, kind: type) -> bool:
    if issubclass(kind, os.PathLike):
        return isinstance(value, str)
    if getattr(kind, "_is_protocol", False) or hasattr(kind, "__members__"):
        return True
    if value is None or isinstance(value, SCALARS):
        return kind is object or isinstance(value, kind)
    return True  # a list or mapping that the constructor may turn into one


def expectation(annotation: Any) -> str:
    """What an annotation wants, in words."""
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if annotation is None or annotation is type(None):
        return "null"
    if origin is typing.Annotated:
        return expectation(args[0])
    if origin is Literal:
        return "one of " + ", ".join(show(item) for item in args)
    if origin in (Union, types.UnionType):
        words = list(dict.fromkeys(expectation(member) for member in args))
        simple = [word for word in words if word != NODE]  # what can be written on one line
        return " or ".join(simple if set(simple) - {"null"} else words)
    kind = origin or annotation
    if kind is tuple and args and args[-1] is not Ellipsis:
        return f"a list of {len(args)} values: " + ", ".join(expectation(item) for item in args)
    if kind is tuple or kind in SEQUENCES:
        return f"a list of {expectation(args[0])}" if args else "a list"
    if kind in MAPPINGS:
        return "a mapping"
    if kind in SCALARS:
        return str(kind.__name__)
    if isinstance(kind, type) and issubclass(kind, os.PathLike):
        return "a path"
    if isinstance(kind, type) or kind is collections.abc.Callable:
        return NODE
    return str(annotation)


def mismatch(value: Any, annotation: Any) -> str | None:
    """'expected …, got …' where the value does not fit, else None."""
    if fits(value, annotation):
        return None
    choices = _choices(annotation)
    near = did_you_mean(closest(value, choices, 1)) if isinstance(value, str) else ""
    mark = ";" if choices else ","
    return f"expected {expectation(annotation)}{mark} got {show(value)}{near}"


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [item for item in typing.get_args(annotation) if isinstance(item, str)]
    return [choice for member in typing.get_args(annotation) for choice in _choices(member)]


def show(value: Any) -> str:
    """A value as YAML would have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(show, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {show(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Built):
        return "an object"
    return repr(value)
