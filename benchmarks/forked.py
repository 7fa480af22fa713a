"""Command lines that must be refused, each in a process forked from one that has all imported.

What a refusal is: status 2, one message of the program and nothing else on standard error, no
traceback, nothing left in the folder where it ran.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from seqmodels.cli import main as seqmodels

LIMIT = 60.0  # seconds of wall clock after which a process hangs
MEMORY = 12 * 2**30  # bytes that a process may ask for: less than would trouble the machine


@dataclass(frozen=True)
class Case:
    """One command line and the files that it finds where it runs.

    Attributes:
        kind: what is wrong with it.
        argv: its words.
        files: contents by their names; None: a folder. A name may lead into a folder.
    """

    kind: str
    argv: tuple[str, ...]
    files: Mapping[str, bytes | None]

    def write(self, folder: Path) -> None:
        """Puts the files into `folder`."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content)


@dataclass(frozen=True)
class Outcome:
    """What came of one: the status (None: killed), what it wrote, what it left, the seconds."""

    status: int | None
    out: str
    err: str
    left: list[str]
    seconds: float

    def complaints(self) -> list[str]:
        """Why this was no proper refusal; empty where it was one."""
        found = []
        if self.status != 2:
            found.append(f"status {self.status}")
        if "Traceback" in self.err or "Traceback" in self.out:
            found.append("a traceback")
        if self.err.count("seqmodels: ") != 1 or not self.err.startswith("seqmodels: "):
            found.append("not one message")
        if len(self.err) > 4000 or len(self.err.strip()) < 25:
            found.append(f"a message of {len(self.err)} characters")
        if self.left:
            found.append(f"left {', '.join(self.left[:3])}")
        return found


def content_of(folder: Path) -> set[str]:
    """The files and folders below it, but for caches of Python."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in names if "__pycache__" not in name}


def judge(case: Case, folder: Path, before: set[str], status: int | None, out: str, err: str,
          seconds: float) -> Outcome:  # fmt: skip
    """The outcome of a case that ran in `folder`, which held `before`."""
    return Outcome(status, out, err, sorted(content_of(folder) - before), seconds)


def run_forked(
    case: Case,
    folder: Path,
    links: Mapping[str, Path] | None = None,
    call: Callable[[list[str]], int] = seqmodels,
) -> Outcome:
    """Runs a case in a process of its own, in a folder made and removed here.

    Args:
        case: what runs.
        folder: must not exist.
        links: files and folders that it finds there too, by their names; read only.
        call: what is given the words.
    """
    folder.mkdir(parents=True)
    for name, target in (links or {}).items():
        (folder / name).symlink_to(target)
    case.write(folder)
    before = content_of(folder)
    out, err = folder.with_suffix(".out"), folder.with_suffix(".err")
    began = time.monotonic()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be(case, folder, out, err, call)
    status = _wait(child, began + LIMIT)
    seconds = time.monotonic() - began
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    outcome = judge(case, folder, before, status, *texts, seconds)
    for path in (out, err):
        path.unlink()
    shutil.rmtree(folder)
    return outcome


def _be(case: Case, folder: Path, out: Path, err: Path, call: Callable[[list[str]], int]) -> None:
    status = 70
    try:
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.setsid()  # so that what it starts ends with it
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        sys.argv = ["seqmodels", *case.argv]
        status = call(list(case.argv))
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _wait(child: int, until: float) -> int | None:
    while True:
        done, raw = os.waitpid(child, os.WNOHANG)
        if done:
            return None if os.WIFSIGNALED(raw) else os.waitstatus_to_exitcode(raw)
        if time.monotonic() > until:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.005)


def report(
    cases: Sequence[tuple[Case, Outcome]],
    show: bool,
    judged: Callable[[Outcome], list[str]] = Outcome.complaints,
) -> int:
    """Prints what was not refused properly, and how many were; how many were not."""
    bad = 0
    for case, outcome in cases:
        complaints = judged(outcome)
        if complaints:
            bad += 1
            print(f"--- {case.kind}: {' '.join(map(repr, case.argv))}: {'; '.join(complaints)}")
            print((outcome.err or outcome.out)[-1500:], flush=True)
        elif show:
            print(f"{case.kind}: {' '.join(case.argv)}\n    {outcome.err.strip()}", flush=True)
    return bad
