"""The typed roots of verify, bench and export, and the checks that types cannot express."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from .schema import node_problems, one_of, positive, seed_problems, thread_problems, unknown


@dataclass
class CellConfig:
    """The part of a model that `seqmodels verify` looks at."""

    cell: Any = MISSING


@dataclass
class VerifyConfig:
    """What `seqmodels verify` may be told."""

    model: CellConfig = field(default_factory=CellConfig)
    input_size: int = 3
    hidden_size: int = 5
    engines: list[str] | None = None
    speed: list[int] | None = field(default_factory=lambda: [35, 20, 200, 200])
    seconds: float = 1.0
    seed: int = 0
    num_threads: int | None = None


@dataclass
class BenchConfig:
    """What `seqmodels bench` may be told."""

    cells: list[str] | None = None
    engines: list[str] | None = None
    shapes: Any = MISSING  # a list of lists of integers, which OmegaConf cannot type
    reference: str | None = None
    dtype: str = "float32"
    num_threads: int | None = None
    seconds: float = 3.0
    pairs: int | None = None
    memory: bool = True
    cold: bool = True
    linear_shape: list[int] | None = None
    linear_steps: list[int] = MISSING
    limit: float = 600.0
    seed: int = 0
    output: str = MISSING
    table: str | None = None
    measure: bool = True


@dataclass
class ExportConfig:
    """What `seqmodels export` may be told."""

    run: str = MISSING
    format: str = "onnx"
    path: str | None = None
    checkpoint: str = "best"
    overwrite: bool = False
    num_threads: int | None = None


FORMATS = ("torch_export", "onnx", "safetensors")
SCHEMAS = {
    "verify_schema": VerifyConfig,
    "bench_schema": BenchConfig,
    "export_schema": ExportConfig,
}


def register() -> None:
    """Make the roots known to Hydra."""
    for name, node in SCHEMAS.items():
        ConfigStore.instance().store(name=name, node=node)


def tool_problems(cfg: DictConfig) -> Iterator[str]:
    """Unknown names, ranges and contradictions of these roots; nothing for any other."""
    kind = OmegaConf.get_type(cfg)
    if kind not in (VerifyConfig, BenchConfig, ExportConfig):
        return
    yield from unknown(cfg, kind, "")
    if kind is ExportConfig:
        yield from one_of(cfg, "format", FORMATS)
        yield from one_of(cfg, "checkpoint", ("best", "last"))
        yield from thread_problems(cfg)
        return
    yield from seed_problems(cfg)
    yield from thread_problems(cfg)
    yield from _above_zero(cfg, "seconds")
    yield from _verify_problems(cfg) if kind is VerifyConfig else _bench_problems(cfg)


def _verify_problems(cfg: DictConfig) -> Iterator[str]:
    if not OmegaConf.is_missing(cfg.model, "cell"):
        yield from node_problems(cfg.model.cell, "model.cell", required=False)
    yield from positive(cfg, "", "input_size", ())
    yield from positive(cfg, "", "hidden_size", ())
    if cfg.speed is not None:
        yield from _sizes(cfg.speed, "speed", "[T,B,I,H]", 4)


def _bench_problems(cfg: DictConfig) -> Iterator[str]:
    if not OmegaConf.is_list(cfg.shapes):
        yield f"shapes: expected a list of [T,B,I,H], got {cfg.shapes!r}"
    else:
        for number, shape in enumerate(cfg.shapes):
            yield from _sizes(shape, f"shapes.{number}", "[T,B,I,H]", 4)
    if cfg.linear_shape is not None:
        yield from _sizes(cfg.linear_shape, "linear_shape", "[B,I,H]", 3)
        yield from _sizes(cfg.linear_steps, "linear_steps", "two lengths T or more", None)
    yield from one_of(cfg, "dtype", ("float32", "float64", "bfloat16"))
    if cfg.reference is not None:
        yield from one_of(cfg, "reference", ("lstm", "gru", "rnn"))
    yield from _above_zero(cfg, "limit")
    yield from positive(cfg, "", "pairs", (None,))
    for name in ("output", "table"):
        if cfg[name] is not None and not cfg[name].strip():
            yield f"{name}: expected the path of a file, got an empty name"


def _above_zero(cfg: DictConfig, name: str) -> Iterator[str]:
    if not 0.0 < cfg[name] < float("inf"):
        yield f"{name}: expected a number of seconds > 0, got {cfg[name]}"


def _sizes(values: Any, name: str, form: str, count: int | None) -> Iterator[str]:
    items = list(values) if OmegaConf.is_list(values) else [values]
    right = len(items) == count if count is not None else len(items) >= 2
    if not right or any(type(item) is not int or item < 1 for item in items):
        yield f"{name}: expected {form}, integers of at least 1, got {items}"
