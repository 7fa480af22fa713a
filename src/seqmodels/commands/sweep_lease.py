"""Who works on a job: a small file beside it, kept fresh as long as somebody does."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


class Lease:
    """The right to work on one job, for one process at a time on one or many machines.

    Its holder touches the file every few seconds. One that was not touched for `seconds`, or whose
    process on this machine is gone, has expired, and is claimed anew. All this is done under a lock
    on a file beside it.

    Args:
        path: of the file.
        seconds: without a sign of life after which it has expired.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._token = ""
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None

    def claim(self) -> bool:
        """Takes it if it is free or expired; whether that worked."""
        self._token = uuid.uuid4().hex
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
        content = json.dumps(holder)
        with self._locked():
            if not self.expired():
                return False
            self.path.unlink(missing_ok=True)
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:  # by one whose lock is not ours, on a disk that has none
                return False
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
        self._beat = threading.Thread(target=self._keep_fresh, daemon=True)
        self._beat.start()
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time looks and changes, so that nobody takes away what another just made."""
        with self.path.with_name(".lock").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # ends with the process, also over NFS
            yield

    def held(self) -> bool:
        """Whether somebody alive holds it."""
        return self.path.exists() and not self.expired()

    def expired(self) -> bool:
        try:
            age = time.time() - self.path.stat().st_mtime
            holder = json.loads(self.path.read_text() or "{}")
        except FileNotFoundError:
            return True
        except ValueError:
            holder = {}
        if age > self.seconds:
            return True
        return holder.get("host") == socket.gethostname() and not _alive(holder.get("pid"))

    def _keep_fresh(self) -> None:
        while not self._stop.wait(min(10.0, self.seconds / 4)):
            if not self._ours():  # this process slept too long, and another took it
                return
            try:
                os.utime(self.path)
            except OSError:
                return

    def release(self) -> None:
        """Gives it back, if it is still ours."""
        self._stop.set()
        with self._locked():
            if self._ours():
                self.path.unlink(missing_ok=True)

    def _ours(self) -> bool:
        try:
            return bool(json.loads(self.path.read_text()).get("token") == self._token)
        except (OSError, ValueError):
            return False

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _alive(pid: object) -> bool:
    if not isinstance(pid, int):
        return True  # it is being written
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
