"""`seqmodels eval`: the metrics of a trained run on a part of its data, or on other data."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seqmodels.config import apply_overrides, check, compose, instantiate, to_plain
from seqmodels.errors import UserError, short
from seqmodels.runs import existing_run, finite, now

if TYPE_CHECKING:
    from torch import nn

    from seqmodels.data.base import DataModule

THETA, WEIGHT = 0.3, 0.1  # of a cache, where it is not said

STAGES = {"train": "train", "valid": "val", "test": "test"}  # as the metrics are named


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status.

    Overrides of `data.` change the run's own configuration: `data.path=OTHER` evaluates on other
    text, read with the run's vocabulary.
    """
    own = [text for text in overrides if not text.lstrip("+~").startswith("data.")]
    of_run = [text for text in overrides if text not in own]
    cfg = compose("eval", own, config_dirs)
    check(cfg)

    def change(stored: DictConfig) -> DictConfig:
        changed = apply_overrides(to_plain(stored), of_run)
        if cfg.batch_size is not None:
            changed = apply_overrides(to_plain(changed), [f"data.eval_batch_size={cfg.batch_size}"])
        changed.trainer.accelerator = cfg.accelerator
        check(changed)
        return changed

    from seqmodels.commands import building
    from seqmodels.data import StreamLoader

    building.set_threads(cfg.num_threads)
    run_dir, record = existing_run(cfg.run)
    run_cfg, data, model, content = building.load_run(run_dir, cfg.checkpoint, change)
    split, loader = _choose(data, cfg.split)
    described = data.describe()
    print(f"{run_dir}, {cfg.checkpoint} checkpoint (step {content['global_step']}), {split} split")
    parts = "streams" if isinstance(loader, StreamLoader) else "batches"
    print(f"data: {described['summary']}, {parts} of {loader.batch_size}")
    if not of_run and described["digest"] != (record["data"] or {}).get("digest"):
        print("seqmodels: the data changed since the run was trained", file=sys.stderr)

    import lightning.pytorch as pl

    from seqmodels.commands.running import quiet_lightning

    quiet_lightning()
    task = instantiate(run_cfg.task)(
        _with_cache(model, cfg),
        optimizer=instantiate(run_cfg.optimizer),
        schedule=instantiate(run_cfg.scheduler),
        clip=instantiate(run_cfg.clip),
        data=data,
    )
    trainer = pl.Trainer(
        accelerator=run_cfg.trainer.accelerator,
        devices=1,
        precision=run_cfg.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run_dir,
    )
    measure = trainer.test if split == "test" else trainer.validate
    told: dict[str, float] = {}
    task.record_metrics = told.update
    measure(task, loader, verbose=False)
    stage = STAGES[split]
    loss = next(value for name, value in told.items() if name.endswith("/loss"))
    # Again by the split's own statistics: Lightning's stages are only two.
    metrics = {f"{stage}/{name}": value for name, value in task.metrics(stage, loss).items()}
    for name, value in metrics.items():
        print(f"{name:28s} {short(value):>10s}")
    row = {
        "date": now(),
        "checkpoint": cfg.checkpoint,
        "step": int(content["global_step"]),
        "split": split,
        "data": described["digest"],
        "overrides": overrides,
        "metrics": finite(metrics),
    }
    try:
        with (run_dir / "evaluations.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise UserError(f"{run_dir}/evaluations.jsonl: {error.strerror}") from None
    return 0


def _with_cache(model: nn.Module, cfg: DictConfig) -> nn.Module:
    if cfg.cache is None:
        return model
    from seqmodels.models import with_cache

    theta = THETA if cfg.cache_theta is None else cfg.cache_theta
    weight = WEIGHT if cfg.cache_weight is None else cfg.cache_weight
    try:
        cached = with_cache(model, size=cfg.cache, theta=theta, weight=weight)
    except ValueError as error:
        raise UserError(str(error)) from None
    print(f"cache: {cfg.cache} words, theta {theta:g}, weight {weight:g}")
    return cached


def _choose(data: DataModule, split: str | None) -> tuple[str, Any]:
    loaders = {"test": data.test_loader, "valid": data.valid_loader, "train": data.train_loader}
    if split is not None and split not in loaders:
        raise UserError(f"split: expected one of {', '.join(loaders)}; got {split!r}")
    for name in [split] if split is not None else ["test", "valid"]:
        loader = loaders[name]()
        if loader is not None:
            return name, loader
    raise UserError(f"the data of this run has no {split or 'test or validation'} split")
