"""Errors that are meant for the person at the keyboard, and the suggestions they carry."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something that the user can put right.

    The command line prints the message alone, without a traceback, and exits with status 2.
    The message says what was expected, what came and what to do.
    """

    @classmethod
    def of(cls, problems: Sequence[str], what: str = "the configuration") -> UserError:
        """One error for several problems of `what`; a single one stands alone."""
        if len(problems) == 1:
            return cls(problems[0])
        lines = "".join(f"\n  - {problem}" for problem in problems)
        return cls(f"{len(problems)} problems in {what}:{lines}")


def closest(word: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The candidates that `word` may be a misspelling of, best first, at most `count`."""
    names = set(candidates)
    scored = [(difflib.SequenceMatcher(None, word, name).ratio(), name) for name in sorted(names)]
    best = max(scored, default=(0.0, ""))[0]
    near = sorted((-score, name) for score, name in scored if score >= max(0.6, best - 0.15))
    if not near and len(word) > 1:  # an abbreviation: '32' for '32-true'
        return [name for name in sorted(names) if name.startswith(word)][:count]
    return [name for _, name in near[:count]]


def did_you_mean(suggestions: Sequence[str]) -> str:
    """' (did you mean 'a' or 'b'?)', or nothing without suggestions."""
    if not suggestions:
        return ""
    return f" (did you mean {' or '.join(repr(name) for name in suggestions)}?)"


# What torch says where memory is short, or no machine could have as much.
OF_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")


def memory_problem(error: BaseException) -> str | None:
    """What to do where this says that memory is short; None where it says something else."""
    text = str(error)
    of_torch = isinstance(error, RuntimeError) and any(words in text for words in OF_MEMORY)
    if not isinstance(error, MemoryError) and not of_torch:
        return None
    line = text.splitlines()[0].rpartition("Allocator: ")[2] if text else ""
    reason = f" ({line})" if line else ""
    return f"out of memory{reason}: choose fewer layers or units, or smaller batches"


def short(value: float) -> str:
    """A number for people: four places, or three digits where that would be nothing but zeros."""
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
