"""Kill a small run at random moments, resume it, and compare it with one that was left alone.

    python benchmarks/kills.py 100 [--seed 0] [--keep FOLDER]

Half of the kills fall at random moments of the run's time, half at its file operations (before a
file is opened, renamed, linked or removed), where there is the most to break. Every run is a
process of its own and the kill is SIGKILL; the processes are forked from one that has imported
everything, so that a run takes its own time and no more. One resumed run in four is killed again.

Compared, bit for bit: weights, optimiser, generators and everything else in last.ckpt, the weights
of best.ckpt, every row of metrics.jsonl and the last and best metrics of run.json, all but
`time/…`.
Nothing of a killed run may be left lying about. Status 0: all were the same.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from seqmodels.cli import main as seqmodels

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 60
SETTINGS = (
    "data.batch_size=8",
    "data.seq_len=40",
    "data.eval_batch_size=2",
    "model/cell=gru",
    "model.embedding.size=6",
    "model.layers.hidden_size=8",
    "model.layers.num_layers=2",
    "model.layers.dropout=0.3",
    "trainer.max_steps=24",
    "trainer.val_check_interval=5",
    "trainer.log_every_n_steps=4",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "callbacks.checkpoint.every_n_steps=1",
    "callbacks.analysis.every_n_steps=6",
    "~callbacks.curves",
    "logger=none",
    "num_threads=1",
)
EVENTS = ("open", "os.rename", "os.link", "os.remove", "os.mkdir")


def command(text: Path, run_dir: Path) -> list[str]:
    return ["train", f"data.path={text}", f"run_dir={run_dir}", "resume=true", *SETTINGS]


def start(
    argv: list[str], log: Path, *, kill_at: int | None = None, count: Path | None = None
) -> int:
    """Forks a process that runs the command, and kills itself before file operation `kill_at`."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        place = next(word for word in argv if word.startswith("run_dir=")).partition("=")[2]
        done = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal done
            if event not in EVENTS or not str(arguments[0]).startswith(place):
                return
            if event == "open" and arguments[1] in (None, "r", "rb"):
                return
            if done == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1

        sys.addaudithook(watch)
        status = seqmodels(argv)
        if count is not None:
            count.write_text(json.dumps({"operations": done, "modules": sorted(sys.modules)}))
    finally:
        os._exit(status)


def finish(child: int) -> int | None:
    """The exit status; None where it was killed."""
    _, raw = os.waitpid(child, 0)
    return None if os.WIFSIGNALED(raw) else os.waitstatus_to_exitcode(raw)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if not k.startswith("time/")}


def content(run_dir: Path) -> dict[str, Any]:
    """All of a run that no clock is in."""
    found: dict[str, Any] = {}
    for name in ("last", "best"):
        whole = torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)
        if name == "best":
            whole = {"state_dict": whole["state_dict"], "step": whole["global_step"]}
        for key in ("config", "callbacks", "loops"):  # names of folders; counters of Lightning's
            whole.pop(key, None)
        found[name] = whole
    for name in ("metrics", "analysis"):
        lines = (run_dir / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        found[f"{name}.jsonl"] = [timeless(json.loads(line)) for line in lines]
    record = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    found["record"] = {k: record[k] for k in ("status", "steps", "epochs", "tested_step", "best")}
    found["metrics"] = timeless(record["metrics"])
    files = (str(p.relative_to(run_dir)) for p in run_dir.rglob("*"))
    found["files"] = sorted(name for name in files if "events.out" not in name)
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [name for name in expected if not same(expected[name], found[name])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every-write", action="store_true", help="at each file operation once")
    parser.add_argument("--keep", type=Path, help="put the runs that differ here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    import lightning.pytorch  # noqa: F401 - before the forks

    import seqmodels.commands.train  # noqa: F401

    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="seqmodels-kills-") as folder:
        base = Path(folder)
        (base / "text.txt").write_text(TEXT, encoding="utf-8")
        for name in ("first", "whole"):
            argv = command(base / "text.txt", base / name)
            began = time.monotonic()
            status = finish(start(argv, base / "log", count=base / "count"))
            assert status == 0, (base / "log").read_text()
            duration = time.monotonic() - began
            counted = json.loads((base / "count").read_text())
            for module in counted["modules"]:  # what it imported on its way
                with contextlib.suppress(Exception):
                    importlib.import_module(module)
        writes = counted["operations"]
        expected = content(base / "whole")
        assert not differences(expected, content(base / "first")), "no two runs are the same"
        print(f"left alone: {duration:.1f} s, {writes} file operations", flush=True)
        plans = list(range(writes)) if options.every_write else [None] * options.kills
        bad = killed = again = 0
        for number, fixed in enumerate(plans):
            run_dir, log = base / f"run{number}", base / f"run{number}.log"
            argv = command(base / "text.txt", run_dir)
            status = None
            moments = []
            attempt = 0
            while status is None:
                first = attempt == 0
                kills = first or (fixed is None and attempt == 1 and draw.random() < 0.25)
                attempt += 1
                at = fixed if fixed is not None else draw.randrange(writes)
                if kills and (fixed is not None or draw.random() < 0.5):
                    moments.append(f"file operation {at}")
                    status = finish(start(argv, log, kill_at=at))
                elif kills:
                    wait = draw.uniform(0.0, duration)
                    moments.append(f"{wait:.2f} s")
                    child = start(argv, log)
                    time.sleep(wait)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
                    status = finish(child)
                else:
                    status = finish(start(argv, log))
                if kills and status is None:
                    killed += 1
                    again += not first
            wrong = [f"status {status}"] if status else differences(expected, content(run_dir))
            if wrong:
                bad += 1
                print(
                    f"run {number}, killed at {', '.join(moments)}: {', '.join(wrong)}", flush=True
                )
                if status:
                    print(log.read_text()[-2000:])
                if options.keep is not None:
                    shutil.copytree(run_dir, options.keep / run_dir.name)
            shutil.rmtree(run_dir, ignore_errors=True)
        seconds = time.monotonic() - began
        print(
            f"{len(plans)} runs, {killed} kills ({again} of them of resumed runs): "
            f"{len(plans) - bad} bit-identical, {bad} not; {seconds:.0f} s"
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
