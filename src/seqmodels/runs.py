"""The run directory: what a run leaves behind, and how it is written.

    config.yaml     the whole resolved configuration
    run.json        status, versions, data digest, parameters, times, metrics
    metrics.jsonl   every logged step
    vocabulary.json the symbols of the data; null where it is no text
    checkpoints/    best.ckpt, last.ckpt and the one before it
    tensorboard/    event files

Every file but metrics.jsonl (one appended line per logged step) is replaced as a whole: a reader
sees the old content or the new, never a part.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from seqmodels import __version__
from seqmodels.errors import UserError

Status = Literal["running", "finished", "failed", "interrupted"]

# Of metrics' names, how those end of which more is better; of all others less is.
HIGHER_IS_BETTER = ("accuracy", "f1", "r2", "solved_length", "valid_time", "exact_match")

RECORDED_PACKAGES = ("torch", "lightning", "hydra-core", "omegaconf", "numpy", "datasets")


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Replaces `path` by a file with this content; a crash leaves the old file whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    raw = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def clear_leftovers(run_dir: Path) -> None:
    """Removes what a killed run was writing: files beside the places they were meant for."""
    kinds = (".*.tmp", ".*.tmp.png", ".probe.*")
    for folder in (run_dir, run_dir / "checkpoints"):
        for path in [path for kind in kinds for path in folder.glob(kind)]:
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """As `write_atomically`; numbers that JSON does not know (NaN, infinities) become null."""
    write_atomically(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same plain structure with NaN and infinities replaced by None, NumPy's floats by ours."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better, by its name."""
    name = re.sub(r"_\d+_steps$", "", metric)  # of one length among several
    return name.endswith(HIGHER_IS_BETTER)


def diverged(reason: object) -> bool:
    """Whether a failed run's reason is that its loss or its gradient was no number any more."""
    return isinstance(reason, str) and ("became" in reason or "loss is" in reason)


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_commit() -> str | None:
    """The commit of the checkout that the package runs from, "+changes" if it differs, or None."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # An installed package may lie inside some other project's repository.
        if git("ls-files", "--error-unmatch", Path(__file__).name) == "":
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def environment() -> dict[str, Any]:
    """What a reader needs to know about where a run ran."""
    versions = {"seqmodels": __version__, "python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        versions[package] = metadata.version(package)
    return {
        "versions": versions,
        "git_commit": git_commit(),
        "platform": platform.platform(),
        "hostname": socket.gethostname(),
        "cpu_count": os.cpu_count(),
        "command": sys.argv,
    }


def create_run_dir(requested: str | None, name: str, *, resume: bool) -> Path:
    """The directory of a run, made here; nothing that lies there already is touched.

    Args:
        requested: the user's `run_dir`; None chooses `outputs/DATE_TIME_NAME`, numbered where two
            runs start in the same second.
        name: a short description for the chosen name.
        resume: the directory may hold a run that is to be continued.
    """
    if requested is None:
        stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        return _create_numbered(Path("outputs"), f"{stamp}_{name}")
    path = Path(requested).expanduser()
    refuse_occupied(path, resume=resume)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write into run_dir={requested}: {error.strerror}") from None
    return path


def not_there(path: Path) -> list[Path]:
    """`path` and the folders above it that do not exist, the innermost first."""
    return [each for each in (path, *path.parents) if not each.exists()]


def take_back(folders: Iterable[Path]) -> None:
    """Removes these folders, the innermost first, as far as nothing else has come into them."""
    for folder in folders:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return


def refuse_occupied(path: Path, *, resume: bool) -> None:
    """Raises UserError where `path` holds something that a new run would mix with or overwrite."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # told where it is made
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL byte in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"run_dir={str(path)[:100]}: {reason}") from None
    if path.exists() and not path.is_dir():
        raise UserError(f"run_dir={path} is a file; give a directory that does not exist yet")
    if not path.exists():
        return
    record = read_record(path)
    if resume and (record is not None or _only_begun(path)):
        return
    if record is not None:
        raise UserError(
            f"{path} already holds a run (status: {record.get('status')}); choose another run_dir, "
            "or continue it with resume=true"
        )
    if any(path.iterdir()):
        raise UserError(f"{path} is not empty and holds no run; choose another run_dir")


def _only_begun(path: Path) -> bool:
    """Whether a run was killed in this directory before it had its record."""
    own = ("config.yaml", "vocabulary.json")
    names = [entry.name for entry in path.iterdir()]
    return all(n in own or n.startswith((".probe.", *(f".{o}." for o in (*own, "run.json"))))
               for n in names)  # fmt: skip


def _create_numbered(parent: Path, name: str) -> Path:
    for number in range(1, 10_000):
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"cannot create {path}: {error.strerror}; choose a place with run_dir=PATH"
            ) from None
        return path
    raise UserError(f"cannot find a free name beside {parent / name}; choose one with run_dir=PATH")


def read_record(run_dir: Path) -> dict[str, Any] | None:
    """The content of run.json; None where there is none. UserError where it cannot be read."""
    path = run_dir / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise UserError(f"{path} is not the record of a run: expected a JSON object")
    return record


def existing_run(run: str) -> tuple[Path, dict[str, Any]]:
    """The directory and the record of the run that the user names."""
    path = Path(run).expanduser()
    if not path.is_dir():
        raise UserError(f"run={run}: there is no such directory")
    record = read_record(path)
    if record is None:
        raise UserError(f"run={run} holds no run.json; give the directory that a training run made")
    return path, record


class Record:
    """run.json while the run goes on: every change is on the disk when the call returns."""

    def __init__(self, run_dir: Path, fields: Mapping[str, Any]) -> None:
        self.path = run_dir / "run.json"
        self.fields: dict[str, Any] = dict(fields)

    def update(self, **fields: Any) -> None:
        self.fields.update(fields)
        write_json(self.path, self.fields)

    def close(self, status: Status, reason: str | None = None) -> None:
        self.update(status=status, reason=reason, ended=now())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, without one that was being written when a run was killed;
    none where there is no file."""
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def truncate_metrics(path: Path, last_step: int, rows: int | None = None) -> None:
    """Drops what a resumed run writes again: the rows beyond the first `rows`, or where that is not
    known those beyond `last_step`."""
    if not path.exists():
        return
    kept = read_rows(path)
    kept = [row for row in kept if row["step"] <= last_step] if rows is None else kept[:rows]
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
