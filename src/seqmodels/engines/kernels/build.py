"""Compiled kernels: built once on a machine, kept in a folder of the user's, loaded by path."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# No operation may trap or set errno, and sums keep their order: what vectors need, and no more.
OPTIMISE = "-O3"
_FLAGS = (
    "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared", "-fno-math-errno",
    "-fno-trapping-math", "-fwrapv", "-w",
)  # fmt: skip
_SECONDS = 120


class BuildError(RuntimeError):
    """The compiler refused a kernel."""


def compiler() -> str | None:
    """The C++ compiler: what CXX names, else g++; None where there is none."""
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))


def cache_dir() -> Path:
    """Where kernels are kept: SEQMODELS_CACHE, else the user's cache directory."""
    if given := os.environ.get("SEQMODELS_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "seqmodels" / "kernels"


def build(text: str) -> ctypes.CDLL:
    """The kernel of a source text: from the cache, or compiled into it.

    Raises:
        BuildError: there is no compiler, it fails or takes too long, or the cache directory
            cannot be written to.
    """
    key = hashlib.sha256("\0".join((text, OPTIMISE, *_FLAGS, _machine())).encode()).hexdigest()[:32]
    path = cache_dir() / f"{key}.so"
    try:
        if not path.exists():
            _compile(text, path)
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"a kernel could not be kept in or loaded from {path}: {error}") from error


def _compile(text: str, path: Path) -> None:
    found = compiler()
    if found is None:
        raise BuildError("there is no C++ compiler")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, made = Path(folder) / "kernel.cpp", Path(folder) / "kernel.so"
        source.write_text(text, encoding="utf-8")
        command = [found, OPTIMISE, *_FLAGS, str(source), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise BuildError(f"{found} took more than {_SECONDS} s") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            raise BuildError(f"{found} failed: {(lines or [done.stderr.strip()])[0]}")
        # Two processes may build the same: the last one wins, and both files are whole.
        made.replace(path)


@functools.cache
def _machine() -> str:
    """What -march=native depends on."""
    found = compiler() or ""
    version = ""
    if found:
        version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return "\0".join((platform.machine(), platform.system(), found, version, flags))
