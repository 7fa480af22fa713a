"""Loggers: metrics.jsonl with the record of the last and best values, and TensorBoard."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from seqmodels.runs import Record, finite, higher_is_better, read_rows

# Of the record: where and with what a run ran.
RECORDED = ("command", "started", "versions", "git_commit", "platform", "hostname", "cpu_count",
            "num_threads", "parameters", "data", "baselines")  # fmt: skip


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    """Nested plain values as one level of dotted keys; lists and None as text."""
    result: dict[str, str | int | float | bool] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            result |= flat(value, f"{name}.")
        elif isinstance(value, (str, int, float, bool)):
            result[name] = value
        else:
            result[name] = str(value)
    return result


class RecordLogger(Logger):
    """Appends every logged step to metrics.jsonl; keeps the last and the best values in the record.

    A row is {"step": updates so far, "epoch": epochs finished, then metric: value …}. A value that
    is NaN or infinite is null. Rows that are there already are those of the run's first part.

    Attributes:
        rows: how many there are; a checkpoint holds it, so that a resumed run knows which of them
            it writes again.
    """

    def __init__(self, run_dir: Path, record: Record) -> None:
        super().__init__()
        self.path = run_dir / "metrics.jsonl"
        self.record = record
        record.fields["metrics"], record.fields["best"] = {}, {}
        before = read_rows(self.path)
        self.rows = len(before)
        for row in before:
            values = {k: math.nan if v is None else v for k, v in row.items()}
            values.pop("epoch", None)
            self._keep(values, int(values.pop("step")))

    @property
    def name(self) -> str:
        return "record"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Nothing to do: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None:
            raise ValueError("a metric was logged without its step")
        values = dict(metrics)
        epoch = int(values.pop("epoch", 0))
        row = {"step": step, "epoch": epoch, **finite(values)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows += 1
        self._keep(values, step)

    def _keep(self, values: Mapping[str, float], step: int) -> None:
        last = self.record.fields.setdefault("metrics", {})
        best = self.record.fields.setdefault("best", {})
        for name, value in values.items():
            last[name] = value
            if name.startswith("val/") and _better(name, value, best.get(name)):
                best[name] = {"value": value, "step": step}


def _better(name: str, value: float, best: Mapping[str, Any] | None) -> bool:
    if best is None:
        return value == value
    old = float(best["value"])
    return value > old if higher_is_better(name) else value < old


class TensorBoard(TensorBoardLogger):
    """Event files in the run's own `tensorboard` folder.

    Args:
        run_dir: supplied by the run.
        resume_step: the step from which a resumed run goes on; later points are dropped.
    """

    def __init__(self, run_dir: Path, resume_step: int | None = None) -> None:
        purge = None if resume_step is None else resume_step + 1
        super().__init__(
            save_dir=run_dir,
            name="tensorboard",
            version="",
            default_hp_metric=False,
            purge_step=purge,
        )

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({k: v for k, v in metrics.items() if k != "epoch"}, step)

    @rank_zero_only
    def log_result(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """The hyper-parameters beside the final metrics, on the HPARAMS page."""
        final = {f"final/{name}": value for name, value in metrics.items()}
        self.log_hyperparams(flat(config), final)

    @rank_zero_only
    def log_start(self, config: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """The configuration and the environment, on the TEXT page."""
        environment = {key: record[key] for key in RECORDED if record.get(key) is not None}
        pages = {"configuration": config, "environment": environment}
        for name, content in pages.items():
            text = yaml.safe_dump(finite(content), sort_keys=False, allow_unicode=True)
            # Indented by four: a Markdown page shows it letter for letter.
            page = "\n".join("    " + line for line in text.splitlines())
            self.experiment.add_text(f"run/{name}", page, 0)

    def save(self) -> None:
        """Flushes; config.yaml already holds what Lightning would write into an hparams.yaml."""
        self.experiment.flush()
