"""Command lines and configurations with one mistake each, made from valid ones: all are refused.

    python benchmarks/malformed.py 240 [--seed 0] [--real 12] [--show]

Misspelt keys, wrong types, values out of their range, missing files, contradictions, broken
YAML, for every command and every kind of task. Refused means: status 2, one readable message, no
traceback, nothing left behind. The command lines run in processes forked from one that has imported
everything; a sample (`--real`) in fresh processes, whose seconds are told. Status 0: all were
refused.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from forked import Case, Outcome, content_of, judge, report, run_forked
from malformed_cases import CASES, KINDS, RUNS, runs_to_make
from seqmodels.cli import main as seqmodels


def generate(seed: int, count: int, kinds: tuple[str, ...] = KINDS) -> Iterator[Case]:
    """So many different cases, the kinds in turn; a function of the seed."""
    draw = random.Random(seed)
    seen: set[tuple[str, ...]] = set()
    number = tries = 0
    while number < count and tries < 50 * count:
        tries += 1
        kind = kinds[number % len(kinds)]
        case = CASES[kind](draw)
        if case.argv not in seen or case.files:
            seen.add(case.argv)
            number += 1
            yield case


def make_runs(folder: Path) -> dict[str, Path]:
    """The trained runs that the command lines name, made here."""
    for name, argv in runs_to_make(folder):
        if seqmodels(argv) != 0:
            raise RuntimeError(f"the run {name} could not be made: {argv}")
    return {name: folder / name for name in RUNS}


def really(case: Case, folder: Path, links: dict[str, Path]) -> Outcome:
    """The case in a fresh process, as at a keyboard."""
    folder.mkdir()
    for name, target in links.items():
        (folder / name).symlink_to(target)
    case.write(folder)
    before = content_of(folder)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "seqmodels", *case.argv],
        cwd=folder, env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    seconds = time.monotonic() - began
    return judge(case, folder, before, done.returncode, done.stdout, done.stderr, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", type=int, nargs="?", default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=int, default=0, help="so many in fresh processes too")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind")
    parser.add_argument("--show", action="store_true", help="every message")
    options = parser.parse_args()
    torch.set_num_threads(1)
    import lightning.pytorch  # noqa: F401 - before the forks

    with tempfile.TemporaryDirectory(prefix="seqmodels-malformed-") as place:
        base = Path(place)
        (base / "made").mkdir()
        links = make_runs(base / "made")
        cases = list(generate(options.seed, options.cases, tuple(options.kind or KINDS)))
        began = time.monotonic()
        done: list[tuple[Case, Outcome]] = []
        for number, case in enumerate(cases):
            done.append((case, run_forked(case, base / f"case{number}", links)))
        seconds = time.monotonic() - began
        bad = report(done, options.show)
        slowest = max(outcome.seconds for _, outcome in done)
        print(
            f"{len(done)} malformed command lines of {len({c.kind for c in cases})} kinds: "
            f"{len(done) - bad} refused properly, {bad} not; {seconds:.0f} s, the slowest "
            f"{slowest:.1f} s"
        )
        sample = random.Random(options.seed).sample(cases, min(options.real, len(cases)))
        fresh = [(c, really(c, base / f"real{n}", links)) for n, c in enumerate(sample)]
        if fresh:
            more = report(fresh, options.show)
            times = sorted(outcome.seconds for _, outcome in fresh)
            print(
                f"{len(fresh)} of them in fresh processes: {len(fresh) - more} refused properly; "
                f"median {times[len(times) // 2]:.1f} s, the slowest {times[-1]:.1f} s"
            )
            bad += more
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
