"""The loss surface around a cliff, with a clipped and an unclipped descent, as a picture.

    python benchmarks/cliff.py [--start 5.2 -2.3] [--rate 0.1] [--max-norm 1.0] [--out cliff.png]

One unit, s_t = w sigmoid(s_{t-1}) + b over 50 steps, E = (sigmoid(s_50) − 0.7)², as in figure 6 of
Pascanu, Mikolov & Bengio 2013 (`seqmodels.analysis.cliff`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from seqmodels.analysis.cliff import Surface, descend, surface


def draw(found: Surface, wild: Tensor, tame: Tensor, max_norm: float, path: Path) -> None:
    figure = Figure(figsize=(12, 5), layout="constrained")
    left = figure.add_subplot(1, 2, 1, projection="3d")
    w, b, e = found.weights.numpy(), found.biases.numpy(), found.losses.numpy()
    left.plot_surface(
        w[None, :], b[:, None], e, cmap="viridis", rcount=120, ccount=120, lw=0, alpha=0.9
    )
    left.set_xlabel("weight w")
    left.set_ylabel("bias b")
    left.set_zlabel("error E after 50 steps")
    left.view_init(elev=32, azim=-62)
    right = figure.add_subplot(1, 2, 2)
    mesh = right.pcolormesh(w, b, e, norm=LogNorm(1e-4, float(e.max())), cmap="viridis")
    figure.colorbar(mesh, ax=right, label="E")
    for line, colour, name in (
        (wild, "tab:red", "not clipped"),
        (tame, "white", f"norm clipped to {max_norm:g}"),
    ):
        right.plot(line[:, 0], line[:, 1], ".-", color=colour, ms=4, lw=1.2, label=name)
    right.plot(*tame[0, :2], "o", color="black", ms=6)
    right.plot(*tame[-1, :2], "*", color="white", ms=12, mec="black")
    right.set_xlim(w[0], w[-1])
    right.set_ylim(b[0], b[-1])
    far = wild[-1]
    right.set_title(f"unclipped ends at w = {far[0]:.0f}, b = {far[1]:.0f}, E = {far[2]:.3f}")
    right.set_xlabel("weight w")
    right.set_ylabel("bias b")
    right.legend(loc="upper right", facecolor="lightgray")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--start", type=float, nargs=2, default=(5.2, -2.3), help="w and b")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--max-norm", type=float, default=1.0)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path("cliff.png"))
    args = parser.parse_args()
    w, b = args.start
    found = surface((4.2, 5.8), (-2.9, -2.0), 240)
    wild = descend(w, b, rate=args.rate, max_norm=None, updates=args.updates)
    tame = descend(w, b, rate=args.rate, max_norm=args.max_norm, updates=args.updates)
    for name, path in (("not clipped", wild), ("clipped", tame)):
        leap = float((path[1:, :2] - path[:-1, :2]).norm(dim=1).max())
        end = ", ".join(f"{value:.3f}" for value in path[-1].tolist())
        print(f"{name}: ends at (w, b, E) = ({end}), its longest step {leap:.3g}")
    draw(found, wild, tame, args.max_norm, args.out)
    print(args.out)


if __name__ == "__main__":
    main()
