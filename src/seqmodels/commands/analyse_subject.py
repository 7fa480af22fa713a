"""What `seqmodels analyse` looks at: a run's model, sequences and loss, and what it has kept."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seqmodels.analysis.gradients import norms_by_lag, recurrent_layers
from seqmodels.analysis.pictures import norms_over_training
from seqmodels.analysis.piece import long_batch
from seqmodels.commands import building
from seqmodels.config import instantiate
from seqmodels.errors import UserError
from seqmodels.runs import existing_run
from seqmodels.training.checkpoints import BEST, LAST, PREVIOUS, load, load_weights
from seqmodels.training.task import SequenceTask

if TYPE_CHECKING:
    from torch import Tensor, nn

    from seqmodels.analysis.gradients import Term
    from seqmodels.analysis.piece import Piece
    from seqmodels.data.base import DataModule


@dataclass(frozen=True)
class Subject:
    """A trained run and the sequences that are looked at."""

    folder: Path
    cfg: DictConfig
    data: DataModule
    model: nn.Module
    task: SequenceTask
    checkpoint: str
    step: int
    split: str
    piece: Piece
    loss: Term | None


def load_subject(cfg: DictConfig) -> Subject:
    """The run that a configuration of the command names, ready to be looked at.

    Raises:
        UserError: there is no such run, checkpoint or split, or nothing in it to analyse.
    """
    folder, _ = existing_run(cfg.run)
    checkpoint = cfg.checkpoint
    if checkpoint is None:  # a run without validation, or that ended before the first, has no best
        checkpoint = "best" if (folder / "checkpoints" / BEST).exists() else "last"
    run_cfg, data, model, content = building.load_run(folder, checkpoint, lambda stored: stored)
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise UserError(
                f"{building.checkpoint_path(folder, checkpoint)}: {name} holds NaN or infinite "
                "numbers: the run diverged, and there is nothing to analyse; try the other "
                "checkpoint (checkpoint=best|last)"
            )
    if not recurrent_layers(model):
        raise UserError("the model has no recurrent layer: there is nothing to analyse")
    _run_eagerly(model)
    split, loader = _choose(data, cfg.split)
    try:
        task: SequenceTask = instantiate(run_cfg.task)(
            model,
            optimizer=instantiate(run_cfg.optimizer),
            schedule=instantiate(run_cfg.scheduler),
            clip=instantiate(run_cfg.clip),
            data=data,
        )
        batch = long_batch(loader, cfg.steps)
        piece = task.piece(batch, sequences=cfg.sequences, steps=cfg.steps)
    except building.USER_MISTAKES as error:
        raise building.user_mistake(error) from error
    _like(model.eval(), piece)
    return Subject(
        folder=folder,
        cfg=run_cfg,
        data=data,
        model=model,
        task=task,
        checkpoint=checkpoint,
        step=int(content["global_step"]),
        split=split,
        piece=piece,
        loss=_loss(task, piece),
    )


def _run_eagerly(model: nn.Module) -> None:
    """For a few calls of many kinds: building a kernel for each would take longer."""
    for layer, _ in recurrent_layers(model).values():
        layer.engine = "eager"


def _like(model: nn.Module, piece: Piece) -> None:
    """In the type of the numbers that it reads: float64 of a run of that precision."""
    if piece.inputs.is_floating_point():
        model.to(piece.inputs.dtype)


def _choose(data: DataModule, split: str | None) -> tuple[str, Any]:
    loaders = {"valid": data.valid_loader, "train": data.train_loader, "test": data.test_loader}
    for name in ("valid", "train") if split is None else (split,):
        loader = loaders[name]()
        if loader is not None:
            return name, loader
    raise UserError(f"the data of this run has no {split} split: choose another split")


def _loss(task: SequenceTask, piece: Piece) -> Term | None:
    """None, said aloud, where a task of one's own has no loss of a single step."""
    if type(task).loss_at is SequenceTask.loss_at:
        print(
            f"seqmodels: no gradients by lag: {type(task).__name__} has no loss of a single step "
            "(loss_at)",
            file=sys.stderr,
        )
        return None
    return partial(_loss_at, task, piece)


def _loss_at(task: SequenceTask, piece: Piece, outputs: Tensor) -> Tensor:
    return task.loss_at(outputs, piece.targets)


def over_training(own: Subject) -> tuple[str | None, list[dict[str, Any]]]:
    """Gradients by lag at several steps of the training, and where they are from.

    What the run has written down as it went; else of the first weights, which the seed tells, and
    of those in the checkpoints.
    """
    _, rows = norms_over_training(read_rows(own.folder / "analysis.jsonl"))
    if rows:
        return "analysis.jsonl", rows
    if own.loss is None:
        return None, []
    model = building.build_model(own.cfg, own.data).eval()
    _like(model, own.piece)
    _run_eagerly(model)
    at: dict[int, dict[str, Any]] = {}
    for name in (None, BEST, PREVIOUS, LAST):
        step = 0
        if name is not None:
            path = own.folder / "checkpoints" / name
            if not path.exists():
                continue
            content = load(path)
            step = int(content["global_step"])
            load_weights(model, building.model_weights(content), path)
        if step in at or any(not bool(p.isfinite().all()) for p in model.parameters()):
            continue
        try:
            found = norms_by_lag(
                model,
                own.piece.inputs,
                own.loss,
                step=own.piece.step,
                outputs=partial(own.task.read, model, own.piece),
                apart=own.piece.apart,
            )
        except ValueError:  # the reports of the layers say why
            return None, []
        at[step] = {n: {"norm_by_lag": norms.tolist()} for n, norms in found.items()}
    _, rows = norms_over_training([{"step": s, "layers": at[s]} for s in sorted(at)])
    return ("checkpoints" if rows else None), rows


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one of a run's logs; none where it is missing.

    A last line that is not whole, of a run that was killed, is left out.
    """
    if not path.exists():
        return []
    found: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(f"{path}, line {number}: {error}") from None
    return found
