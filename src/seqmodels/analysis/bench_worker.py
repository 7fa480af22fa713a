"""One measurement in a process of its own: `python -m seqmodels.analysis.bench_worker`.

A pickled `Job` comes on the standard input, one line of JSON goes to the standard output.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqmodels.analysis.memory import NotMeasurableError, peak_rise
from seqmodels.analysis.timing import Pairs, interleave, seconds_of
from seqmodels.cells import Cell
from seqmodels.engines import EngineError, choose
from seqmodels.layers import Recurrent

CellFactory = Callable[[int, int], Cell[Any]]
Shape = tuple[int, int, int, int]  # T, B, I, H
REFERENCES: dict[str, Callable[[int, int], nn.RNNBase]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}
PEAK_STEPS = 3  # training steps over which the peak is taken


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        kind: "times" (beside the reference), "memory", or "length" (a training step at each T).
        factory: of the cell; None measures the memory of the reference itself.
        engine: "auto" or an engine's name.
        reference: "lstm", "gru" or "rnn", of torch.nn.
        shape: T, B, I, H; T is not used by "length".
        dtype: "float32", …
        threads: of torch; None: as torch decides.
        seconds: for each timing.
        pairs: how many; None: as the time allows.
        lengths: the T of "length".
        seed: of weights and inputs.
    """

    kind: Literal["times", "memory", "length"]
    factory: CellFactory | None
    engine: str
    reference: str
    shape: Shape
    dtype: str
    threads: int | None
    seconds: float
    pairs: int | None
    lengths: tuple[int, ...] = ()
    seed: int = 0


class Side:
    """A module with its inputs: one of the two that are compared."""

    def __init__(self, module: nn.Module, x: Tensor, grad: Tensor) -> None:
        self.module = module
        self.x = x.clone().requires_grad_()
        self.grad = grad
        self.weights = [p for p in module.parameters() if p.requires_grad]

    def forward(self) -> Tensor:
        """Outputs alone, without gradients."""
        with torch.no_grad():
            y: Tensor = self.module(self.x)[0]
        return y

    def step(self) -> None:
        """Forward and backward, to the input and to every weight; what comes is dropped."""
        y = self.module(self.x)[0]
        torch.autograd.grad(y, [self.x, *self.weights], self.grad, allow_unused=True)


def ours(job: Job, steps: int) -> Side:
    """The cell in a layer, as it is used: (B, T, I), time-major in memory."""
    assert job.factory is not None
    _, batch, input_size, hidden_size = job.shape
    torch.manual_seed(job.seed)
    dtype = getattr(torch, job.dtype)
    layer = Recurrent(job.factory(input_size, hidden_size).to(dtype), engine=job.engine)
    x = torch.randn(steps, batch, input_size, dtype=dtype)
    grad = torch.randn(steps, batch, layer.output_size, dtype=dtype)
    side = Side(layer, x, grad.transpose(0, 1))  # (T, B, H) -> (B, T, H)
    leaf = side.x
    side.module = _BatchMajor(layer)
    side.x = leaf
    return side


class _BatchMajor(nn.Module):
    """Turns the time-major input into a view as the layer takes it: no copy."""

    def __init__(self, layer: Recurrent[Any]) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer(x.transpose(0, 1))  # (T, B, I) -> (B, T, I)


def theirs(job: Job, steps: int) -> Side:
    """The module of torch.nn, time-major, its fastest way."""
    _, batch, input_size, hidden_size = job.shape
    torch.manual_seed(job.seed)
    dtype = getattr(torch, job.dtype)
    module = REFERENCES[job.reference](input_size, hidden_size).to(dtype)
    x = torch.randn(steps, batch, input_size, dtype=dtype)
    return Side(module, x, torch.randn(steps, batch, hidden_size, dtype=dtype))


def measure(job: Job) -> dict[str, Any]:
    """What the job asks for; {"reason": …} where the cell or the engine refuses."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    measures = {"times": times, "memory": memory, "length": length}
    try:
        return measures[job.kind](job)
    except EngineError as error:  # "engine … cannot run …: reason; use …"
        return {"reason": str(error).partition(": ")[2].rpartition("; use")[0] or str(error)}
    except NotMeasurableError as error:
        return {"reason": str(error)}
    except Exception as error:  # a cell of whoever; the table says what it said
        lines = str(error).strip().splitlines() or [""]
        return {"reason": f"{type(error).__name__}: {lines[0]}".rstrip(": ")}


def times(job: Job) -> dict[str, Any]:
    """The first calls, then forward and training step beside the reference."""
    mine, reference = ours(job, job.shape[0]), theirs(job, job.shape[0])
    first = {"forward": seconds_of(mine.forward), "step": seconds_of(mine.step)}
    limits: dict[str, Any] = {"seconds": job.seconds, "pairs": job.pairs}
    return {
        "engine_used": next(
            m.engine_used for m in mine.module.modules() if isinstance(m, Recurrent)
        ),
        "first_call_s": first["forward"] + first["step"],
        "forward": described(interleave(mine.forward, reference.forward, **limits)),
        "step": described(interleave(mine.step, reference.step, **limits)),
    }


def described(pairs: Pairs) -> dict[str, Any]:
    """Plain numbers: seconds, ratio of medians, quartiles of the ratios of the pairs."""
    return {
        "seconds": pairs.seconds,
        "reference_seconds": pairs.reference_seconds,
        "ratio": pairs.ratio,
        "quartiles": list(pairs.quartiles()),
        "pairs": len(pairs.ours),
    }


def memory(job: Job) -> dict[str, Any]:
    """The rise of resident memory in training steps, after a short sequence as a warm-up.

    The warm-up loads code and makes kernels; its T is 2, so that buffers which an engine keeps
    for the whole length are counted.
    """
    make = theirs if job.factory is None else ours
    short = make(job, 2)
    full = make(job, job.shape[0])
    full.module = short.module
    full.weights = short.weights
    for layer in short.module.modules():
        if isinstance(layer, Recurrent):
            # What `auto` takes for the whole length must be warm, not what it takes for T = 2.
            layer.engine = choose(layer.engine, layer.cell, full.x.detach(), None, None).name
    first = seconds_of(short.step)
    short.forward()

    def steps() -> None:
        for _ in range(PEAK_STEPS):
            full.step()

    return {"bytes": peak_rise(steps), "first_call_s": first}


def length(job: Job) -> dict[str, Any]:
    """Seconds of a training step at each T: the median of what the time allows, at least one."""
    found = []
    module: nn.Module | None = None
    for steps in job.lengths:
        side = ours(job, steps)
        if module is not None:
            side.module, side.weights = module, [p for p in module.parameters() if p.requires_grad]
        module = side.module
        first = seconds_of(side.step)  # the warm-up
        count = 1 if job.pairs == 1 else max(1, min(50, int(job.seconds / max(first, 1e-6))))
        found.append(sorted(seconds_of(side.step) for _ in range(count))[count // 2])
    return {"steps": list(job.lengths), "seconds": found}


def main() -> None:
    """Read the job, measure, answer."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a cell prints is not the answer
    job = pickle.load(sys.stdin.buffer)
    json.dump(measure(job), answer)
    answer.close()


if __name__ == "__main__":
    # The job was pickled with the module's own name.
    from seqmodels.analysis import bench_worker

    bench_worker.main()
