"""Who works on a job: a small file beside it, kept fresh as long as somebody does."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType


class Lease:
    """The right to work on one job, for one process at a time on one or many machines.

    The file is made with O_EXCL, so that of two claims one fails; its holder touches it every few
    seconds. One that was not touched for `seconds`, or whose process on this machine is gone, is
    taken away under a lock, so that nobody takes away the new one in its place, and claimed anew.

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
        for _ in range(2):
            try:
                descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                if not self._clear():
                    return False
                continue
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
            self._beat = threading.Thread(target=self._keep_fresh, daemon=True)
            self._beat.start()
            return True
        return False

    def _clear(self) -> bool:
        """Takes away an expired one; False where it is alive."""
        if not self.expired():
            return False
        with self.path.with_name(".lock").open("a") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # ends with the process, also over NFS
            if not self.expired():
                return False
            self.path.unlink(missing_ok=True)
            return True

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
