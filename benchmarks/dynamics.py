"""Lyapunov exponents and memory against known values, and pictures of dynamics.

    python benchmarks/dynamics.py [--out DIR] [--time 100]

Prints a table of what was measured beside what is published, and writes `dynamics.json` and the
pictures of docs/dynamics.md. Everything in float64, from seed 0.
"""

from __future__ import annotations

import argparse
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from seqmodels.analysis import pictures_dynamics as pictures
from seqmodels.analysis.fixed_points import fixed_points
from seqmodels.analysis.lyapunov import Exponents, flow_exponents, map_exponents
from seqmodels.analysis.portraits import bifurcation, phase_portrait, scaled, unit_plane
from seqmodels.analysis.systems import Autonomous, lorenz, roessler
from seqmodels.cells import RNNCell


def henon(s: Tensor) -> Tensor:
    """x' = 1 - 1.4 x² + y, y' = 0.3 x (Hénon, 1976)."""
    x, y = s.unbind(-1)
    return torch.stack((1 - 1.4 * x * x + y, 0.3 * x), -1)


def network(gain: float, units: int = 100) -> RNNCell:
    """A random tanh network without bias; its weights have the variance gain² / units."""
    torch.manual_seed(0)
    cell = RNNCell(1, units).double()
    with torch.no_grad():
        cell.weight_hh.copy_(gain * torch.randn(units, units).double() / math.sqrt(units))
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    return cell


def measured(time: float) -> dict[str, tuple[Exponents, list[float] | None]]:
    """By system: what was found, and what is published or known."""
    torch.manual_seed(0)
    flows = torch.randn(64, 3, dtype=torch.float64) + torch.tensor([0.0, 1.0, 20.0])
    found: dict[str, tuple[Exponents, list[float] | None]] = {}
    found["Lorenz"] = (flow_exponents(lorenz(), flows, time, 0.01), [0.906, 0.0, -14.57])
    slow = torch.rand(64, 3, dtype=torch.float64)
    found["Rössler"] = (
        flow_exponents(roessler(), slow, time, 0.02, warm_up=100),
        [0.0714, 0.0, -5.3943],
    )
    points = 0.1 * torch.randn(64, 2, dtype=torch.float64)
    found["Hénon"] = (map_exponents(henon, points, round(20 * time)), [0.4192, -1.6232])
    weight = torch.randn(8, 8, dtype=torch.float64) / math.sqrt(8)
    known = torch.linalg.eigvals(weight).abs().log().sort(descending=True).values.tolist()
    found["linear network, 8 units"] = (
        map_exponents(lambda s: s @ weight.T, torch.ones(1, 8, dtype=torch.float64), 1000),
        known,
    )
    return found


def table(found: dict[str, tuple[Exponents, list[float] | None]]) -> str:
    rows = ["| system | measured | standard error | known |", "|---|---|---|---|"]
    for name, (each, known) in found.items():
        shown = [
            ", ".join(f"{v:.4f}" for v in values)
            for values in (each.values.tolist(), each.error.tolist(), known or [])
        ]
        rows.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def draw() -> dict[str, Figure]:
    """The pictures, by file name."""
    made: dict[str, Figure] = {}
    torch.manual_seed(0)
    pair = RNNCell(1, 2).double()
    with torch.no_grad():
        pair.weight_hh.copy_(torch.tensor([[1.5, -0.4], [0.4, 1.5]]))
        pair.bias_ih.zero_()
        pair.bias_hh.zero_()
    f = Autonomous(pair)
    points = fixed_points(f, f.around(256, 1.0))
    portrait = phase_portrait(f, unit_plane((0, 1), f.initial()[0]), points=17, span=(-1.2, 1.2))
    made["portrait"] = pictures.portrait_picture(
        portrait, points, labels=("unit 0", "unit 1"), title="Two tanh units without input"
    )
    single = RNNCell(1, 1).double()
    with torch.no_grad():
        single.weight_hh.fill_(1.0)
        single.bias_ih.zero_()
        single.bias_hh.zero_()
    start = torch.tensor([[0.5], [-0.5]], dtype=torch.float64)
    gains = torch.linspace(-2, 2, 201).tolist()
    made["bifurcation"] = pictures.bifurcation_picture(
        bifurcation(partial(scaled, single, "weight_hh"), gains, start),
        parameter="recurrent weight w",
        title=r"$s_{t+1} = \tanh(w s_t)$: rest, two memories (w > 1), a cycle of two (w < −1)",
    )
    spectra = {}
    for gain in (0.9, 2.0, 3.0):
        own = Autonomous(network(gain))
        spectra[f"g = {gain}"] = map_exponents(own, own.around(4), 2000, warm_up=500)
    made["exponents"] = pictures.exponents_picture(
        spectra, title="Random tanh networks of 100 units, weights of deviation g / 10"
    )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("outputs/dynamics"))
    parser.add_argument("--time", type=float, default=100.0, help="of the flows, units of time")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = measured(args.time)
    print(table(found))
    record: dict[str, Any] = {
        name: each.as_dict() | {"known": known} for name, (each, known) in found.items()
    }
    (args.out / "dynamics.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    for name, figure in draw().items():
        figure.savefig(args.out / f"{name}.png", dpi=110)
        print(args.out / f"{name}.png")


if __name__ == "__main__":
    main()
