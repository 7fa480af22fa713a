"""Settings of every test."""

from __future__ import annotations

from seqmodels.engines import ENGINES, Compiled

# Compiling takes seconds a cell: the tests run the same engine from plain operations, but for a
# few that name a backend.
compiled = ENGINES["compiled"]
assert isinstance(compiled, Compiled)
compiled.backend = "none"
