"""What was measured of a model's layers, as pictures."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from seqmodels.analysis.describe import LayerReport

LEAST = 1e-20  # below this a gradient is drawn as nothing
SPAN = 1e10  # the colours of a heat map reach so far below its largest value


def colour(index: int) -> Any:
    """The same colours in every picture."""
    return colormaps["tab10"](index % 10)


def _panels(count: int, *, height: float = 3.2, width: float = 4.6) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def short(name: str) -> str:
    """A layer's name without what all have in common."""
    return name.removeprefix("backbone.") or "layer"


def gradient_by_lag(layers: dict[str, LayerReport]) -> Figure | None:
    """‖∂L_t/∂s_{t−k}‖ over k, one line a layer; None where no layer has any."""
    shown = {n: r.norm_by_lag for n, r in layers.items() if r.norm_by_lag}
    if not shown:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for index, (name, norms) in enumerate(shown.items()):
        values = [v if v > LEAST else math.nan for v in norms]
        axis.plot(values, color=colour(index), label=short(name))
    axis.set_yscale("log")
    axis.set_xlabel("lag k: steps before the one whose loss is differentiated")
    axis.set_ylabel(r"$\|\partial L_t / \partial s_{t-k}\|$")
    axis.set_title("how much of one loss's gradient is left, so many steps before it")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def gradient_over_training(rows: list[dict[str, Any]]) -> Figure | None:
    """A heat map a layer, lag over training steps; rows as in analysis.jsonl.

    None where fewer than two rows hold gradients.
    """
    names = [n for n, r in rows[-1]["layers"].items() if r["norm_by_lag"]] if rows else []
    kept = [row for row in rows if names and all(n in row["layers"] for n in names)]
    if not names or len(kept) < 2:
        return None
    figure, axes = _panels(len(names))
    steps = [row["step"] for row in kept]
    edges = [steps[0], *[(a + b) / 2 for a, b in itertools.pairwise(steps)], steps[-1]]
    for name, axis in zip(names, axes, strict=True):
        table = np.array([row["layers"][name]["norm_by_lag"] for row in kept], dtype=float).T
        most = float(np.nan_to_num(table).max())
        if most <= 0.0:
            axis.text(0.5, 0.5, "no gradient", ha="center", transform=axis.transAxes)
            continue
        least = max(most / SPAN, LEAST)
        scale = LogNorm(least, most)
        lags = np.arange(len(table) + 1) - 0.5
        mesh = axis.pcolormesh(
            edges,
            lags,
            np.maximum(np.nan_to_num(table), least),
            norm=scale,
            cmap="magma",
            shading="flat",
        )
        axis.set_title(short(name))
        axis.set_xlabel("training step")
        axis.set_ylabel("lag k")
        figure.colorbar(mesh, ax=axis, label=r"$\|\partial L_t/\partial s_{t-k}\|$")
    return figure


def jacobian_spectra(layers: dict[str, LayerReport]) -> Figure | None:
    """Eigenvalues of single steps beside the unit circle, and singular values of the products."""
    shown = {n: r.spectrum for n, r in layers.items() if r.spectrum is not None}
    if not shown:
        return None
    figure = Figure(figsize=(9.5, 4.0 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), (name, spectrum) in zip(grid, shown.items(), strict=True):
        assert spectrum is not None
        values = np.array(spectrum.eigenvalues)
        turn = np.linspace(0, 2 * np.pi, 200)
        left.plot(np.cos(turn), np.sin(turn), color="gray", lw=1)
        left.plot(values[:, 0], values[:, 1], ".", ms=3, alpha=0.5, color=colour(0))
        reach = 1.1 * max(1.0, float(np.abs(values).max()))
        left.set_xlim(-reach, reach)
        left.set_ylim(-reach, reach)
        left.set_aspect("equal")
        left.set_title(f"{short(name)}: eigenvalues of one step")
        left.set_xlabel("real")
        left.set_ylabel("imaginary")
        logs = np.array(spectrum.log_singular_values) / math.log(10)  # (K, C)
        for share, label in ((0.0, "largest"), (0.1, "top tenth"), (0.5, "median")):
            at = min(int(share * logs.shape[1]), logs.shape[1] - 1)
            line = np.where(np.isfinite(logs[:, at]), logs[:, at], np.nan)
            right.plot(spectrum.lags, line, "o-", ms=3, label=label)
        right.axhline(0, color="gray", lw=1)
        right.set_title(f"{short(name)}: singular values of the product")
        right.set_xlabel("steps k")
        right.set_ylabel(r"$\log_{10} \sigma(J_k \cdots J_1)$")
        right.grid(alpha=0.3)
        right.legend()
    return figure


def gate_histograms(layers: dict[str, LayerReport]) -> Figure | None:
    """The distribution of every gate's values, a panel a layer; None where there are no gates."""
    shown = {n: r.gates for n, r in layers.items() if r.gates}
    if not shown:
        return None
    figure, axes = _panels(len(shown))
    for axis, (name, gates) in zip(axes, shown.items(), strict=True):
        for index, (gate, found) in enumerate(gates.items()):
            edges = np.linspace(found.low, 1.0, len(found.histogram) + 1)
            density = np.array(found.histogram) / (edges[1] - edges[0])
            label = f"{gate} (mean {found.mean:.2f})"
            axis.stairs(density, edges, color=colour(index), label=label, lw=1.5)
        axis.set_title(short(name))
        axis.set_xlabel("value of the gate")
        axis.set_ylabel("density")
        axis.set_ylim(bottom=0)
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    return figure


def states(layers: dict[str, LayerReport], outputs: dict[str, Tensor]) -> Figure:
    """Above, the variance by direction; below, sequences in the plane of the first two.

    Args:
        layers: the reports.
        outputs: by layer, (T, B, H).
    """
    figure = Figure(figsize=(4.6 * len(layers), 7.0), layout="constrained")
    grid = figure.subplots(2, len(layers), squeeze=False)
    for column, (name, report) in enumerate(layers.items()):
        above, below = grid[0][column], grid[1][column]
        own = report.states
        above.bar(range(1, len(own.variances) + 1), own.variances, color=colour(column))
        above.set_title(
            f"{short(name)}: {own.units} units, effective rank {own.effective_rank:.1f}"
        )
        above.set_xlabel("principal direction")
        above.set_ylabel("share of the variance")
        paths = outputs[name].double().cpu()
        rows = paths.flatten(0, 1) - paths.flatten(0, 1).mean(0)
        if rows.shape[1] > 1 and float(rows.abs().max()) > 0:
            plane = torch.linalg.svd(rows, full_matrices=False).Vh[:2]
            flat = (paths - paths.flatten(0, 1).mean(0)) @ plane.T  # (T, B, 2)
            for index in range(min(flat.shape[1], 4)):
                path = flat[:, index].numpy()
                below.plot(path[:, 0], path[:, 1], "-", lw=0.8, color=colour(index), alpha=0.8)
                below.plot(*path[0], "o", ms=4, color=colour(index))
                below.plot(*path[-1], "s", ms=5, color=colour(index))
        below.set_title("four sequences (o first, □ last step)")
        below.set_xlabel("first direction")
        below.set_ylabel("second")
        below.grid(alpha=0.3)
    return figure


def clipping(rows: list[dict[str, Any]]) -> Figure | None:
    """Gradient norms before and after clipping, and how often it engaged; rows of metrics.jsonl."""
    kept = [r for r in rows if r.get("gradient/norm") is not None]
    if not kept:
        return None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    norm, share = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    steps = [row["step"] for row in kept]
    for key, label in (
        ("gradient/norm_max", "largest before"),
        ("gradient/norm", "mean before"),
        ("gradient/norm_after", "mean after"),
    ):
        values = [row.get(key) for row in kept]
        if any(value is not None for value in values):
            norm.plot(steps, [math.nan if v is None else v for v in values], label=label, lw=1.2)
    norm.set_yscale("log")
    norm.set_ylabel("gradient norm")
    norm.legend()
    norm.grid(alpha=0.3)
    engaged = [row.get("gradient/clipped_share") for row in kept]
    share.plot(steps, [math.nan if v is None else v for v in engaged], color="tab:red")
    share.set_ylim(-0.03, 1.03)
    share.set_ylabel("share clipped")
    share.set_xlabel("training step")
    share.grid(alpha=0.3)
    return figure
