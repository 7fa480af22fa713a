"""What `seqmodels analyse` prints: key figures of the layers, and the files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from seqmodels.analysis.describe import LayerReport

WIDTH = 110  # where the output is no terminal
LAGS = (10, 50)
LEGEND = (
    "radius: of each recurrent block; rank: directions that share the variance, of so many units; "
    "dead: units that do not move; saturated: gates below 0.1 or above 0.9; τ: median time "
    "constant in steps; ∇k: the share of one loss's gradient that is left k steps before it"
)
SHOWS = {
    "gradient_by_lag": "gradient of one loss by lag, a line a layer",
    "gradient_over_training": "the same at several steps of the training, as a heat map",
    "jacobian_spectra": "eigenvalues beside the unit circle, singular values over k steps",
    "gates": "distribution of every gate",
    "states": "directions that share the variance; the states in their plane",
    "clipping": "gradient norm before and after clipping, share clipped",
    "cliff": "why clip: the loss of one unit over weight and bias, two descents (of no run)",
}


def layer_table(layers: dict[str, LayerReport]) -> Table:
    """A row a layer."""
    table = Table(title="recurrent layers", title_justify="left")
    for head in ("layer", "cell"):
        table.add_column(head, no_wrap=True)
    for head in ("radius", "rank", "dead", "saturated", "τ", *(f"∇{lag}" for lag in LAGS)):
        table.add_column(head, justify="right", no_wrap=True)
    for name, report in layers.items():
        radii = [f"{block} {radius:.2f}" for block, radius in report.spectral_radii.items()]
        gates = [
            f"{gate} {found.closed + found.open:.0%}"
            for gate, found in report.gates.items()
            if found.low == 0.0
        ]
        table.add_row(
            escape(name.removeprefix("backbone.").removeprefix("layers.") or "–"),
            escape(report.cell.removesuffix("Cell")) + (" ←" if report.reverse else ""),
            "\n".join(radii) or "–",
            f"{report.states.effective_rank:.1f}/{report.states.units}",
            str(report.states.dead),
            "\n".join(gates) or "–",
            f"{report.time_constants[2]:.1f}" if report.time_constants else "–",
            *(_left(report, lag) for lag in LAGS),
        )
    return table


def _left(report: LayerReport, lag: int) -> str:
    """The share of the gradient at lag 0 that is left."""
    norms = report.norm_by_lag
    return f"{norms[lag] / norms[0]:.0e}" if len(norms) > lag and norms[0] > 0 else "–"


def print_tables(
    table: Table, layers: dict[str, LayerReport], folder: Path, pictures: Sequence[str]
) -> None:
    """Key figures, what could not be measured, files."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    console.print(table)
    console.print(LEGEND)
    for name, report in layers.items():
        for note in report.notes:
            console.print(f"{name}: {note}", markup=False)
    files = Table(title=escape(f"{folder}"), title_justify="left")
    files.add_column("file", no_wrap=True)
    files.add_column("shows", overflow="fold")
    for name in pictures:
        files.add_row(f"{name}.png", SHOWS[name])
    files.add_row("analysis.json", "all the numbers")
    console.print(files)
