"""What a sweep consists of: settings, axes, jobs, and what tells one job from another."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from seqmodels.commands.sweep_settings import LaunchSettings, read_settings
from seqmodels.config import check, compose, to_plain
from seqmodels.errors import UserError, closest, did_you_mean
from seqmodels.locations import config_dir

OVERRIDE = re.compile(r"[+~]{0,2}[\w./@-]+=")
SEED = re.compile(r"seed=\d+")
REPEATS = ("seed",)  # axes over which a result is averaged
MOST_RUNS = 10_000


Group = tuple[tuple[str, str], ...]  # keys and values of a choice


@dataclass
class SweepSettings(LaunchSettings):
    """`sweep.NAME=VALUE` on the command line; see `LaunchSettings`.

    Attributes:
        retry_failed: run again what failed before.
        tune: settings with ranges that each choice has tuned before it is compared, such as
            "optimizer.lr=log(1e-4,1e-1)", several with a space between; None: nothing.
        tune_trials: runs that each choice is tuned by; the same for all.
        tune_seed: of these runs.
    """

    retry_failed: bool = False
    tune: str | None = None
    tune_trials: int = 8
    tune_seed: int = 0


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        overrides: of `seqmodels train`, the axes' among them.
        choice: the axes' values, by key.
        plain: the whole resolved configuration.
        label: the values in a few words.
        identity: a hash of all that its result depends on; "" until the data has been read.
        tuned: what the sweep's tuning has found for its choice.
        lost: why it cannot run; None where it can.
    """

    overrides: tuple[str, ...]
    choice: dict[str, str]
    plain: dict[str, Any] = field(repr=False)
    label: str
    identity: str = ""
    tuned: dict[str, str] = field(default_factory=dict)
    lost: str | None = None

    @property
    def group(self) -> Group:
        """The choice without what is only repeated."""
        return tuple((k, v) for k, v in self.choice.items() if k not in REPEATS)

    @property
    def name(self) -> str:
        """The job's folder."""
        return f"{folder_name(self.label)}-{self.identity[:10] if self.lost is None else 'lost'}"


@dataclass(frozen=True)
class Sweep:
    """A checked plan."""

    name: str | None
    settings: SweepSettings
    axes: dict[str, list[str]]
    fixed: tuple[str, ...]
    jobs: list[Job]

    @property
    def directory(self) -> Path:
        """Where its runs go."""
        if self.settings.dir is not None:
            return Path(self.settings.dir).expanduser()
        if self.name is not None:
            return Path("outputs") / "sweeps" / self.name
        tuning = [self.settings.tune] if self.settings.tune else []
        text = json.dumps([*(sorted(job.overrides) for job in self.jobs), *tuning])
        return Path("outputs") / "sweeps" / hashlib.sha256(text.encode()).hexdigest()[:10]


def plan(overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> Sweep:
    """Parses and checks everything; nothing is written.

    Args:
        overrides: of the command line: axes (`key=a,b`), fixed ones, `sweep=NAME`, `sweep.KEY=…`.
        config_dirs: further configuration folders, whose sweep/NAME.yaml are found too.

    Raises:
        UserError: with every problem of every job, each once.
    """
    own = [text for text in overrides if text.startswith("sweep.")]
    named = [text for text in overrides if text.startswith("sweep=")]
    rest = [text for text in overrides if text not in own and text not in named]
    if len(named) > 1:
        raise UserError(f"one sweep at a time, got {' '.join(named)}")
    name = named[0].partition("=")[2] if named else None
    axes: dict[str, list[str]] = {}
    fixed: list[str] = []
    preset: list[str] = []
    if name is not None:
        of_file, fixed, said = named_file("sweep", "axes", name, config_dirs)
        try:
            axes = _axes(of_file)
        except UserError as error:
            raise UserError(f"{name}.yaml: {error}") from None
        preset = [f"sweep.{key}={value}" for key, value in said.items()]
    settings: SweepSettings = read_settings(SweepSettings, "sweep", [*preset, *own])
    if settings.tune_seed < 0:
        raise UserError(f"sweep.tune_seed must be >= 0, got {settings.tune_seed}")
    if settings.tune_trials < 1:
        raise UserError(f"sweep.tune_trials must be positive, got {settings.tune_trials}")
    if settings.tune is None and any(text.startswith("sweep.tune_") for text in own):
        raise UserError(
            "sweep.tune_trials and sweep.tune_seed are of sweep.tune, such as "
            "sweep.tune='optimizer.lr=log(1e-4,1e-1)'"
        )
    for text in rest:
        key, values = axis_of(text)
        if values is None:
            axes.pop(key, None)  # a fixed value takes the axis's place
            fixed.append(text)
        else:
            axes[key] = values
    if not axes:
        raise UserError(
            "a sweep needs an axis, such as model/cell=rnn,lstm or seed=1,2,3, or a name: "
            f"sweep={'|'.join(_names('sweep', config_dirs))}"
        )
    return Sweep(name, settings, axes, tuple(fixed), _jobs(axes, fixed, config_dirs))


def _names(group: str, config_dirs: Sequence[Path]) -> list[str]:
    folders = [config_dir(), *config_dirs]
    return sorted({path.stem for f in folders for path in (f / group).glob("*.yaml")})


def named_file(
    group: str, part: str, name: str, config_dirs: Sequence[Path]
) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """Of GROUP/NAME.yaml: the mapping `part`, the fixed overrides, and the settings."""
    paths = [f / group / f"{name}.yaml" for f in (*config_dirs, config_dir())]
    path = next((p for p in paths if p.is_file()), None)
    if path is None:
        names = _names(group, config_dirs)
        near = did_you_mean(closest(name, names, 1))
        raise UserError(
            f"{group}={name}: there is no such {group}{near}; there are {', '.join(names)}"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    parts = content if isinstance(content, dict) else {}
    if not isinstance(parts.get(part), dict) or set(parts) - {part, "overrides", "settings"}:
        raise UserError(
            f"{path}: expected a mapping `{part}`, and besides at most `overrides` (a list) and "
            f"`settings`; got {', '.join(map(str, parts)) or 'nothing'}"
        )
    for name, kind in (("overrides", list), ("settings", dict)):
        if not isinstance(parts.get(name) or kind(), kind):
            words = "a list" if kind is list else "a mapping"
            raise UserError(f"{path}: `{name}` must be {words}, got {parts[name]!r}")
    found = {str(key): value for key, value in parts[part].items()}
    return found, [str(o) for o in parts.get("overrides") or []], parts.get("settings") or {}


def _axes(named: dict[str, Any]) -> dict[str, list[str]]:
    for key, values in named.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"axes.{key} must be a list of values, got {values!r}")
    return {key: [text_of(value) for value in values] for key, values in named.items()}


def text_of(value: Any) -> str:
    """A YAML value as one of the override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def axis_of(text: str) -> tuple[str, list[str] | None]:
    """The key of an override and its values; None where it has one value alone."""
    try:
        override = OverridesParser.create().parse_overrides([text])[0]
    except HydraException:
        return text.partition("=")[0], None  # explained by `compose`
    key = override.key_or_group
    if not override.is_sweep_override():
        return key, None
    prefix = text.partition("=")[0].removesuffix(key) if key else ""
    values = list(itertools.islice(override.sweep_string_iterator(), MOST_RUNS + 1))
    return f"{prefix}{key}", [_bare(str(value)) for value in values]


def _bare(value: str) -> str:
    """A value that brings overrides with it, without the quotes that kept it in one piece."""
    first, *more = value[1:-1].split(" ")
    quoted = value[0] in "'\"" and value[-1] == value[0]
    if quoted and first and more and all(OVERRIDE.match(word) for word in more):
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return value


class Composer:
    """Composes and checks what differs in nothing but the seed once, for Hydra takes its time.

    Args:
        config_dirs: further configuration folders.
    """

    def __init__(self, config_dirs: Sequence[Path]) -> None:
        self.config_dirs = config_dirs
        self._known: dict[tuple[str, ...], DictConfig] = {}

    def plain(self, overrides: Sequence[str]) -> dict[str, Any]:
        """The whole resolved configuration of a training with these overrides."""
        seeds = [text for text in overrides if SEED.fullmatch(text)]
        rest = tuple(text for text in overrides if not SEED.fullmatch(text))
        if rest not in self._known:
            self._known[rest] = compose("train", rest, self.config_dirs)
            check(self._known[rest])
        cfg = self._known[rest]
        if seeds:  # all else that depends on it says so by interpolation
            cfg = copy.deepcopy(cfg)
            cfg.seed = int(seeds[-1].partition("=")[2])
        return to_plain(cfg)


def _jobs(axes: dict[str, list[str]], fixed: list[str], config_dirs: Sequence[Path]) -> list[Job]:
    if math.prod(map(len, axes.values())) > MOST_RUNS:
        raise UserError(
            f"{' × '.join(f'{len(values)} of {key}' for key, values in axes.items())}: a sweep has "
            f"at most {MOST_RUNS:,} runs; make several, or search: seqmodels search"
        )
    jobs, problems = [], []
    composer = Composer(config_dirs)
    for values in itertools.product(*axes.values()):
        choice = dict(zip(axes, values, strict=True))
        # An axis may name several settings at once: "clip=norm task.omega=2".
        own = [part for k, v in choice.items() for part in parts_of(k, v)]
        overrides = (*fixed, *own)
        label = ",".join(f"{last(k)}={v}" for k, v in choice.items())
        try:
            plain = composer.plain(overrides)
        except UserError as error:
            problems.append(f"{' '.join(own)}: {error}")
            continue
        if plain["run_dir"] is not None or plain["resume"]:
            raise UserError("run_dir and resume belong to one run; a sweep has sweep.dir=DIR")
        jobs.append(Job(overrides, choice, plain, label))
    if problems:
        said = list(dict.fromkeys(problems))
        raise UserError.of(said[:10] + ([f"and {len(said) - 10} more"] if len(said) > 10 else []))
    return jobs


def parts_of(key: str, value: str) -> Iterator[str]:
    """`key=value`, or where the value goes on, `key=first` and the further overrides."""
    first, *more = value.split(" ")
    if all(OVERRIDE.match(word) for word in more):
        yield f"{key}={first}"
        yield from more
    else:
        yield f"{key}={value}"


def folder_name(label: str) -> str:
    """A label as (the beginning of) the name of a folder."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "=.-") else "_" for c in label)[:80]


def last(key: str) -> str:
    """The last word of a setting's name."""
    return key.replace("/", ".").rpartition(".")[2].lstrip("+~")
