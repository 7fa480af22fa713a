"""Tiny runs of the whole command in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from seqmodels.cli import main

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 60


def write_text(folder: Path, text: str = TEXT) -> Path:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return path


def tiny(path: Path, run_dir: Path, *overrides: str) -> list[str]:
    """Arguments of a run of a second: 8 streams, chunks of 7, 8 units."""
    return [
        "train",
        f"data.path={path}",
        "data.batch_size=8",
        "data.seq_len=7",
        "data.eval_batch_size=2",
        "model.embedding.size=6",
        "model.layers.hidden_size=8",
        "trainer.max_steps=6",
        "trainer.val_check_interval=3",
        "trainer.log_every_n_steps=2",
        "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false",
        "logger=none",
        "~callbacks.curves",
        "~callbacks.samples",
        f"run_dir={run_dir}",
        *overrides,
    ]


def train(path: Path, run_dir: Path, *overrides: str) -> int:
    return main(tiny(path, run_dir, *overrides))


def record(run_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    return content


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """The logged steps without what depends on the clock."""
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in lines
    ]


def checkpoint(run_dir: Path, name: str = "last") -> dict[str, Any]:
    path = run_dir / "checkpoints" / f"{name}.ckpt"
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content
