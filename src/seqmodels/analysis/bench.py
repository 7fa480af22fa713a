"""Cells × engines × shapes beside torch.nn: time, memory, first call, cost against length.

Each measurement runs in a process of its own (`bench_worker`), so that none inherits another's
memory, kernels or threads; within it the two sides of a ratio are called in turn.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from seqmodels.analysis.bench_worker import REFERENCES, CellFactory, Job, Shape, measure
from seqmodels.analysis.memory import ENVIRONMENT

FORMAT = 1  # of the JSON
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is measured, and how.

    Attributes:
        cells: factories by the name that the table shows.
        engines: names, "auto" too.
        shapes: each T, B, I, H.
        reference: "lstm", "gru" or "rnn" for every cell; None: the `nearest` of each.
        dtype, threads, seconds, pairs, seed: as in `Job`.
        memory: whether the peak is measured too.
        cold: whether the first call of each cell and engine finds empty caches of kernels.
        linear_shape: B, I, H of the cost against T; None: it is not measured.
        linear_steps: the T of it.
        limit: seconds after which one measurement is given up.
        separate: whether each measurement has a process of its own; without, memory and cold
            caches cannot be had.
    """

    cells: dict[str, CellFactory]
    engines: Sequence[str]
    shapes: Sequence[Shape]
    reference: str | None = None
    dtype: str = "float32"
    threads: int | None = None
    seconds: float = 3.0
    pairs: int | None = None
    seed: int = 0
    memory: bool = True
    cold: bool = True
    linear_shape: tuple[int, int, int] | None = None
    linear_steps: Sequence[int] = ()
    limit: float = 600.0
    separate: bool = True

    def __post_init__(self) -> None:
        if self.reference not in (None, *REFERENCES):
            raise ValueError(
                f"reference: expected one of {', '.join(REFERENCES)}, got {self.reference!r}"
            )
        if not self.separate and (self.memory or self.cold):
            raise ValueError("memory and cold need separate=True")


def nearest(factory: CellFactory) -> str:
    """The kind of torch.nn that a cell is compared with.

    "lstm" for a memory apart from the output or four gates and more, "gru" for two or three
    gates, else "rnn". The gates are counted in what `project` gives, by the number of units.
    """
    cell = factory(2, 8).double()
    x = torch.zeros(1, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        gates = cell.project(x).flatten(2).shape[2] / 8
        fields = cell.initial_state(1, x)._fields
    if "c" in fields or gates >= 4:
        return "lstm"
    return "gru" if gates >= 2 else "rnn"


def bench(plan: Plan, starting: Callable[[str], None] | None = None) -> Iterator[tuple[str, Row]]:
    """("rows", row) for each cell, engine and shape, then ("linear", row) for the cost against T.

    A row that cannot be measured has its "reason". `starting` is told what comes next.
    """
    announce = starting or (lambda _: None)
    baseline: dict[tuple[str, Shape], dict[str, Any]] = {}
    for name, factory in plan.cells.items():
        try:
            reference = plan.reference or nearest(factory)
        except Exception as error:
            for engine in plan.engines:
                yield "rows", {"cell": name, "engine": engine, "reason": f"{error}"}
            continue
        for engine in plan.engines:
            with _caches(plan.cold) as environment:
                for shape in plan.shapes:
                    job = _job(plan, factory, engine, reference, shape)
                    title = f"{name} · {engine} · {','.join(map(str, shape))}"
                    yield "rows", _row(plan, job, name, environment, baseline, title, announce)
                if plan.linear_shape is not None:
                    shape = (max(plan.linear_steps), *plan.linear_shape)
                    job = _job(plan, factory, engine, reference, shape)
                    announce(f"{name} · {engine} · T up to {shape[0]}")
                    yield "linear", _linear(plan, job, name, environment)


def _job(plan: Plan, factory: CellFactory, engine: str, reference: str, shape: Shape) -> Job:
    return Job(
        kind="times",
        factory=factory,
        engine=engine,
        reference=reference,
        shape=shape,
        dtype=plan.dtype,
        threads=plan.threads,
        seconds=plan.seconds,
        pairs=plan.pairs,
        seed=plan.seed,
    )


def _row(
    plan: Plan,
    job: Job,
    name: str,
    environment: dict[str, str],
    baseline: dict[tuple[str, Shape], dict[str, Any]],
    title: str,
    announce: Callable[[str], None],
) -> Row:
    row: Row = {
        "cell": name,
        "engine": job.engine,
        "shape": list(job.shape),
        "reference": job.reference,
        "reason": None,
    }
    announce(f"{title} · time")
    row |= _run(plan, job, environment)
    if row["reason"] is None and plan.memory:
        announce(f"{title} · memory")
        row["memory"] = _memory(plan, job, environment, baseline)
    return row


def _memory(
    plan: Plan,
    job: Job,
    environment: dict[str, str],
    baseline: dict[tuple[str, Shape], dict[str, Any]],
) -> dict[str, Any]:
    mine = _run(plan, replace(job, kind="memory"), environment)
    key = (job.reference, job.shape)
    if key not in baseline:
        baseline[key] = _run(plan, replace(job, kind="memory", factory=None), environment)
    theirs = baseline[key]
    reason = mine.get("reason") or theirs.get("reason")
    if reason is not None:
        return {"reason": reason}
    return {
        "reason": None,
        "bytes": mine["bytes"],
        "reference_bytes": theirs["bytes"],
        "ratio": mine["bytes"] / theirs["bytes"] if theirs["bytes"] else None,
        "later_first_call_s": mine["first_call_s"],
    }


def _linear(plan: Plan, job: Job, name: str, environment: dict[str, str]) -> Row:
    lengths = tuple(sorted(plan.linear_steps))
    found = _run(plan, replace(job, kind="length", lengths=lengths), environment)
    row: Row = {
        "cell": name,
        "engine": job.engine,
        "shape": list(job.shape[1:]),
        "reason": None,
        **found,
    }
    if row["reason"] is None:
        row["slope"] = slope(row["steps"], row["seconds"])
    return row


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line through (log x, log y) by least squares: 1 where y grows as x."""
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    above = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return above / sum((p - mean_a) ** 2 for p in a)


class _caches:
    """An environment whose caches of kernels are empty, for as long as the block lasts."""

    def __init__(self, cold: bool) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="seqmodels-bench-") if cold else None

    def __enter__(self) -> dict[str, str]:
        if self.folder is None:
            return {}
        names = ("TORCHINDUCTOR_CACHE_DIR", "SEQMODELS_CACHE", "XDG_CACHE_HOME")
        return {name: str(Path(self.folder.name) / name.lower()) for name in names}

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            self.folder.cleanup()


def _run(plan: Plan, job: Job, environment: dict[str, str]) -> dict[str, Any]:
    """One measurement, in a process of its own unless the plan wants it here."""
    if not plan.separate:
        return measure(job)
    try:
        message = pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return {"reason": f"the cell cannot be sent to another process: {error}"}
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if job.kind == "memory":
        variables |= ENVIRONMENT
    process = subprocess.Popen(
        [sys.executable, "-m", "seqmodels.analysis.bench_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=variables,
    )
    try:
        out, err = process.communicate(message, timeout=plan.limit)
    except subprocess.TimeoutExpired:
        return {"reason": f"took more than {plan.limit:g} s"}
    finally:  # an interrupt ends the child too
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines() or ["no message"]
        return {"reason": f"the process ended with status {process.returncode}: {lines[-1]}"}
    answer: dict[str, Any] = json.loads(out)
    return answer


__all__ = ["FORMAT", "REFERENCES", "Plan", "bench", "nearest", "slope"]
