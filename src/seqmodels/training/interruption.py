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

    Args:
        quiet: say nothing when a signal comes.

    Attributes:
        requested: the signal that came to this process.
        together: whether this process trains with others: then `due` waits until all know, so that
            they stop after the same step.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.requested: str | None = None
        self.together = False
        self._agreed = False
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

    @property
    def due(self) -> str | None:
        """Why the run is to stop at this boundary; None: it is not."""
        if not self.together:
            return self.requested
        return (self.requested or "another process was asked to stop") if self._agreed else None

    def agree(self) -> None:
        """All processes know that one was asked to stop."""
        self._agreed = True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = name
        if self.quiet:
            return
        print(
            f"\nseqmodels: {name}: stopping after this step (or the running validation) with a "
            "checkpoint; Ctrl-C again stops at once",
            file=sys.stderr,
            flush=True,
        )
