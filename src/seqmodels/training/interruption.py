"""Ctrl-C, SIGTERM, SIGUSR1 as a wish to stop at the next step boundary, with a checkpoint."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class InterruptedRunError(Exception):
    """The run stopped because it was asked to; its checkpoint is written."""


class StopRequest:
    """A context in which SIGINT, SIGTERM, SIGUSR1 set `requested`; a second SIGINT stops at once.

    SIGTERM is what a machine that goes down sends, SIGUSR1 what Slurm is told to send before a
    job's time is over (`--signal=USR1@120`).
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may handle signals
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = name
        print(
            f"\nseqmodels: {name}: stopping after this step (or the running validation) with a "
            "checkpoint; Ctrl-C again stops at once",
            file=sys.stderr,
            flush=True,
        )
