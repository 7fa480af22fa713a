"""Ways to run a cell over a sequence, and the choice among them. All agree with the reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from seqmodels.cells import Cell, S
from seqmodels.engines.base import Engine, EngineError
from seqmodels.engines.compiled import Compiled
from seqmodels.engines.eager import Eager
from seqmodels.engines.generated import Generated
from seqmodels.engines.native import Native
from seqmodels.engines.parallel import Parallel

__all__ = [
    "AUTO",
    "ENGINES",
    "NAMES",
    "Compiled",
    "Eager",
    "Engine",
    "EngineError",
    "Generated",
    "Native",
    "Parallel",
    "check_name",
    "choose",
    "replaced",
]

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (Generated(), Native(), Parallel(), Compiled(), Eager())
}
# What `auto` chooses from, fastest first, where the engine pays; the last runs everything. The
# compiled engine is not in it: it is compiled for half a minute and the generated one is faster.
AUTO: tuple[str, ...] = ("parallel", "generated", "native", "eager")
NAMES: tuple[str, ...] = ("auto", *ENGINES)


# What takes the place of every engine; empty: nothing does.
_INSTEAD: list[Engine] = []


@contextmanager
def replaced(engine: Engine) -> Iterator[None]:
    """While it lasts, every call runs on `engine`, whichever was named: for export."""
    _INSTEAD.append(engine)
    try:
        yield
    finally:
        _INSTEAD.pop()


def check_name(name: str) -> None:
    """Refuse a name that is no engine's.

    Raises:
        ValueError: it is none of `NAMES`.
    """
    if name not in NAMES:
        raise ValueError(f"expected an engine out of {', '.join(NAMES)}, got {name!r}")


def choose(name: str, cell: Cell[S], x: Tensor, state: S | None, keep: Tensor | None) -> Engine:
    """The engine for one call of `cell` on x (T, B, I), state and keep (T, B).

    Args:
        name: "auto" takes the first of `AUTO` that pays for this call and may run it; any other
            name takes that engine or raises.
        cell, x, state, keep: the call, which is checked against the cell (`Cell.check`) first.

    Raises:
        EngineError: the named engine may not run this call; says why and which may.
        ValueError: the name is no engine's, or x, state or keep do not fit the cell.
    """
    check_name(name)
    cell.check(x, state, keep)
    if _INSTEAD:
        reason = _INSTEAD[-1].why_not(cell, x, state, keep)
        if reason is not None:
            raise EngineError(f"{type(cell).__name__}: {reason}")
        return _INSTEAD[-1]
    if name != "auto":
        engine = ENGINES[name]
        reason = engine.why_not(cell, x, state, keep)
        if reason is not None:
            able = [n for n, e in ENGINES.items() if e.why_not(cell, x, state, keep) is None]
            raise EngineError(
                f"engine {name!r} cannot run this call of {type(cell).__name__}: {reason}; "
                f"use {' or '.join(map(repr, ['auto', *able]))}"
            )
        return engine
    for candidate in AUTO:
        engine = ENGINES[candidate]
        if engine.pays(cell, x) and engine.why_not(cell, x, state, keep) is None:
            return engine
    raise AssertionError("the eager engine runs every cell")
