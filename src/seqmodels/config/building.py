"""From configuration to objects and to plain dictionaries, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError, did_you_mean
from .matching import show
from .schema import Config
from .translation import override_problem, similar_keys, syntax_problem


def instantiate(node: Any, **runtime: Any) -> Any:
    """Build the object that a checked `_target_` node describes (null gives None).

    Args:
        node: a node of the configuration; `_partial_: true` gives a factory.
        runtime: further arguments of the target, which only the program knows.

    Raises:
        Whatever a constructor raises, as its own type, with the path of the node before its
        message.
    """
    try:
        return hydra_instantiate(node, _convert_="all", **runtime)
    except InstantiationException as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, HydraException):
            raise UserError(str(error)) from error
        key = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
        if key and len(cause.args) == 1 and isinstance(cause.args[0], str):
            cause.args = (f"{key[1]}: {cause.args[0]}",)
        raise cause from cause.__cause__


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain dicts, lists, numbers and strings."""
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration is incomplete: {error}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def from_plain(plain: Mapping[str, Any]) -> DictConfig:
    """The typed configuration that `to_plain` gave away; closed to unknown keys."""
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(Config), dict(plain))
    except OmegaConfBaseException as error:
        raise UserError(f"the stored configuration is not one of this version: {error}") from error
    assert isinstance(cfg, DictConfig)
    OmegaConf.set_struct(cfg, True)
    return cfg


def diff(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """'key: old -> new' for every dotted key that differs between two plain configurations."""
    left, right = dict(_leaves(a, "")), dict(_leaves(b, ""))
    return [
        f"{key}: {_side(left, key)} -> {_side(right, key)}"
        for key in dict.fromkeys([*left, *right])
        if _side(left, key) != _side(right, key)
    ]


def _side(leaves: Mapping[str, Any], key: str) -> str:
    return show(leaves[key]) if key in leaves else "(absent)"


def _leaves(node: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping) or not node:
        return [(path, node)]
    prefix = f"{path}." if path else ""
    return [leaf for key, value in node.items() for leaf in _leaves(value, f"{prefix}{key}")]


def apply_overrides(plain: Mapping[str, Any], overrides: Sequence[str]) -> DictConfig:
    """A stored configuration with `key=value` overrides, in the grammar of the command line.

    `+key=value` adds and `~key` deletes; groups cannot be chosen, for their files are not there
    any more.

    Raises:
        UserError: names every override that is not possible.
    """
    cfg = from_plain(plain)
    problems = []
    for text in overrides:
        try:
            problem = _apply(cfg, text)
        except HydraException as error:
            problem = syntax_problem(text, error)
        if problem is not None:
            problems.append(problem)
    if problems:
        raise UserError.of(problems, "the overrides")
    return cfg


def _apply(cfg: DictConfig, text: str) -> str | None:
    override = OverridesParser.create().parse_overrides([text])[0]
    key = override.key_or_group
    if "/" in key or override.is_sweep_override():
        return f"{text}: a stored configuration takes key=value only, with a dotted key"
    parent, _, last = key.rpartition(".")
    holder = OmegaConf.select(cfg, parent) if parent else cfg
    known = isinstance(holder, DictConfig) and last in holder
    adds = override.is_add() or override.is_force_add()
    if not known and not (adds and isinstance(holder, DictConfig)):
        return f"{key!r} is not a setting{did_you_mean(similar_keys(key, cfg))}"
    value = None if override.is_delete() else override.value()
    if known and isinstance(holder[last], DictConfig) and isinstance(value, str):
        return f"{text}: the options of {key} cannot be chosen for a stored configuration"
    try:
        if override.is_delete():
            OmegaConf.set_struct(cfg, False)
            del holder[last]
            OmegaConf.set_struct(cfg, True)
        else:
            OmegaConf.update(cfg, key, value, merge=True, force_add=adds)
    except OmegaConfBaseException as error:
        return override_problem(error, key, value, cfg)
    return None
