"""The cliff as a picture: the loss surface with its wall, and two descents."""

from __future__ import annotations

from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from seqmodels.analysis.cliff import Surface, descend, surface

START, RATE, UPDATES = (5.2, -2.3), 0.1, 60
WEIGHTS, BIASES = (4.2, 5.8), (-2.9, -2.0)


def cliff(max_norm: float = 1.0) -> Figure:
    """One unit over 50 steps, after figure 6 of Pascanu et al. 2013, from the same start twice.

    Args:
        max_norm: what the gradient's norm is cut to on one of the two ways.
    """
    wild = descend(*START, rate=RATE, max_norm=None, updates=UPDATES)
    tame = descend(*START, rate=RATE, max_norm=max_norm, updates=UPDATES)
    return draw(surface(WEIGHTS, BIASES, 240), wild, tame, max_norm)


def draw(found: Surface, wild: Tensor, tame: Tensor, max_norm: float) -> Figure:
    """The surface from the side, and from above with both ways.

    Args:
        found: of `surface`. wild, tame: of `descend`, unclipped and clipped to max_norm.
    """
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
    return figure
