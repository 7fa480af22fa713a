"""`seqmodels verify`: checks of one cell, printed as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqmodels.config import check, compose, instantiate
from seqmodels.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from seqmodels.analysis.verify import Check

WIDTH = 110  # where the output is no terminal
WORDS = {
    "passed": "[green]passed[/]",
    "failed": "[bold red]FAILED[/]",
    "skipped": "[yellow]skipped[/]",
    "measured": "measured",
}


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status: 1 where a check fails."""
    cfg = compose("verify", overrides, config_dirs)
    check(cfg)

    from rich.console import Console

    from seqmodels.analysis.verify import verify_one_by_one
    from seqmodels.commands import building

    building.set_threads(cfg.num_threads)
    factory = instantiate(cfg.model.cell)
    _build_once(factory, cfg.input_size, cfg.hidden_size)
    out = Console(width=None if sys.stdout.isatty() else WIDTH)
    err = Console(stderr=True)
    found: list[Check] = []
    with err.status("starting") as status:
        try:
            checks = verify_one_by_one(
                factory,
                input_size=cfg.input_size,
                hidden_size=cfg.hidden_size,
                engines=None if cfg.engines is None else list(cfg.engines),
                speed=None if cfg.speed is None else tuple(cfg.speed),
                seconds=cfg.seconds,
                seed=cfg.seed,
                starting=lambda name: status.update(f"{name} …"),
            )
            for done in checks:
                found.append(done)
        except ValueError as error:
            raise UserError(f"engines: {error}") from None
        finally:  # an interrupt keeps what is known
            status.stop()
            if found:
                name = f"{cfg.model.cell._target_}({cfg.input_size}, {cfg.hidden_size})"
                out.print(table(found, name))
    failed = [c.name for c in found if c.status == "failed"]
    if failed:
        out.print(f"{len(failed)} of {len(found)} checks failed: {', '.join(failed)}", markup=False)
        return 1
    passed = sum(c.status == "passed" for c in found)
    out.print(f"{passed} checks passed, {len(found) - passed} skipped or measured", markup=False)
    return 0


def _build_once(factory: object, input_size: int, hidden_size: int) -> None:
    """A setting that the constructor refuses is the user's to put right, not a failed check."""
    assert callable(factory)
    try:
        factory(input_size, hidden_size)
    except (ValueError, TypeError) as error:
        raise UserError(f"model.cell: {error}") from None


def table(checks: Iterable[Check], title: str) -> Table:
    """One row a check."""
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=escape(title), title_justify="left")
    made.add_column("check", no_wrap=True)
    made.add_column("result", no_wrap=True)
    made.add_column("what was seen", overflow="fold")
    for row in checks:
        made.add_row(escape(row.name), WORDS[row.status], escape(row.detail))
    return made
