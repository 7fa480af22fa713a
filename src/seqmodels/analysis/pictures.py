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
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from seqmodels.analysis.describe import LayerReport, Spectrum
from seqmodels.analysis.units import CLOSED, OPEN

LEAST = 1e-20  # below this a gradient is drawn as nothing
SPAN = 1e10  # the colours of a heat map reach so far below its largest value
NORM = r"$\|\partial L_t / \partial s_{t-k}\|$"


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
    within = name.removeprefix("backbone.").removeprefix("stack.")
    return within.removesuffix(".recurrent") or "layer"


def gradient_by_lag(layers: dict[str, LayerReport]) -> Figure | None:
    """‖∂L_t/∂s_{t−k}‖ over k, one line a layer; None where no layer has any."""
    shown = {n: r.norm_by_lag for n, r in layers.items() if r.norm_by_lag}
    if not shown:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for index, (name, norms) in enumerate(shown.items()):
        # A dilated layer has none but at every d-th lag.
        lags = [k for k, v in enumerate(norms) if math.isfinite(v) and v > LEAST]
        few = "o-" if len(lags) < 20 else "-"  # one value alone makes no line
        axis.plot(lags, [norms[k] for k in lags], few, ms=3, color=colour(index), label=short(name))
    axis.set_yscale("log")
    axis.set_xlabel("lag k: steps before the one whose loss is differentiated")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel(NORM)
    axis.set_title("how much of one loss's gradient is left, so many steps before it")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def gradient_over_training(rows: list[dict[str, Any]]) -> Figure | None:
    """A heat map a layer, lag over training steps, with one scale of colours; black is vanished.

    Args:
        rows: as in analysis.jsonl, by step.

    None where fewer than two rows hold gradients.
    """
    names, kept = norms_over_training(rows)
    if not names:
        return None
    figure, axes = _panels(len(names))
    steps = [row["step"] for row in kept]
    edges = [steps[0], *[(a + b) / 2 for a, b in itertools.pairwise(steps)], steps[-1]]
    tables = []
    for name in names:
        columns = [row["layers"][name]["norm_by_lag"] for row in kept]
        lags = min(map(len, columns))  # a resumed run may look at shorter sequences
        tables.append(np.nan_to_num(np.array([c[:lags] for c in columns], dtype=float).T))
    most = max(float(table.max()) for table in tables)
    scale = LogNorm(max(most / SPAN, LEAST), max(most, 10 * LEAST), clip=True)
    for name, table, axis in zip(names, tables, axes, strict=True):
        mesh = axis.pcolormesh(
            edges, np.arange(len(table) + 1) - 0.5, np.maximum(table, LEAST),
            norm=scale, cmap="magma", shading="flat",
        )  # fmt: skip
        axis.set_title(short(name))
        axis.set_xlabel("training step")
        axis.set_ylabel("lag k")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(mesh, ax=axes, label=NORM, extend="min")
    return figure


def norms_over_training(
    rows: list[dict[str, Any]],
) -> tuple[list[str], list[dict[str, Any]]]:
    """Layers that have a gradient by lag, and the rows that tell it of all of them.

    Neither where fewer than two rows do: there is nothing to compare.
    """
    names = [n for n, r in rows[-1]["layers"].items() if r["norm_by_lag"]] if rows else []
    kept = [r for r in rows if all(r["layers"].get(n, {}).get("norm_by_lag") for n in names)]
    return (names, kept) if names and len(kept) > 1 else ([], [])


def jacobian_spectra(layers: dict[str, LayerReport]) -> Figure | None:
    """Eigenvalues of single steps beside the unit circle, and singular values of the products."""
    shown = {n: r.spectrum for n, r in layers.items() if r.spectrum is not None}
    if not shown:
        return None
    figure = Figure(figsize=(9.5, 3.8 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), (name, spectrum) in zip(grid, shown.items(), strict=True):
        assert spectrum is not None
        _unit_circle(left, spectrum)
        left.set_title(f"{short(name)}: eigenvalues of single steps", fontsize=10)
        logs = np.array(spectrum.log_singular_values) / math.log(10)  # (K, C)
        for index, (share, label) in enumerate(
            ((0.0, "largest"), (0.1, "top tenth"), (0.5, "median"))
        ):
            if logs.size:
                at = min(int(share * logs.shape[1]), logs.shape[1] - 1)
                line = np.where(np.isfinite(logs[:, at]), logs[:, at], np.nan)
                right.plot(spectrum.lags, line, "o-", ms=3, label=label, color=colour(index))
        right.axhline(0, color="gray", lw=1)
        right.set_title(f"{short(name)}: singular values over k steps", fontsize=10)
        right.set_xlabel("steps k")
        right.set_ylabel(r"$\log_{10}\, \sigma(J_t \cdots J_{t-k+1})$")
        right.grid(alpha=0.3)
        if logs.size:
            right.legend()
    return figure


def _unit_circle(axis: Axes, spectrum: Spectrum) -> None:
    values = np.array(spectrum.eigenvalues)  # (P·N, 2)
    times = np.repeat(spectrum.times, len(values) // len(spectrum.times))
    turn = np.linspace(0, 2 * np.pi, 200)
    axis.plot(np.cos(turn), np.sin(turn), color="gray", lw=1)
    dots = axis.scatter(values[:, 0], values[:, 1], c=times, s=5, alpha=0.7, cmap="viridis")
    reach = 1.1 * max(1.0, float(np.abs(values).max()))
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.set_xlabel("real")
    axis.set_ylabel("imaginary")
    axis.figure.colorbar(dots, ax=axis, label="at step")


def gate_histograms(layers: dict[str, LayerReport]) -> Figure | None:
    """Each gate's values, a row a layer, what counts as saturated shaded; None without gates."""
    shown = {n: r.gates for n, r in layers.items() if r.gates}
    if not shown:
        return None
    most = max(map(len, shown.values()))
    figure = Figure(figsize=(max(2.5 * most, 4.0), 2.1 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), most, squeeze=False)
    for axes, (name, gates) in zip(grid, shown.items(), strict=True):
        for spare in axes[len(gates) :]:
            spare.set_visible(False)
        for index, (axis, (gate, found)) in enumerate(zip(axes, gates.items(), strict=False)):
            edges = np.linspace(found.low, 1.0, len(found.histogram) + 1)
            axis.stairs(found.histogram, edges, fill=True, color=colour(index))
            axis.axvspan(OPEN, 1.0, color="gray", alpha=0.15, lw=0)
            axis.axvspan(found.low, CLOSED if found.low == 0 else -OPEN, color="gray", alpha=0.15)
            told = f"< 0.1: {found.closed:.0%}   > 0.9: {found.open:.0%}"
            if found.low < 0:
                told = f"|·| > 0.9: {found.open:.0%}"
            axis.set_title(f"{short(name)}, {gate}", fontsize=9)
            axis.set_xlabel(told, fontsize=8)
            axis.set_xlim(found.low, 1.0)
            axis.tick_params(labelsize=7)
            axis.locator_params(nbins=4)
        axes[0].set_ylabel("share", fontsize=8)
    return figure


def states(layers: dict[str, LayerReport], paths: dict[str, Tensor]) -> Figure:
    """Above, the variance by direction; below, the states in the plane of the first two.

    Args:
        layers: the reports.
        paths: by layer, h (T, B, H).
    """
    columns = min(len(layers), 4)
    turns = math.ceil(len(layers) / columns)
    figure = Figure(figsize=(4.2 * columns, 6.4 * turns), layout="constrained")
    grid = figure.subplots(2 * turns, columns, squeeze=False)
    for axis in grid.ravel()[2 * columns * (turns - 1) :]:
        axis.set_visible(False)
    for index, (name, report) in enumerate(layers.items()):
        turn, column = divmod(index, columns)
        above, below = grid[2 * turn][column], grid[2 * turn + 1][column]
        above.set_visible(True)
        below.set_visible(True)
        own = report.states
        above.bar(range(1, len(own.variances) + 1), own.variances, color=colour(index))
        rank = f"effective rank {own.effective_rank:.1f} of {own.units}"
        above.set_title(f"{short(name)}: {rank}", fontsize=10)
        above.set_xlabel("principal direction")
        above.set_ylabel("share of the variance")
        above.xaxis.get_major_locator().set_params(integer=True)
        _plane(below, paths[name].double().cpu())
    return figure


def _plane(axis: Axes, path: Tensor, last: int = 40) -> None:
    """All states (T, B, H) as dots, and the way of the first sequence through its last steps."""
    centred = path - path.flatten(0, 1).mean(0)
    rows = centred.flatten(0, 1)
    axis.set_xlabel("first direction")
    axis.set_ylabel("second")
    axis.grid(alpha=0.3)
    if rows.shape[1] < 2 or float(rows.abs().max()) == 0.0:
        axis.set_title("no plane: one unit, or states that stand still")
        return
    axes = torch.linalg.svd(rows, full_matrices=False).Vh[:2]
    flat = (centred @ axes.T).numpy()  # (T, B, 2)
    axis.plot(*flat.reshape(-1, 2).T, ".", ms=2, color="gray", alpha=0.4)
    way = flat[-last:, 0]
    axis.plot(*way.T, "-", lw=0.7, color="tab:blue", alpha=0.6)
    axis.scatter(way[:, 0], way[:, 1], c=range(len(way)), cmap="viridis", s=14, zorder=3)
    axis.set_title(f"all states; one sequence's last {len(way)} (late: yellow)", fontsize=9)


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
