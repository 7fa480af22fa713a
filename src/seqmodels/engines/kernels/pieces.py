"""Where the elements of a row lie in runs, which a loop can go through."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from seqmodels.engines.kernels.graph import (
    Constant,
    Indices,
    Moved,
    Node,
    NotPrintable,
    Pointwise,
    Reduced,
)

# More than this mean a layout that has no long runs: a transposition, a stride.
_MOST_PIECES = 256


class Pieces:
    """Cuts elements into runs in which every value below is read in order, or is one number."""

    def __init__(self) -> None:
        self._known: dict[Any, set[int]] = {}

    def of(self, node: Node, at: Indices) -> list[Indices]:
        """The elements `at` of a value, piece by piece.

        Raises:
            NotPrintable: there are too many pieces.
        """
        cuts = sorted(c for c in self._cuts(node, at) if 0 < c < len(at))
        if len(cuts) >= _MOST_PIECES:
            raise NotPrintable(
                "its update reads the units in an order without long runs (a transposition, a "
                "stride, a view as many short rows)"
            )
        return [p for p in np.split(at, cuts) if len(p)]

    def _cuts(self, node: Node, at: Indices) -> set[int]:
        if isinstance(node, Constant) or len(at) < 2:
            return set()
        key = (node, at.tobytes())
        if key in self._known:
            return self._known[key]
        if isinstance(node, Moved):
            source = node.source[at]
            ends = [0, *(np.flatnonzero(np.diff(source)) + 1).tolist(), len(at)]
            cuts = set(ends[1:-1])
            for low, high in itertools.pairwise(ends):
                below = node.args[source[low]]
                cuts |= {low + c for c in self._cuts(below, node.place[at[low:high]])}
        else:
            cuts = _run_ends(at)
            if isinstance(node, Pointwise):
                for number, arg in enumerate(node.args):
                    cuts |= self._cuts(arg, node.places(number, at))
        self._known[key] = cuts
        return cuts


def arguments(node: Node) -> tuple[Node, ...]:
    """What a value is computed from."""
    if isinstance(node, Pointwise | Moved):
        return node.args
    return (node.arg,) if isinstance(node, Reduced) else ()


def _run_ends(at: Indices) -> set[int]:
    """Where a run of equal indices, or of indices that grow by one, ends and another begins."""
    steps = np.diff(at)
    if (steps == 1).all() or (steps == 0).all():
        return set()
    cuts, begin = set(), 0
    for position in [*(np.flatnonzero(np.diff(steps)) + 1).tolist(), len(steps)]:
        # Steps from `begin` to `position` are equal.
        if position <= begin:
            continue
        if steps[begin] in (0, 1):
            if position < len(steps):
                cuts.add(position + 1)
            begin = position + 1
        else:
            cuts |= set(range(begin + 1, position + 1))
            begin = position
    return cuts
