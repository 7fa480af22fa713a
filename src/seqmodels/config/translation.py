"""Hydra's and OmegaConf's errors in words that say what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from ..errors import closest, did_you_mean
from .matching import expectation, show


def dotted_keys(node: Any, path: str = "") -> Iterator[str]:
    """Every dotted key of a configuration, inner nodes included."""
    if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()):
        for key, child in node.items_ex(resolve=False):
            where = f"{path}.{key!s}" if path else str(key)
            yield where
            yield from dotted_keys(child, where)
    elif isinstance(node, ListConfig) and not (node._is_none() or node._is_missing()):
        for index in range(len(node)):
            yield from dotted_keys(node._get_node(index), f"{path}.{index}")


def similar_keys(key: str, cfg: DictConfig, count: int = 3) -> list[str]:
    """Full dotted keys of the configuration that `key` may stand for, best first.

    The last name counts most: `model.hidden_size` finds `model.layers.hidden_size`.
    """
    last = key.rpartition(".")[2]
    scored = []
    for candidate in dotted_keys(cfg):
        name = candidate.rpartition(".")[2]
        alike = difflib.SequenceMatcher(None, last, name).ratio()
        if (alike >= 0.7 and not name.startswith("_")) or name == last:
            whole = difflib.SequenceMatcher(None, key, candidate).ratio()
            scored.append((-(2 * alike + whole), candidate))
    best = sorted(scored)[:count]
    # A name that is exactly right, or nearly so, elsewhere is not worth drowning in others.
    return [candidate for score, candidate in best if score <= best[0][0] + 0.3]


def syntax_problem(text: str, error: HydraException) -> str:
    """Why an override cannot be read."""
    if "=" not in text and not text.startswith("~"):
        return f"{text!r} cannot be read: an override has the form key=value"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((s for s in lines if not s.startswith(("Error parsing", "See http"))), "")
    reason = reason.replace("LexerNoViableAltException: ", "unexpected character in ")
    hint = "quote values with special characters: \"key='value'\""
    if "Unknown function 'log" in reason or "Unknown function 'uniform" in reason:
        hint = "ranges such as log(a,b) are for seqmodels search"
    return f"{text!r} cannot be read: {reason or 'it is not key=value'} ({hint})"


def override_problem(error: BaseException, key: str, value: Any, cfg: DictConfig) -> str:
    """Why `key=value` cannot be set in `cfg`."""
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return f"{key!r} is not a setting{did_you_mean(similar_keys(key, cfg))}"
    wanted = expected_type(cfg, key)
    if wanted is not None:
        return f"{key}: expected {wanted}, got {show(value)}"
    return f"{key}={show(value)}: {str(error).strip().splitlines()[0]}"


def expected_type(cfg: DictConfig, key: str) -> str | None:
    """The type that the schema gives to a key, in words."""
    parent, _, last = key.rpartition(".")
    holder = OmegaConf.select(cfg, parent) if parent else cfg
    node = holder._get_node(last) if isinstance(holder, DictConfig) else None
    if node is None or isinstance(node, list):
        return None
    kind = node._metadata.ref_type
    if kind is Any:
        return None
    words = "a mapping" if isinstance(node, DictConfig) else expectation(kind)
    return f"{words} or null" if node._metadata.optional else words


def file_problem(error: BaseException, cfg: DictConfig | None) -> str | None:
    """The problem that OmegaConf found while merging a file, if that is what happened."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    if not isinstance(cause, OmegaConfBaseException) or not text.startswith("In '"):
        return None
    name = text.split("'")[1]
    key = str(cause.full_key or cause.key)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        near = did_you_mean(similar_keys(key, cfg)) if cfg is not None else ""
        return f"{name}.yaml: {key!r} is not a setting{near}"
    wanted = expected_type(cfg, key) if cfg is not None else None
    value = re.match(r"Value '(.*)' of type", str(cause))
    if wanted is not None and value is not None:
        return f"{name}.yaml: {key}: expected {wanted}, got {value[1]!r}"
    return f"{name}.yaml: {key}: {str(cause).strip().splitlines()[0]}"


def option_problem(text: str, group: str, value: Any, options: list[str]) -> str:
    """Why a group has no such option; `text` asked for it."""
    name = value if isinstance(value, str) else show(value)
    near = did_you_mean(closest(name, options, 1))
    if value is None and "none" in options:
        near = f" (did you mean {group}=none?)"
    first = closest(name, options)
    listed = ", ".join(first + [o for o in options if o not in first])
    return f"{text}: the group {group!r} has no option {name!r}{near}; it has: {listed}"
