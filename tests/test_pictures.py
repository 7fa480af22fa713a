"""Pictures of what was measured, for every kind of cell and layer."""

from __future__ import annotations

import io
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cell_cases import CASES, Case
from seqmodels.analysis import pictures
from seqmodels.analysis.courses import courses
from seqmodels.analysis.describe import LayerReport, describe_layers
from seqmodels.cells import LSTMCell, RNNCell
from seqmodels.layers import Dilated, Recurrent, Stacked


def answer(outputs: Tensor) -> Tensor:
    return outputs.square().sum()


def measured(model: nn.Module, width: int = 3) -> tuple[dict[str, LayerReport], dict[str, Tensor]]:
    torch.manual_seed(0)
    x = torch.randn(2, 9, width, dtype=torch.float64)
    found = describe_layers(model, x, loss=answer, spectra=True, lags=(1, 4), points=3)
    return found, {name: course.outputs for name, course in courses(model, x).items()}


# The first case of each kind of cell: the one that its configuration file describes.
FIRST = list({case.kind: case for case in reversed(CASES)}.values())


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.name)
def test_every_cell_has_pictures(case: Case) -> None:
    layers, paths = measured(Recurrent(case.make(), engine="eager"))
    (report,) = layers.values()
    assert (pictures.gate_histograms(layers) is None) == (not report.gates)
    (curve, *_) = pictures.gradient_by_lag(layers).axes  # type: ignore[union-attr]
    (line,) = curve.get_lines()
    assert [float(y) for y in line.get_ydata()] == pytest.approx(report.norm_by_lag)
    plane, variance = pictures.states(layers, paths).axes[::-1]
    assert len(variance.patches) == len(report.states.variances) and plane.lines
    spectra = pictures.jacobian_spectra(layers)
    if report.spectrum is None:
        assert spectra is None and report.notes
    else:
        dots = spectra.axes[0].collections[0].get_offsets()  # type: ignore[union-attr]
        assert dots.tolist() == [list(pair) for pair in report.spectrum.eigenvalues]


def test_many_layers_and_gates_are_drawn() -> None:
    cells = partial(Stacked, 3, cell=[LSTMCell, RNNCell] * 3, hidden_size=4, num_layers=6)
    layers, paths = measured(cells(layer=partial(Recurrent, engine="eager")).double())
    gates = pictures.gate_histograms(layers)
    assert gates is not None
    shown = [axis.get_title() for axis in gates.axes if axis.get_visible()]
    assert shown[:4] == [f"layers.0, {gate}" for gate in "fgio"]
    assert len(shown) == sum(len(report.gates) for report in layers.values())
    drawn = [axis for axis in pictures.states(layers, paths).axes if axis.get_visible()]
    assert len(drawn) == 2 * 6
    buffer = io.BytesIO()
    gates.savefig(buffer, format="png", dpi=30)
    assert buffer.getvalue().startswith(b"\x89PNG")


def test_dilated_layers_have_a_picture_of_their_gradient() -> None:
    layer = Dilated(Recurrent(RNNCell(3, 4), engine="eager"), 2).double()
    layers, _ = measured(layer)
    figure = pictures.gradient_by_lag(layers)
    assert figure is not None
    (line,) = figure.axes[0].get_lines()
    # Joined over the lags that have one: points with gaps between them would not be seen.
    assert list(line.get_xdata()) == [0, 2, 4, 6, 8] and line.get_marker() == "o"


def rows(**norms: list[list[float | None]]) -> list[dict[str, Any]]:
    count = len(next(iter(norms.values())))
    return [
        {"step": 10 * i, "layers": {n: {"norm_by_lag": v[i]} for n, v in norms.items()}}
        for i in range(count)
    ]


def test_gradients_over_training() -> None:
    found = pictures.gradient_over_training(rows(a=[[1.0, 0.1], [2.0, 0.0]], b=[[], []]))
    assert found is not None
    (mesh,) = found.axes[0].collections
    assert mesh.get_array().ravel().tolist() == [1.0, 2.0, 0.1, pictures.LEAST]  # type: ignore[union-attr]
    assert mesh.norm.vmax == 2.0 and found.axes[0].get_title() == "a"
    assert pictures.gradient_over_training(rows(a=[[1.0, 0.1]])) is None
    assert pictures.gradient_over_training([]) is None
    assert pictures.gradient_over_training(rows(b=[[], []])) is None
    # Rows of a resumed run that looked at shorter sequences, a gradient that was not finite, none.
    ragged = pictures.gradient_over_training(rows(a=[[1.0, None, 0.1], [2.0, 0.0]]))
    assert ragged is not None
    flat = ragged.axes[0].collections[0].get_array()
    assert flat is not None and flat.size == 4 and math.isfinite(float(flat.max()))
    assert pictures.gradient_over_training(rows(a=[[0.0, 0.0], [0.0, 0.0]])) is not None


def test_clipping_over_training() -> None:
    told = [
        {"step": 1, "gradient/norm": 3.0, "gradient/norm_after": 1.0, "gradient/clipped_share": 1},
        {"step": 2, "val/loss": 1.0},
        {"step": 3, "gradient/norm": 0.5, "gradient/norm_after": None},
    ]
    figure = pictures.clipping(told)
    assert figure is not None
    before, after = figure.axes[0].get_lines()
    assert list(before.get_ydata()) == [3.0, 0.5]
    assert float(after.get_ydata()[0]) == 1.0 and math.isnan(after.get_ydata()[1])
    assert pictures.clipping([{"step": 2, "val/loss": 1.0}]) is None


def test_states_that_overflow_are_refused() -> None:
    cell = RNNCell(3, 4, nonlinearity="relu")
    with torch.no_grad():
        cell.weight_hh.copy_(3e38 * torch.eye(4))
        cell.weight_ih.abs_().add_(1.0)
    x = torch.ones(2, 9, 3)
    with pytest.raises(ValueError, match="the layer hold NaN or infinite numbers"):
        describe_layers(Recurrent(cell), x)
