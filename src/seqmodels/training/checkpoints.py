"""Checkpoint files: written atomically, read without running anything that is in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqmodels.errors import UserError
from seqmodels.runs import write_atomically

BEST = "best.ckpt"
LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"


def save(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Writes the file whole or not at all: beside its place first, flushed, then renamed."""
    # Into memory first: torch's own writer hides what a full disk answers.
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain values only (`weights_only=True`).

    Raises:
        UserError: the file is missing, truncated, damaged, or holds anything else than plain data.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except Exception as error:  # torch raises many types, by where the damage lies
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"checkpoint {path} cannot be read: truncated, damaged or not a checkpoint ({reason})"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise UserError(f"{path} is not a checkpoint of a training run: it holds no 'state_dict'")
    return content


def load_newest(
    directory: Path, report: Callable[[str], None]
) -> tuple[Path, dict[str, Any]] | None:
    """The last checkpoint that can be read, and its content; None where there is none.

    Args:
        report: told why a newer one was passed over.
    """
    candidates = [directory / name for name in (LAST, PREVIOUS) if (directory / name).exists()]
    for path in candidates:
        try:
            return path, load(path)
        except UserError as error:
            report(str(error))
    if candidates:
        raise UserError(f"no checkpoint in {directory} can be read; start a new run elsewhere")
    return None


def load_weights(model: nn.Module, state_dict: Mapping[str, Any], path: Path) -> None:
    """Copies `state_dict` into the model; UserError where it belongs to another one."""
    own = model.state_dict()
    problems = [f"has no {name}" for name in own if name not in state_dict]
    problems += [f"has {name}, which the model lacks" for name in state_dict if name not in own]
    problems += [
        f"{name} is {tuple(state_dict[name].shape)}, the model's is {tuple(value.shape)}"
        for name, value in own.items()
        if name in state_dict and state_dict[name].shape != value.shape
    ]
    if problems:
        raise UserError(f"checkpoint {path} is from another model: it {'; it '.join(problems[:5])}")
    model.load_state_dict(state_dict)
