"""Echo state networks beside ReservoirPy, in one process: the same sizes, the same data.

    pip install reservoirpy==0.4.2
    python benchmarks/reservoirs.py [--units 1000] [--steps 20000] [--pairs 3]

Speed: states of a sparse reservoir (10 % of the weights) over a long series, and the ridge readout,
both in float64 (ours also with states in float32); one series, and a batch of 32. Accuracy: the
example of ReservoirPy's README (the
Mackey–Glass series one step ahead, 100 units) with the same settings and ten seeds each.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from seqmodels.analysis.ridge import RidgeStream
from seqmodels.cells import ReservoirCell
from seqmodels.layers import Recurrent


@torch.no_grad()
def ours(cell: ReservoirCell, x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Fit on x (B, T, I), y (B, T, O); the weights."""
    layer = Recurrent(cell).eval()
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    stream = RidgeStream(cell.hidden_size, y.shape[2])
    state = None
    chunk = max(1, 3_000_000 // (x.shape[0] * cell.hidden_size))  # as task=ridge does
    for at in range(0, x.shape[1], chunk):
        states, state = layer(inputs[:, at : at + chunk], state)
        rows = states.transpose(0, 1).flatten(0, 1)
        stream.add(rows, targets[:, at : at + chunk].transpose(0, 1).flatten(0, 1))
    return stream.solve([penalty])[0][0].numpy()


def speed(units: int, steps: int, pairs: int) -> None:
    from reservoirpy.nodes import Reservoir, Ridge

    random = np.random.default_rng(0)
    signal = random.standard_normal((32, steps + 1, 1))
    torch.manual_seed(0)
    cell = ReservoirCell(1, units, leak=0.3, spectral_radius=1.25).double()

    def theirs() -> None:
        model = Reservoir(units, sr=1.25, lr=0.3, rc_connectivity=0.1, seed=0) >> Ridge(ridge=1e-6)
        model.fit(signal[0, :-1], signal[0, 1:])

    calls: dict[str, Callable[[], object]] = {"ReservoirPy": theirs}
    for kind in (torch.float64, torch.float32):
        own = copy.deepcopy(cell).to(kind)
        data = signal.astype(np.float64 if kind == torch.float64 else np.float32)
        ours(own, data[:, :50], data[:, 1:51], 1e-6)  # what is built once is built
        for count in (1, 32):
            x, y = data[:count, :-1], data[:count, 1:]
            calls[f"{count} × {kind}"] = partial(ours, own, x, y, 1e-6)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    theirs_took = statistics.median(times["ReservoirPy"])
    print(f"{units} units, {steps:,} steps: ReservoirPy {theirs_took:.2f} s")
    for name, found in list(times.items())[1:]:
        took, count = statistics.median(found), int(name.split()[0])
        print(f"{name}: {took:.2f} s, {count * theirs_took / took:.2f} times as fast a series")


def accuracy(seeds: int) -> None:
    from reservoirpy import ESN
    from reservoirpy.datasets import mackey_glass

    series = mackey_glass(n_timesteps=2000)
    x, y = series[:-1], series[1:]
    cut = int(0.8 * len(x))
    theirs, own = [], []
    for seed in range(seeds):
        esn = ESN(units=100, sr=1.25, lr=0.3, ridge=1e-5, seed=seed)
        esn.fit(x[:cut], y[:cut], warmup=100)
        said = esn.run(x[cut:])
        theirs.append(float(np.sqrt(np.square(said - y[cut:]).mean())))
        torch.manual_seed(seed)
        # The same settings, their defaults: connectivity, distributions and bias.
        cell = ReservoirCell(
            1, 100, spectral_radius=1.25, leak=0.3, distribution="normal", density=0.1,
            input_distribution="sign", input_density=0.1, bias_scaling=1.0, bias_density=0.1,
        ).double()  # fmt: skip
        with torch.no_grad():
            states, _ = Recurrent(cell)(torch.from_numpy(x)[None])
        stream = RidgeStream(100, 1)
        stream.add(states[0, 100:cut], torch.from_numpy(y[100:cut]))
        v, c = stream.solve([1e-5])
        said = (states[0, cut:] @ v[0].T + c[0]).numpy()
        own.append(float(np.sqrt(np.square(said - y[cut:]).mean())))
    for name, found in (("ReservoirPy", theirs), ("seqmodels", own)):
        print(f"Mackey–Glass one step, RMSE over {seeds} seeds, {name}: median "
              f"{statistics.median(found):.6f}, best {min(found):.6f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    accuracy(args.seeds)
    speed(args.units, args.steps, args.pairs)


if __name__ == "__main__":
    main()
