"""`seqmodels bench`: cells × engines × shapes beside torch.nn, as JSON and as a Markdown table."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seqmodels.config import check, compose, config_dir, instantiate, to_plain
from seqmodels.errors import UserError, closest, did_you_mean
from seqmodels.locations import config_groups
from seqmodels.runs import environment, now, write_atomically, write_json

VERSIONS = ("seqmodels", "python", "torch")


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    cfg = compose("bench", overrides, config_dirs)
    check(cfg)
    output = Path(cfg.output)
    if output.is_dir():
        raise UserError(f"output={output} is a folder, and a file is wanted")
    table = output.with_suffix(".md") if cfg.table is None else Path(cfg.table)
    if not cfg.measure:
        _write_table(_read(output), table)
        print(f"{table}, made from {output}")
        return 0
    from seqmodels.analysis.bench import bench

    plan = _plan(cfg, config_dirs)
    _check_engines(plan.engines)
    _check_places(output, table)

    from rich.console import Console

    content = _header(cfg, plan.threads)
    err = Console(stderr=True)
    with err.status("starting") as status:
        try:
            for kind, row in bench(plan, starting=lambda what: status.update(f"{what} …")):
                content[kind].append(row)
                write_json(output, content)
                err.print(_told(kind, row), markup=False, highlight=False, soft_wrap=True)
        except KeyboardInterrupt:
            content["interrupted"] = True
            raise
        finally:
            if content["rows"]:
                write_json(output, content)
                _write_table(content, table)
    print(f"{output}\n{table}")
    return 0


def _plan(cfg: DictConfig, config_dirs: Sequence[Path]) -> Any:
    from seqmodels.analysis.bench import Plan
    from seqmodels.commands import building
    from seqmodels.engines import ENGINES

    plain = to_plain(cfg)
    entries = _own_cells(config_dirs) if cfg.cells is None else plain["cells"]
    try:
        return Plan(
            cells={entry: _factory(entry, config_dirs) for entry in entries},
            engines=list(ENGINES) if cfg.engines is None else plain["engines"],
            shapes=[tuple(shape) for shape in plain["shapes"]],
            reference=cfg.reference,
            dtype=cfg.dtype,
            threads=building.set_threads(cfg.num_threads),
            seconds=cfg.seconds,
            pairs=cfg.pairs,
            seed=cfg.seed,
            memory=cfg.memory,
            cold=cfg.cold,
            linear_shape=None if cfg.linear_shape is None else tuple(plain["linear_shape"]),
            linear_steps=plain["linear_steps"],
            limit=cfg.limit,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def _own_cells(config_dirs: Sequence[Path]) -> list[str]:
    """Every cell that has a file of its own."""
    names = config_groups([config_dir(), *config_dirs])["model/cell"]
    return [name for name in names if name != "custom"]


def _factory(entry: str, config_dirs: Sequence[Path]) -> Any:
    """A cell's factory from 'NAME' or 'NAME key=value +key=value …'."""
    name, *settings = shlex.split(entry)
    words = [f"model/cell={name}"]
    for setting in settings:
        sign = "+" if setting.startswith("+") else ""
        words.append(f"{sign}model.cell.{setting.removeprefix('+')}")
    cfg = compose("verify", words, config_dirs)
    check(cfg)
    return instantiate(cfg.model.cell)


def _check_engines(names: Sequence[str]) -> None:
    from seqmodels.engines import NAMES

    for name in names:
        if name not in NAMES:
            near = did_you_mean(closest(name, NAMES, 1))
            raise UserError(
                f"engines: expected names out of {', '.join(NAMES)}, got {name!r}{near}"
            )


def _check_places(*paths: Path) -> None:
    """Before hours of measuring, not after them."""
    from seqmodels.analysis.bench_table import document

    for path in paths:
        if path.is_dir():
            raise UserError(f"table={path} is a folder, and a file is wanted")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md" and path.exists():
                empty = _header(None, None)
                document(empty, path.read_text(encoding="utf-8"))
            elif not os.access(path.parent, os.W_OK):
                raise UserError(f"cannot write into {path.parent}")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None
        except ValueError as error:
            raise UserError(f"table={path}: {error}") from None


def _header(cfg: DictConfig | None, threads: int | None) -> dict[str, Any]:
    from seqmodels.analysis.bench import FORMAT

    here = environment()
    return {
        "format": FORMAT,
        "date": now(),
        "machine": {
            "processor": _processor(),
            "cpu_count": here["cpu_count"],
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "versions": {name: here["versions"][name] for name in VERSIONS},
        "git_commit": here["git_commit"],
        "threads": threads,
        "dtype": None if cfg is None else cfg.dtype,
        "seed": None if cfg is None else cfg.seed,
        "settings": None if cfg is None else to_plain(cfg),
        "interrupted": False,
        "rows": [],
        "linear": [],
    }


def _processor() -> str:
    """The model's name as Linux tells it, else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _told(kind: str, row: dict[str, Any]) -> str:
    """A row in a line."""
    head = f"{row['cell']} · {row['engine']}"
    if row["reason"] is not None:
        return f"{head}: {row['reason']}"
    if kind == "linear":
        return f"{head}: slope of the cost against T {row['slope']:.2f}"
    memory = row.get("memory") or {}
    peak = f", memory × {memory['ratio']:.2f}" if memory.get("ratio") else ""
    return (
        f"{head} · {','.join(map(str, row['shape']))}: forward × {row['forward']['ratio']:.2f}, "
        f"training step × {row['step']['ratio']:.2f}{peak} of nn.{row['reference'].upper()}"
    )


def _read(output: Path) -> dict[str, Any]:
    from seqmodels.analysis.bench import FORMAT

    try:
        content = json.loads(output.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise UserError(f"output={output}: {reason}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"output={output}: not the measurements of `seqmodels bench`")
    return content


def _write_table(content: dict[str, Any], table: Path) -> None:
    from seqmodels.analysis.bench_table import document

    try:
        existing = table.read_text(encoding="utf-8") if table.exists() else None
        write_atomically(table, document(content, existing))
    except OSError as error:
        raise UserError(f"cannot write {table}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"table={table}: {error}") from None
