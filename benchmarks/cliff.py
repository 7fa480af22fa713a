"""The loss surface around a cliff, with a clipped and an unclipped descent, as a picture.

    python benchmarks/cliff.py [--start 5.2 -2.3] [--rate 0.1] [--max-norm 1.0] [--out cliff.png]

One unit, s_t = w sigmoid(s_{t-1}) + b over 50 steps, E = (sigmoid(s_50) − 0.7)², as in figure 6 of
Pascanu, Mikolov & Bengio 2013 (`seqmodels.analysis.cliff`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from seqmodels.analysis.cliff import descend, surface
from seqmodels.analysis.cliff_picture import BIASES, RATE, START, UPDATES, WEIGHTS, draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--start", type=float, nargs=2, default=START, help="w and b")
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--max-norm", type=float, default=1.0)
    parser.add_argument("--updates", type=int, default=UPDATES)
    parser.add_argument("--out", type=Path, default=Path("cliff.png"))
    args = parser.parse_args()
    w, b = args.start
    found = surface(WEIGHTS, BIASES, 240)
    wild = descend(w, b, rate=args.rate, max_norm=None, updates=args.updates)
    tame = descend(w, b, rate=args.rate, max_norm=args.max_norm, updates=args.updates)
    for name, path in (("not clipped", wild), ("clipped", tame)):
        leap = float((path[1:, :2] - path[:-1, :2]).norm(dim=1).max())
        end = ", ".join(f"{value:.3f}" for value in path[-1].tolist())
        print(f"{name}: ends at (w, b, E) = ({end}), its longest step {leap:.3g}")
    draw(found, wild, tame, args.max_norm).savefig(args.out, dpi=110)
    print(args.out)


if __name__ == "__main__":
    main()
