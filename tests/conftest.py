"""Settings of every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from seqmodels.engines import ENGINES, Compiled
from seqmodels.engines.kernels import build

# The same kernels, built in half the time.
build.OPTIMISE = "-O1"
# Where several processes run the tests, each has one core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
# Memory that nothing was written to holds NaN, so that reading it is seen.
torch.use_deterministic_algorithms(True)
torch.utils.deterministic.fill_uninitialized_memory = True
# Kernels that the tests build stay with the tests, from one run to the next.
os.environ.setdefault("SEQMODELS_CACHE", str(Path(__file__).parents[1] / ".pytest_cache/kernels"))

# Compiling takes seconds a cell: the tests run the same engine from plain operations, but for a
# few that name a backend.
compiled = ENGINES["compiled"]
assert isinstance(compiled, Compiled)
compiled.backend = "none"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Products this small are no work for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
