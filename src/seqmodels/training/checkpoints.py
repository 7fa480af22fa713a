"""Checkpoint files: written atomically, read without running anything that is in them."""

from __future__ import annotations

import hashlib
import io
import struct
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
# The comment at the end of a checkpoint, which is a ZIP archive: the SHA-256 of all before it.
# torch itself reads a file with changed numbers without a word.
MARK = b"seqmodels-sha256:"
COMMENT = len(MARK) + 64


class DamagedCheckpointError(UserError):
    """A checkpoint that is truncated, was changed, or is none."""


def save(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Writes the file whole or not at all: beside its place first, flushed, then renamed."""
    # Into memory first: torch's own writer hides what a full disk answers.
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)
    path.parent.mkdir(parents=True, exist_ok=True)
    # An archive ends with the length of its comment, which torch leaves at 0.
    content.seek(-2, io.SEEK_END)
    content.write(struct.pack("<H", COMMENT))
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    content.write(MARK + digest.encode("ascii"))
    write_atomically(path, content.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain values only (`weights_only=True`).

    Raises:
        UserError: the file is missing, truncated, was changed, or holds anything else than plain
            data.
    """
    try:
        raw = path.read_bytes()
        _check_sum(raw, path)
        content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no checkpoint {path}") from None
    except DamagedCheckpointError:
        raise
    except Exception as error:  # torch raises many types, by where the damage lies
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedCheckpointError(
            f"checkpoint {path} cannot be read: truncated, damaged or not a checkpoint ({reason})"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise DamagedCheckpointError(
            f"{path} is not a checkpoint of a training run: it holds no 'state_dict'"
        )
    return content


def _check_sum(raw: bytes, path: Path) -> None:
    """Refuses content that is not what was written; a file of other making has no sum."""
    end = raw.rfind(b"PK\x05\x06", -COMMENT - 22) + 22  # of the archive's last record
    if raw[end - 2 : end] != struct.pack("<H", COMMENT):
        return
    sum_of_it = hashlib.sha256(memoryview(raw)[:end]).hexdigest()
    if raw[end:] != MARK + sum_of_it.encode("ascii"):
        raise DamagedCheckpointError(
            f"checkpoint {path} cannot be read: damaged: its SHA-256 is not the one in it"
        )


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
            content = load(path)
        except UserError as error:
            report(str(error))
            continue
        if path.name != LAST:
            report(
                f"what came after step {content['global_step']} is lost: {path} is used, and the "
                "steps since are done again"
            )
        return path, content
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
