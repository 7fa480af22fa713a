"""What the framework costs: tokens/s of `seqmodels train` beside a bare loop over torch.nn.LSTM.

    python benchmarks/throughput.py [--pairs 5] [--seconds 12] [--only wikitext2] [--cpu-steps 30]

Both train the same sizes on the same tokens with SGD and norm clipping, in processes of their own,
in turn; the ratio of each pair counts, and its median is reported. The framework's figure contains
all that happens between two steps (logging, callbacks, checks for divergence); neither contains
start-up and validation.

With --cpu-steps N it is tokens per second of CPU time, on one thread, over the N steps by which a
longer run of each side outlasts a shorter one: what can be measured on a machine that is busy.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor] | None
SHORT = 5  # steps of the shorter of two runs


@dataclass(frozen=True)
class Shape:
    name: str
    level: str
    steps: int  # T
    batch: int  # B
    hidden: int  # H, and the length of the embedding
    layers: int
    symbols: int  # V
    dropout: float = 0.0  # on the embedding, between the layers and before the head
    tied: bool = False
    experiment: str | None = None  # what the framework's settings are taken from


SHAPES = (
    Shape("words 35,20,200", "word", 35, 20, 200, 2, 10_000),
    Shape("characters 64,64,256", "char", 64, 64, 256, 1, 65),
    # PyTorch's word_language_model example at its default sizes, on a text of WikiText-2's symbols.
    Shape("wikitext2_lstm", "word", 35, 20, 200, 2, 33_278, 0.2, True, "wikitext2_lstm"),
)


def write_text(shape: Shape, folder: Path) -> Path:
    """Random text with exactly V symbols, `<unk>` (and `<eos>`) among them."""
    draw = random.Random(0)
    path = folder / "text.txt"
    if shape.level == "word":
        words = [f"w{i}" for i in range(shape.symbols - 2)]
        tokens = words + draw.choices(words, k=400_000)
        lines = [" ".join(tokens[i : i + 20]) for i in range(0, len(tokens), 20)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        signs = [chr(33 + i) for i in range(shape.symbols - 1)]
        path.write_text("".join(signs + draw.choices(signs, k=3_000_000)), encoding="utf-8")
    return path


class Bare(nn.Module):
    """The model that one writes by hand."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.symbols, shape.hidden)
        self.lstm = nn.LSTM(shape.hidden, shape.hidden, shape.layers, dropout=shape.dropout)
        self.dropout = nn.Dropout(shape.dropout)
        self.head = nn.Linear(shape.hidden, shape.symbols)
        if shape.tied:
            self.head.weight = self.embedding.weight

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """x (T, B), state -> scores (T, B, V), state."""
        hidden, state = self.lstm(self.dropout(self.embedding(x)), state)
        return self.head(self.dropout(hidden)), state


def bare_loop(shape: Shape, seconds: float, steps: int | None = None) -> float:
    """Tokens/s of the loop that one writes by hand; a first quarter of the time is not counted.

    With `steps` it ends after so many, whatever the time.
    """
    torch.manual_seed(0)
    model = Bare(shape)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    streams = torch.randint(shape.symbols, (400_000 // shape.batch, shape.batch))
    state: State = None
    counted, began, start = 0, time.perf_counter(), 0.0
    position, done = 0, 0
    while (elapsed := time.perf_counter() - began) < seconds and done != steps:
        done += 1
        if start == 0.0 and elapsed > seconds / 4:
            start = time.perf_counter()
        if position + shape.steps + 1 > len(streams):
            position, state = 0, None
        x = streams[position : position + shape.steps]  # (T, B)
        y = streams[position + 1 : position + shape.steps + 1]
        position += shape.steps
        optimizer.zero_grad()
        scores, (h, c) = model(x, state)
        state = (h.detach(), c.detach())
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        if start:
            counted += x.numel()
    return counted / (time.perf_counter() - start) if start else float("nan")


def framework(shape: Shape, text: Path, seconds: float, folder: Path) -> float:
    """Tokens/s that a training run logs, the first quarter of the time left out."""
    minutes, rest = divmod(int(seconds), 60)
    ends = ("trainer.max_steps=-1", f"trainer.max_time=00:00:{minutes:02d}:{rest:02d}")
    run_dir = train(shape, text, folder, *ends)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    speeds = [row["time/tokens_per_second"] for row in rows if "time/tokens_per_second" in row]
    counted = speeds[len(speeds) // 4 :]
    return len(counted) / sum(1.0 / speed for speed in counted)  # equal tokens per row


def of_cpu(shape: Shape, run: Callable[[int], object], steps: int) -> float:
    """Tokens per second of CPU time of a process that is called with how many steps to make."""
    spent = []
    for number in (SHORT, SHORT + steps):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(number)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return steps * shape.steps * shape.batch / (spent[1] - spent[0])


def train(shape: Shape, text: Path, folder: Path, *ends: str) -> Path:
    """A training run of the framework; its directory."""
    run_dir = folder / f"run{time.monotonic_ns()}"
    subprocess.run(
        [
            *(sys.executable, "-m", "seqmodels", "train"),
            *([] if shape.experiment is None else [f"experiment={shape.experiment}"]),
            f"data.path={text}",
            f"data.level={shape.level}",
            f"data.batch_size={shape.batch}",
            f"data.seq_len={shape.steps}",
            "data.split=[1.0,0.0,0.0]",
            f"model.embedding.size={shape.hidden}",
            f"model.layers.hidden_size={shape.hidden}",
            f"model.layers.num_layers={shape.layers}",
            f"model.layers.dropout={shape.dropout}",
            f"model.embedding.dropout={shape.dropout}",
            f"model.head.dropout={shape.dropout}",
            f"model.head.tie_weights={str(shape.tied).lower()}",
            "optimizer=sgd",
            "optimizer.lr=0.1",
            "scheduler=none",
            "clip.max_norm=0.25",
            "trainer.log_every_n_steps=10",
            f"run_dir={run_dir}",
            *ends,
        ],
        check=True,
        capture_output=True,
    )
    return run_dir


def pair(shape: Shape, index: int, text: Path, folder: Path, asked: Any) -> tuple[float, float]:
    """The framework's and the bare loop's figure."""
    command = [sys.executable, __file__, "--bare", str(index), "--seconds"]
    if asked.cpu_steps is None:
        command.append(str(asked.seconds))
        alone = subprocess.run(command, check=True, capture_output=True, text=True)
        return framework(shape, text, asked.seconds, folder), float(alone.stdout)

    def bare(steps: int) -> None:
        end = ["3600", "--bare-steps", str(steps)]
        subprocess.run(command + end, check=True, capture_output=True)

    def ours(steps: int) -> None:
        train(shape, text, folder, f"trainer.max_steps={steps}", "num_threads=1")

    return of_cpu(shape, ours, asked.cpu_steps), of_cpu(shape, bare, asked.cpu_steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--only", help="part of a shape's name")
    parser.add_argument("--cpu-steps", type=int, help="tokens per second of CPU time instead")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare-steps", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare is not None:
        if arguments.bare_steps is not None:
            torch.set_num_threads(1)
        print(bare_loop(SHAPES[arguments.bare], arguments.seconds, arguments.bare_steps))
        return
    for index, shape in enumerate(SHAPES):
        if arguments.only is not None and arguments.only not in shape.name:
            continue
        pairs = []
        with tempfile.TemporaryDirectory() as name:
            text = write_text(shape, Path(name))
            for _ in range(arguments.pairs):
                pairs.append(pair(shape, index, text, Path(name), arguments))
        ratios = sorted(ours / bare for ours, bare in pairs)
        ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"{shape.name}: seqmodels {ours:,.0f} tokens/s, bare loop {bare:,.0f}; ratio "
            f"{statistics.median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f}, "
            f"{len(pairs)} pairs)",
            flush=True,
        )


if __name__ == "__main__":
    main()
