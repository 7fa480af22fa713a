"""What a search looks through: settings with ranges, on the command line or in search/NAME.yaml."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmodels.commands.sweep_plan import axis_of, named_file, parts_of, text_of
from seqmodels.commands.sweep_settings import LaunchSettings, read_settings
from seqmodels.config import check, compose, to_plain
from seqmodels.errors import UserError

RANGES = ("log", "uniform", "int", "log_int")
RANGE = re.compile(r"(log|uniform|int|log_int)\(([^()]*)\)")
CALLED = re.compile(r"\s*(\w+)\s*\(")
# Hydra's own, of which choice, range and sort give values. Its interval has no values, and its
# int makes a whole number, which needs nothing to be made one.
HYDRAS = ("choice", "range", "sort", "shuffle", "glob", "float", "str", "bool", "json_str")
SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("median", "halving", "none")


@dataclass
class SearchSettings(LaunchSettings):
    """`search.NAME=VALUE` on the command line; see `LaunchSettings`.

    Attributes:
        trials: of the study in all, failed and pruned ones among them.
        seed: of the sampler.
        sampler: "tpe", "random", or "grid": every combination, the last setting's values first.
        startup: trials before the sampler and the pruner begin to compare; of "tpe", the first of
            a Sobol sequence.
        pruner: "median", "halving" or "none".
        warmup: steps of a run before which it is not pruned.
        storage: where the study is kept; None: a journal in the search's folder; else a URL of a
            database, such as sqlite:///study.db.
    """

    trials: int = 20
    seed: int = 0
    sampler: str = "tpe"
    startup: int = 5
    pruner: str = "median"
    warmup: int = 0
    storage: str | None = None


@dataclass(frozen=True)
class Dimension:
    """One setting and what it may be.

    Attributes:
        key: of the override. kind: one of `RANGES`, or "choice".
        values: (low, high), or the choices as texts.
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that are checked before anything starts: the ends, or all choices."""
        return tuple(text_of(value) for value in self.values)

    @property
    def all(self) -> list[Any] | None:
        """Every value; None where they cannot be counted."""
        if self.kind == "choice":
            return list(self.values)
        low, high = self.values
        return list(range(low, high + 1)) if self.kind in ("int", "log_int") else None

    def edge(self, value: str) -> str | None:
        """ "lower" or "upper" where a number lies in the outer twentieth of its range."""
        if self.kind == "choice":
            return None
        low, high, own = (float(v) for v in (*self.values, value))
        if self.kind.startswith("log"):
            low, high, own = math.log(low), math.log(high), math.log(own)
        place = (own - low) / (high - low)
        return "lower" if place < 0.05 else "upper" if place > 0.95 else None

    def at(self, share: float) -> Any:
        """The value so far along the range or the choices, share in [0, 1)."""
        if self.kind == "choice":
            return self.values[int(share * len(self.values))]
        low, high = self.values
        top = high + 1 if self.kind in ("int", "log_int") else high
        own = low * (top / low) ** share if "log" in self.kind else low + share * (top - low)
        return min(high, type(low)(own))

    def suggest(self, trial: Any) -> str:
        """The value that a trial of Optuna is to try, as a text."""
        low, high = self.values[0], self.values[-1]
        if self.kind == "choice":
            return str(trial.suggest_categorical(self.key, self.values))
        if self.kind in ("int", "log_int"):
            return str(trial.suggest_int(self.key, low, high, log=self.kind == "log_int"))
        return repr(trial.suggest_float(self.key, low, high, log=self.kind == "log"))


@dataclass(frozen=True)
class Search:
    """A checked plan."""

    name: str | None
    settings: SearchSettings
    space: tuple[Dimension, ...]
    fixed: tuple[str, ...]
    plain: dict[str, Any]  # a configuration at one end of every range

    @property
    def directory(self) -> Path:
        """Where its runs go."""
        if self.settings.dir is not None:
            return Path(self.settings.dir).expanduser()
        if self.name is not None:
            return Path("outputs") / "searches" / self.name
        text = json.dumps([[d.key, d.kind, d.ends] for d in self.space] + sorted(self.fixed))
        return Path("outputs") / "searches" / hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def grid(self) -> list[dict[str, Any]]:
        """Every combination of the values of a space that can be counted."""
        keys = [d.key for d in self.space]
        return [
            dict(zip(keys, found, strict=True))
            for found in itertools.product(*(d.all or () for d in self.space))
        ]

    @property
    def trials(self) -> int:
        """How many there are to be."""
        most = self.settings.trials
        return min(most, len(self.grid)) if self.settings.sampler == "grid" else most

    def overrides(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Of `seqmodels train`, with these values of the space."""
        return (*self.fixed, *(p for key, value in values.items() for p in parts_of(key, value)))


def plan(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> Search:
    """Parses and checks everything; nothing is written.

    Args:
        overrides: of the command line: ranges (`key=log(a,b)`), choices (`key=a,b`), fixed ones,
            `search=NAME`, `search.KEY=…`.
        config_dirs: further configuration folders, whose search/NAME.yaml are found too.

    Raises:
        UserError: with every problem at the ends of the ranges, each once.
    """
    own = [text for text in overrides if text.startswith("search.")]
    named = [text for text in overrides if text.startswith("search=")]
    rest = [text for text in overrides if text not in own and text not in named]
    if len(named) > 1:
        raise UserError(f"one search at a time, got {' '.join(named)}")
    name = named[0].partition("=")[2] if named else None
    space: dict[str, Dimension] = {}
    fixed: list[str] = []
    preset: list[str] = []
    if name is not None:
        ranges, fixed, of_file = named_file("search", "space", name, config_dirs)
        preset = [f"search.{key}={value}" for key, value in of_file.items()]
        for key, value in ranges.items():
            texts = [text_of(v) for v in value] if isinstance(value, list) else None
            space[key] = _dimension(key, text_of(value), texts)
    for key, found in read_space(rest).items():
        space.pop(key, None)  # a fixed value takes the range's place
        if isinstance(found, Dimension):
            space[key] = found
        else:
            fixed += found
    settings: SearchSettings = read_settings(SearchSettings, "search", [*preset, *own])
    if not space:
        raise UserError(
            "a search needs a setting with a range, such as optimizer.lr='log(1e-4,1e-1)', "
            "model.layers.hidden_size='int(16,256)' or model/cell=lstm,gru"
        )
    return checked(name, settings, tuple(space.values()), fixed, config_dirs)


def checked(
    name: str | None,
    settings: SearchSettings,
    space: tuple[Dimension, ...],
    fixed: Sequence[str],
    config_dirs: Sequence[Path],
) -> Search:
    """A search whose settings are right and whose ends compose."""
    _check_settings(settings)
    endless = [d.key for d in space if d.all is None]
    if settings.sampler == "grid" and endless:
        raise UserError(
            f"search.sampler=grid tries every value, and {', '.join(endless)} has no end of them: "
            "give values, key=a,b,c, or a range of whole numbers, key=int(a,b)"
        )
    return Search(name, settings, space, tuple(fixed), _ends(space, fixed, config_dirs))


def read_space(texts: Iterable[str]) -> dict[str, Dimension | list[str]]:
    """By key, in their order: the ranges and choices, and the overrides that have one value.

    Raises:
        UserError: a range that is none.
    """
    found: dict[str, Dimension | list[str]] = {}
    for text in texts:
        key, _, value = text.partition("=")
        called = CALLED.match(value)
        if called and called[1] not in HYDRAS:
            found[key] = _dimension(key, value, None)
            continue
        key, values = axis_of(text)
        if values is None:
            before = found.get(key)
            found[key] = [*(before if isinstance(before, list) else []), text]
        else:
            found[key] = _dimension(key, text, values)
    return found


def _dimension(key: str, text: str, choices: list[str] | None) -> Dimension:
    if choices is not None:
        if len(set(choices)) < 2:
            raise UserError(f"{key}: expected at least two values to choose from, got {choices}")
        return Dimension(key, "choice", tuple(choices))
    found = RANGE.fullmatch(text.strip())
    words = [word.strip() for word in found[2].split(",")] if found else []
    kind = found[1] if found else ""
    said = f"{key}={text}: expected one of {', '.join(f'{k}(low,high)' for k in RANGES)}, or values"
    try:
        low, high = (int(w) if kind.endswith("int") else float(w) for w in words)
    except ValueError:
        whole = " with whole numbers" if kind.endswith("int") else ""
        raise UserError(f"{said}{whole}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{key}={text}: expected low < high")
    if kind.startswith("log") and low <= 0:
        raise UserError(f"{key}={text}: a logarithmic range begins above 0")
    return Dimension(key, kind, (low, high))


def _check_settings(settings: SearchSettings) -> None:
    for name in ("trials", "startup"):
        if getattr(settings, name) < 1:
            raise UserError(
                f"search.{name} must be a positive integer, got {getattr(settings, name)}"
            )
    for name in ("warmup", "seed"):
        if getattr(settings, name) < 0:
            raise UserError(f"search.{name} must be >= 0, got {getattr(settings, name)}")
    for name, options in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        value = getattr(settings, name)
        if value not in options:
            raise UserError(f"search.{name} must be one of {', '.join(options)}, got {value!r}")
    if not settings.metric.startswith("val/"):
        raise UserError(
            f"search.metric must be a validation metric, val/…, got {settings.metric!r}: what is "
            "chosen by the test data is not measured by it"
        )


def _ends(
    space: tuple[Dimension, ...], fixed: Sequence[str], config_dirs: Sequence[Path]
) -> dict[str, Any]:
    """Composes and checks each end of each range, the others at their first; one of them."""
    first = {dimension.key: dimension.ends[0] for dimension in space}
    trials = [first] + [first | {d.key: end} for d in space for end in d.ends[1:]]
    found: dict[str, Any] = {}
    problems = []
    for values in trials:
        own = [part for key, value in values.items() for part in parts_of(key, value)]
        try:
            cfg = compose("train", (*fixed, *own), config_dirs)
            check(cfg)
        except UserError as error:
            problems.append(str(error))
            continue
        found = to_plain(cfg)
        if found["run_dir"] is not None or found["resume"]:
            raise UserError("run_dir and resume belong to one run; a search has search.dir=DIR")
    if problems:
        raise UserError.of(list(dict.fromkeys(problems))[:10])
    return found
