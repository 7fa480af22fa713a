"""What the result of a run depends on: its configuration, the data, the code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import seqmodels
from seqmodels.config import from_plain

# What does not change a result: where it goes, who is told, how it is watched, how often saved.
NOT_IDENTITY = ("run_dir", "resume", "num_threads", "logger", "callbacks")
NOT_IDENTITY_OF_TRAINER = ("enable_progress_bar", "log_every_n_steps")


def identity(plain: dict[str, Any], data_digest: str, code: str) -> str:
    """A hash of the resolved configuration without paths, loggers and progress, data and code."""
    kept = {key: value for key, value in plain.items() if key not in NOT_IDENTITY}
    kept["trainer"] = {
        key: value for key, value in plain["trainer"].items() if key not in NOT_IDENTITY_OF_TRAINER
    }
    if isinstance(kept.get("data"), dict):
        kept["data"] = {k: v for k, v in kept["data"].items() if k not in ("path", "root")}
    text = json.dumps([kept, data_digest, code], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def data_digest(plain: dict[str, Any]) -> str:
    """Of the data that a resolved configuration names; they are read."""
    from seqmodels.commands import building

    try:
        return str(building.build_data(from_plain(plain)).describe()["digest"])
    except building.USER_MISTAKES as error:
        raise building.user_mistake(error) from error


def code_digest(plain: dict[str, Any]) -> str:
    """Of this package's sources, and of the user's own modules that the configuration names."""
    digest = hashlib.sha256(_package_digest().encode())
    for path in sorted(_own_modules(plain)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _package_digest() -> str:
    folder = Path(seqmodels.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _own_modules(value: Any) -> Iterator[Path]:
    """Files of the `_target_`s that are neither ours nor an installed package's."""
    if isinstance(value, dict):
        target = value.get("_target_")
        if isinstance(target, str) and target.split(".")[0] not in ("seqmodels", "torch"):
            try:
                spec = importlib.util.find_spec(target.rpartition(".")[0])
            except (ImportError, ValueError):
                spec = None
            if spec is not None and spec.origin and Path(spec.origin).is_file():
                yield Path(spec.origin)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _own_modules(part)
