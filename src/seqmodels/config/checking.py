"""Checks a whole configuration before anything is built, and reports every problem at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, closest, did_you_mean
from .matching import Built, mismatch, show
from .schema import REQUIRED_NODES, root_problems
from .signatures import TargetError, signature
from .tool_schema import tool_problems

FLAGS = ("_target_", "_partial_", "_recursive_", "_convert_", "_args_")


def check(cfg: DictConfig) -> None:
    """Compare every `_target_` node with the signature of its target, and the root's values.

    Torch and Lightning are not imported for it.

    Raises:
        UserError: names every problem with its dotted path.
    """
    problems = check_problems(cfg)
    if problems:
        raise UserError.of(problems)


def check_problems(cfg: DictConfig) -> list[str]:
    """What `check` would raise, problem by problem."""
    problems = list(_walk(cfg, ""))
    problems += _root(cfg)
    return list(dict.fromkeys(problems))


def _root(cfg: DictConfig) -> list[str]:
    try:
        return [*root_problems(cfg), *tool_problems(cfg)]
    except OmegaConfBaseException:
        return []  # an unresolvable value, which the walk has reported


def _walk(node: Any, path: str) -> Iterator[str]:
    if isinstance(node, ListConfig):
        keys: list[Any] = list(range(len(node)))
    elif isinstance(node, DictConfig):
        keys = list(node.keys())
    else:
        return
    children: dict[Any, Any] = {}
    for key in keys:
        where = f"{path}.{key}" if path else str(key)
        try:
            if OmegaConf.is_missing(node, key):
                yield _missing(where, str(key))
                children[key] = Built()  # reported: counts as given
                continue
            children[key] = node[key]
        except OmegaConfBaseException as error:
            yield f"{where}: {first_line(error)}"
            children[key] = Built()
    if isinstance(node, DictConfig) and "_target_" in children:
        yield from _check_node(children, path)
    for key, child in children.items():
        if isinstance(child, int) and abs(child) >= 2**63:
            yield f"{path}.{key}".lstrip(".") + f": no whole number reaches 2^63, got {child}"
        if key != "_target_":
            yield from _walk(child, f"{path}.{key}" if path else str(key))


def _missing(path: str, key: str) -> str:
    if key == "_target_":
        group = path.rpartition(".")[0].replace(".", "/")
        return f"{path} is missing: this choice of {group} needs {path}=package.Class"
    if path in REQUIRED_NODES:
        return f"{path} is missing: choose one with {path}=NAME"
    return f"{path} is missing: set {path}={'DIR' if path == 'run' else 'VALUE'}"


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _check_node(children: dict[Any, Any], path: str) -> Iterator[str]:
    target = children["_target_"]
    if isinstance(target, Built):
        return
    where = path or "the configuration"
    for flag in ("_partial_", "_recursive_"):
        if not isinstance(children.get(flag, False), bool | Built):
            yield f"{where}.{flag}: expected bool, got {show(children[flag])}"
    if not isinstance(target, str):
        yield f"{where}._target_: expected the name package.Class, got {show(_plain(target))}"
        return
    try:
        accepted = signature(target)
    except TargetError as error:
        yield f"{where}: {error}"
        return
    for key, value in children.items():
        if key in FLAGS:
            continue
        if key in accepted.names:
            argument = accepted[key]
            if value is None and argument.none_default:
                continue
            problem = mismatch(_plain(value), argument.annotation)
            if problem is not None:
                yield f"{where}.{key}: {problem}"
        elif not accepted.open:
            near = did_you_mean(closest(str(key), [*accepted.names, *FLAGS]))
            yield f"{where}: {accepted.name} has no argument {key!r}{near}"
    if not children.get("_partial_", False):
        positional = len(children.get("_args_") or ())
        for argument in accepted.arguments[positional:]:
            if argument.required and argument.name not in children:
                yield f"{where}: {accepted.name} needs the argument {argument.name!r}"


def _plain(value: Any) -> Any:
    """Plain lists and dicts; what is built, missing or unresolvable becomes `Built`."""
    if isinstance(value, DictConfig):
        if "_target_" in value.keys():  # noqa: SIM118 - `in` alone denies a missing value
            return Built()
        return {key: _item(value, key) for key in value}
    if isinstance(value, ListConfig):
        return [_item(value, index) for index in range(len(value))]
    return value


def _item(node: Any, key: Any) -> Any:
    try:
        return Built() if OmegaConf.is_missing(node, key) else _plain(node[key])
    except OmegaConfBaseException:
        return Built()
