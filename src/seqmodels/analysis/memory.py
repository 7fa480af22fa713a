"""The peak of a process's resident memory on Linux: what C++ allocates outside torch counts too."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")

# For a process that is to be measured, before it starts: large blocks go back to the system when
# they are freed, so that what an earlier call needed does not hide what the next one needs.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


class NotMeasurableError(RuntimeError):
    """This system does not tell a process the peak of its memory."""


def peak_rise(call: Callable[[], object]) -> int:
    """Bytes by which resident memory rises above its value before `call`, at its highest.

    Raises:
        NotMeasurableError: there is no /proc/self/clear_refs that can be written to.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        CLEAR.write_text("5", encoding="ascii")  # the peak begins anew
        before = _kilobytes("VmRSS")
        call()
        return max(0, _kilobytes("VmHWM") - before) * 1024
    except OSError as error:
        raise NotMeasurableError(f"{error.filename}: {error.strerror}") from None


def begin_peak() -> None:
    """From here on `peak` counts, where the system tells."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak() -> int | None:
    """Bytes: the most that was allocated on a GPU, where one was used; else the highest resident
    memory of the process since `begin_peak`; None where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return int(torch.cuda.max_memory_allocated())
    try:
        return _kilobytes("VmHWM") * 1024
    except (OSError, NotMeasurableError):
        return None


def _kilobytes(name: str) -> int:
    for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise NotMeasurableError(f"{STATUS} has no {name}")
