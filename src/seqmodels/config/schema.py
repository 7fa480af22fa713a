"""The typed root of the configuration, and the checks that types cannot express."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from ..errors import closest, did_you_mean

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
STRATEGIES = ("auto", "ddp")
PRECISIONS = (
    *("32-true", "16-true", "16-mixed", "bf16-true", "bf16-mixed", "64-true"),
    *("transformer-engine", "transformer-engine-float16"),
)


@dataclass
class TrainerConfig:
    """How long, where and how exactly to train; the names are Lightning's."""

    max_steps: int | None = None  # optimiser steps; -1: no limit; None: see `step_limit`
    max_epochs: int | None = None
    max_time: str | None = None  # DD:HH:MM:SS
    accelerator: str = "auto"
    devices: Any = 1  # processes, or a list of the indices of their devices; of each machine
    num_nodes: int = 1  # machines
    strategy: str = "auto"  # ddp: several processes
    precision: str = "32-true"
    accumulate_grad_batches: int = 1
    val_check_interval: Any = None  # int: batches; float: share of an epoch
    check_val_every_n_epoch: int | None = 1
    limit_train_batches: Any = None  # int: batches; float: share
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    log_every_n_steps: int = 50
    deterministic: bool = True
    detect_anomaly: bool = False
    enable_progress_bar: bool = True


@dataclass
class BudgetConfig:
    """One of these chooses the width of the layers; see `seqmodels.commands.budget`."""

    parameters: int | None = None  # trained numbers of the whole model
    state: int | None = None  # numbers that a sequence carries from step to step
    flops: int | None = None  # of the products of one step of one sequence, forwards


@dataclass
class Config:
    """The root. Fields of type Any hold `_target_` nodes, checked against signatures."""

    model: Any = MISSING
    data: Any = MISSING
    task: Any = MISSING
    init: Any = None
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    clip: Any = MISSING
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    seed: int = 0
    num_threads: int | None = None  # torch's threads within one operation; null: torch decides
    run_dir: str | None = None  # where the run goes; null: a new folder under outputs/
    resume: bool = False  # continue the run that lies in run_dir


BUDGETS = ("parameters", "state", "flops")
REQUIRED_NODES = ("model", "data", "task", "optimizer", "scheduler", "clip")
OPTIONAL_NODES = ("init",)
NODE_DICTS = ("callbacks", "logger")


@dataclass
class EvalConfig:
    """What `seqmodels eval` may be told; the rest comes from the run."""

    run: str = MISSING
    checkpoint: str = "best"
    split: str | None = None
    batch_size: int | None = None
    cache: int | None = None
    cache_theta: float | None = None
    cache_weight: float | None = None
    accelerator: str = "auto"
    num_threads: int | None = None


@dataclass
class SampleConfig:
    """What `seqmodels sample` may be told."""

    run: str = MISSING
    checkpoint: str = "best"
    temperature: float = 1.0
    seed: int = 0
    num_threads: int | None = None
    prompt: str | None = None
    length: int | None = None
    num_samples: int | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_images: int | None = None
    label: int | None = None
    output: str | None = None


@dataclass
class CompleteConfig:
    """What `seqmodels complete` may be told; `data.` goes to the run's own configuration."""

    run: str = MISSING
    checkpoint: str = "best"
    keep: str = "top_half"
    num_images: int = 16
    completions: int = 3
    temperature: float = 1.0
    output: str | None = None
    seed: int = 0
    num_threads: int | None = None


@dataclass
class AnalyseConfig:
    """What `seqmodels analyse` may be told."""

    run: str = MISSING
    checkpoint: str | None = None
    split: str | None = None
    sequences: int = 16
    steps: int = 200
    spectra: bool = True
    points: int = 8
    lags: list[int] = MISSING
    most_units: int = 512
    num_threads: int | None = None


@dataclass
class ReplayConfig:
    """What `seqmodels replay` may be told."""

    run: str = MISSING
    run_dir: str | None = None
    tolerance: float = 0.0
    num_threads: int | None = None


@dataclass
class TensorBoardConfig:
    """What `seqmodels tensorboard` may be told, beside the directory."""

    port: int = 6006
    bind_all: bool = False


@dataclass
class ReportConfig:
    """What `seqmodels report` may be told, beside the directories."""

    metric: str | None = None
    baseline: str | None = None
    output: str | None = None
    title: str | None = None


SCHEMAS = {
    "schema": Config,
    "eval_schema": EvalConfig,
    "sample_schema": SampleConfig,
    "complete_schema": CompleteConfig,
    "analyse_schema": AnalyseConfig,
    "replay_schema": ReplayConfig,
    "tensorboard_schema": TensorBoardConfig,
    "report_schema": ReportConfig,
}


DEFAULT_STEPS = 1200


def step_limit(trainer: TrainerConfig | DictConfig) -> int:
    """How many optimiser steps end a run at the latest; -1: something else ends it.

    Unless it is said, DEFAULT_STEPS, and no limit where max_epochs or max_time is given.
    """
    if trainer.max_steps is not None:
        return int(trainer.max_steps)
    return DEFAULT_STEPS if trainer.max_epochs is None and trainer.max_time is None else -1


def register() -> None:
    """Make the roots known to Hydra; a schema comes first in the defaults of its YAML file."""
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(name=name, node=node)


def root_problems(cfg: DictConfig) -> Iterator[str]:
    """Unknown names, ranges and contradictions of a typed root; nothing for any other."""
    kind = OmegaConf.get_type(cfg)
    if kind is Config:
        yield from _train_problems(cfg)
        given = [name for name in BUDGETS if cfg.budget[name] is not None]
        for name in given:
            yield from positive(cfg.budget, "budget.", name, (None,))
        if len(given) > 1:
            yield f"budget: expected one of {', '.join(BUDGETS)}, got {' and '.join(given)}"
    elif kind in (EvalConfig, SampleConfig, CompleteConfig, AnalyseConfig):
        yield from unknown(cfg, kind, "")
        if cfg.checkpoint is not None or kind is not AnalyseConfig:
            yield from one_of(cfg, "checkpoint", ("best", "last"))
        yield from thread_problems(cfg)
    if kind is EvalConfig:
        if cfg.split is not None:
            yield from one_of(cfg, "split", ("train", "valid", "test"))
        yield from positive(cfg, "", "batch_size", (None,))
        yield from positive(cfg, "", "cache", (None,))
        for name in ("cache_theta", "cache_weight"):
            if cfg[name] is not None and cfg.cache is None:
                yield f"{name} is of a cache, and there is none: set cache=500 or leave {name} away"
        yield from one_of(cfg, "accelerator", ACCELERATORS)
    if kind is AnalyseConfig:
        if cfg.split is not None:
            yield from one_of(cfg, "split", ("valid", "test", "train"))
        for name in ("sequences", "steps", "points", "most_units"):
            yield from positive(cfg, "", name, ())
        if not cfg.lags or min(cfg.lags) < 1:
            yield f"lags must be a list of positive integers, got {list(cfg.lags)}"
    if kind is SampleConfig:
        for name in ("length", "num_samples", "top_k", "num_images"):
            yield from positive(cfg, "", name, (None,))
        if cfg.top_p is not None and not 0.0 < cfg.top_p <= 1.0:
            yield f"top_p: expected a probability in (0, 1] or null, got {cfg.top_p}"
        if cfg.label is not None and cfg.label < 0:
            yield f"label: expected a class >= 0 or null, got {cfg.label}"
    if kind is CompleteConfig:
        for name in ("num_images", "completions"):
            yield from positive(cfg, "", name, ())
    if kind is ReplayConfig:
        yield from unknown(cfg, kind, "")
        yield from thread_problems(cfg)
        if not 0.0 <= cfg.tolerance < float("inf"):
            yield f"tolerance: expected a relative difference >= 0, got {cfg.tolerance}"
    if kind is TensorBoardConfig and not 0 <= cfg.port < 65536:
        yield f"port: expected 0 (any free one) to 65535, got {cfg.port}"
    if kind in (SampleConfig, CompleteConfig):
        yield from seed_problems(cfg)
        if not 0.0 <= cfg.temperature < float("inf"):
            yield f"temperature: expected a number >= 0, got {cfg.temperature}"


MOST_THREADS = 4096


def thread_problems(cfg: DictConfig) -> Iterator[str]:
    """A number of threads that no machine has."""
    yield from positive(cfg, "", "num_threads", (None,))
    if cfg.num_threads is not None and cfg.num_threads > MOST_THREADS:
        yield f"num_threads: expected at most {MOST_THREADS} or null, got {cfg.num_threads}"


def seed_problems(cfg: DictConfig) -> Iterator[str]:
    """A seed that torch and NumPy do not take."""
    if not 0 <= cfg.seed < 2**32:
        yield f"seed: expected 0 <= seed < 2^32, got {cfg.seed}"


def one_of(
    node: DictConfig, name: str, allowed: tuple[str, ...], prefix: str = ""
) -> Iterator[str]:
    """A value that is none of those allowed."""
    if node[name] not in allowed:
        names = ", ".join(map(repr, allowed))
        near = did_you_mean(closest(node[name], allowed, 1))
        yield f"{prefix}{name}: expected one of {names}; got {node[name]!r}{near}"


def positive(
    node: DictConfig, prefix: str, name: str, also: tuple[int | None, ...]
) -> Iterator[str]:
    """A number below 1 that is none of `also`."""
    value = node[name]
    if value not in also and (value is None or value < 1):
        extra = "".join(f" or {_show(other)}" for other in also)
        yield f"{prefix}{name}: expected at least 1{extra}, got {_show(value)}"


def _train_problems(cfg: DictConfig) -> Iterator[str]:
    yield from unknown(cfg, Config, "")
    for name in (*REQUIRED_NODES, *OPTIONAL_NODES):
        if name in cfg and not OmegaConf.is_missing(cfg, name):
            yield from node_problems(cfg[name], name, required=name in REQUIRED_NODES)
    for group in NODE_DICTS:
        for name, node in (cfg.get(group) or {}).items():
            yield from node_problems(node, f"{group}.{name}", required=False)
    yield from seed_problems(cfg)
    yield from thread_problems(cfg)
    if cfg.run_dir is not None and not cfg.run_dir.strip():
        yield "run_dir: expected the path of a folder, got an empty name"
    if cfg.resume and cfg.run_dir is None:
        yield "resume=true needs run_dir=DIR, the folder of the run to continue"
    yield from unknown(cfg.trainer, TrainerConfig, "trainer.")
    yield from _trainer_problems(cfg.trainer)


def unknown(node: DictConfig, schema: type, prefix: str) -> Iterator[str]:
    """Names that the schema does not have."""
    known = [f.name for f in dataclasses.fields(schema)]
    for key in map(str, node):
        if key not in known:
            near = [prefix + name for name in closest(key, known)]
            yield f"{prefix}{key} is not a setting{did_you_mean(near)}"


def node_problems(node: Any, path: str, *, required: bool) -> Iterator[str]:
    """What should describe an object and does not."""
    if node is None and not required:
        return
    if not isinstance(node, DictConfig) or "_target_" not in node.keys():  # noqa: SIM118
        got = "a mapping without it" if isinstance(node, DictConfig) else _show(node)
        hint = f"; choose an option with {path}=NAME" if required else ""
        yield f"{path}: expected a mapping with _target_, got {got}{hint}"


def _show(value: Any) -> str:
    return "null" if value is None else repr(value)


def _trainer_problems(t: DictConfig) -> Iterator[str]:
    where = "trainer."
    yield from positive(t, where, "max_steps", (-1, None))
    yield from positive(t, where, "max_epochs", (-1, None))
    yield from positive(t, where, "accumulate_grad_batches", ())
    yield from positive(t, where, "check_val_every_n_epoch", (None,))
    yield from positive(t, where, "log_every_n_steps", ())
    if t.max_time is not None and not re.fullmatch(r"\d+:[0-2]?\d:[0-5]?\d:[0-5]?\d", t.max_time):
        yield f"trainer.max_time: expected DD:HH:MM:SS such as 00:00:10:00, got {t.max_time!r}"
    if t.max_steps == -1 and t.max_epochs in (None, -1) and t.max_time is None:
        yield "trainer: nothing ends the run: set trainer.max_steps, max_epochs or max_time"
    yield from one_of(t, "accelerator", ACCELERATORS, where)
    yield from one_of(t, "strategy", STRATEGIES, where)
    yield from one_of(t, "precision", PRECISIONS, where)
    count = _devices(t.devices)
    if count is None:
        yield (
            "trainer.devices: expected a number of processes >= 1, or the indices of their devices "
            f"such as [0, 1], got {_show(t.devices)}"
        )
    yield from positive(t, where, "num_nodes", ())
    if count is not None and count * t.num_nodes > 1 and t.strategy != "ddp":
        yield (
            f"trainer.devices={_show(t.devices)} with trainer.num_nodes={t.num_nodes} is more than "
            "one process, which share each batch with trainer.strategy=ddp"
        )
    if t.val_check_interval is not None and not _interval(t.val_check_interval, least=1):
        yield (
            "trainer.val_check_interval: expected a number of batches >= 1, a share of an epoch "
            f"in (0, 1] or null, got {t.val_check_interval!r}"
        )
    if t.check_val_every_n_epoch is None and not _is_int(t.val_check_interval):
        yield (
            "trainer.check_val_every_n_epoch: null counts batches across epochs, which needs "
            f"trainer.val_check_interval=NUMBER, got {_show(t.val_check_interval)}"
        )
    if t.limit_train_batches is not None and not _interval(t.limit_train_batches, least=1):
        yield (
            "trainer.limit_train_batches: expected a number of batches >= 1, a share in (0, 1] or "
            f"null, got {t.limit_train_batches!r}"
        )
    for name in ("limit_val_batches", "limit_test_batches"):
        if t[name] is not None and not _interval(t[name], least=0):
            yield (
                f"trainer.{name}: expected a number of batches >= 0, a share in [0, 1] or null, "
                f"got {t[name]!r}"
            )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _interval(value: Any, least: int) -> bool:
    if _is_int(value):
        return bool(value >= least)
    return isinstance(value, float) and (0.0 < value <= 1.0 or (value == 0.0 and least == 0))


def _devices(value: Any) -> int | None:
    """How many processes; None where it is no such number."""
    if OmegaConf.is_list(value):
        right = all(_is_int(each) and each >= 0 for each in value)
        return len(value) if value and right and len(set(value)) == len(value) else None
    return int(value) if _is_int(value) and value >= 1 else None
