"""Runs as Slurm jobs, on a Slurm that is a few scripts: options, time limits, cancelling."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import tiny

pytest.importorskip("submitit")
SOURCES = str(Path(__file__).parents[1] / "src")

# Each job is a process group of its own, begun at once; PLACE is where its number and end are kept.
SCRIPTS = {
    "sbatch": """
n=$(( $(cat PLACE/n 2>/dev/null || echo 100) + 1 )); echo $n > PLACE/n
export SLURM_JOB_ID=$n SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0
export SLURM_LOCALID=0 SLURM_JOB_NODELIST=here
( setsid bash "${!#}" & echo $! > PLACE/pid_$n; wait $!; echo $? > PLACE/rc_$n ) \\
  < /dev/null > PLACE/out_$n 2>&1 &
echo "Submitted batch job $n"
""",
    "srun": """
while [[ "$1" == -* ]]; do [[ "$1" == --output || "$1" == --error ]] && shift; shift; done
exec "$@"
""",
    "sacct": """
echo "JobID|State|NodeList"
for p in PLACE/pid_*; do
  n=${p##*_}; s=RUNNING; [ -e PLACE/rc_$n ] && s=COMPLETED; echo "$n|$s|here"
done
""",
    "scancel": """
for n in "$@"; do [ -e PLACE/pid_$n ] && kill -TERM -- -$(cat PLACE/pid_$n); done
""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    place = tmp_path / "slurm"
    place.mkdir()
    for name, text in SCRIPTS.items():
        script = place / name
        script.write_text(f"#!/usr/bin/env bash\n{text}".replace("PLACE", str(place)))
        script.chmod(0o755)
    return place


def until(done: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not done():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.1)


@pytest.mark.slow
def test_a_job_at_its_limit_is_sent_again_and_a_cancelled_one_saves(
    tmp_path: Path, slurm: Path
) -> None:
    text, folder = tiny.write_text(tmp_path), tmp_path / "sweep"
    own = tiny.tiny(text, folder, "seed=1,2", "trainer.max_steps=100000")
    words = [w for w in own[1:] if not w.startswith(("run_dir=", "trainer.val_check"))]
    words += ["trainer.val_check_interval=100", "callbacks.checkpoint.every_n_steps=50"]
    words += [f"sweep.dir={folder}", "sweep.launcher=slurm", "sweep.jobs=1"]
    words += ["sweep.minutes=7", "sweep.gpus=1", "sweep.partition=fast", "sweep.slurm.account=lab"]
    process = subprocess.Popen(
        [sys.executable, "-m", "seqmodels", "train", "-m", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": SOURCES,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{slurm}:{os.environ['PATH']}",
        },
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )

    until(lambda: list(folder.glob("seed=1*/checkpoints/last.ckpt")), process)
    group = int((slurm / "pid_101").read_text())
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=True)
    for pid in map(int, found.stdout.split()):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        if name.startswith("python"):
            os.kill(pid, signal.SIGUSR2)  # as Slurm does some time before the limit
    until(lambda: (slurm / "pid_102").exists(), process)
    (run,) = (path.parent for path in folder.glob("seed=1*/run.json"))
    until(lambda: tiny.record(run)["resumed"], process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=180)
    assert process.returncode == 130 and "goes on where it stopped" in said[1], said
    record = tiny.record(run)
    assert record["status"] == "interrupted" and len(record["resumed"]) == 1
    assert not list(folder.glob("seed=2*"))
    script = next((folder / "slurm").glob("101_*.sh")).read_text()
    for line in ("--time=7", "--gpus-per-node=1", "--partition=fast", "--account=lab"):
        assert f"#SBATCH {line}\n" in script
