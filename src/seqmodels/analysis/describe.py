"""Everything that is measured of a model's recurrent layers, gathered from one call."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.analysis.courses import Course, courses
from seqmodels.analysis.gradients import Outputs, Term, norms_by_lag, recurrent_layers
from seqmodels.analysis.jacobians import eigenvalues, log_singular_values, step_jacobians
from seqmodels.analysis.units import (
    Gate,
    States,
    gate_activations,
    spectral_radii,
    time_constants,
)
from seqmodels.layers import Recurrent

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_SINGULAR = 64  # values of each product


class NotFiniteError(ValueError):
    """States have overflowed, so that nothing can be told of them."""


@dataclass(frozen=True)
class Spectrum:
    """Jacobians of the whole state along one sequence.

    Attributes:
        times: of the single steps whose eigenvalues were taken, spread evenly over the sequence.
        eigenvalues: theirs, (real, imaginary), equally many for each, in the order of `times`.
        lags: k.
        log_singular_values: of the product over the last k steps, descending, one list for each k;
            the largest 64.
    """

    times: list[int]
    eigenvalues: list[tuple[float, float]]
    lags: list[int]
    log_singular_values: list[list[float]]


@dataclass(frozen=True)
class LayerReport:
    """One recurrent layer; see the classes of its parts.

    Attributes:
        time_constants: their quantiles 0, ¼, ½, ¾, 1 in steps; empty where the cell tells none.
        norm_by_lag: ‖∂L_t/∂s_{t−k}‖ for k = 0, 1, …; empty for a layer that runs backwards, or
            where no loss was given.
        spectrum: None where it was not asked for.
        notes: what could not be measured, and why.
    """

    name: str
    cell: str
    reverse: bool
    gates: dict[str, Gate]
    states: States
    spectral_radii: dict[str, float]
    time_constants: list[float]
    norm_by_lag: list[float]
    spectrum: Spectrum | None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; infinite and NaN numbers are None."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def describe_layers(
    model: nn.Module,
    inputs: Tensor,
    lengths: Tensor | None = None,
    *,
    state: Any = None,
    loss: Term | None = None,
    step: int = -1,
    spectra: bool = False,
    points: int = 8,
    lags: tuple[int, ...] = (1, 2, 5, 10, 20, 50),
    most_units: int = 512,
    outputs: Outputs | None = None,
    apart: tuple[str, ...] = (),
) -> dict[str, LayerReport]:
    """Gates, states, radii, time constants, gradients by lag, Jacobians of every recurrent layer.

    The model runs in evaluation mode on the eager engine, and is afterwards as it was: no gradient,
    no random number, mode or engine has changed.

    Args:
        model: called as model(inputs, state, lengths) -> (outputs, …).
        inputs: (B, T) or (B, T, I).
        lengths: (B,), or None.
        state: before the first step.
        loss: of the outputs (B, ·) of one step, summed over the batch; None leaves out the
            gradients by lag. They are of whole sequences: `lengths` must be None or all T.
        step: of which step the loss is.
        spectra: the Jacobians too, which cost N evaluations a step.
        points: single steps whose eigenvalues are taken, along the first sequence.
        lags: of the products; those longer than the first sequence are left out.
        most_units: layers whose whole state is wider are left out of the spectra, with a note.
        outputs, apart: see `norms_by_lag`.

    Raises:
        ValueError: there is no recurrent layer, or the states are not finite.
    """
    modes = [(module, module.training) for module in model.modules()]
    layers = recurrent_layers(model)
    before = [(layer, layer.engine, layer.engine_used) for layer, _ in layers.values()]
    model.eval()
    for layer, _ in layers.values():
        # What looks inside a layer is another cell, for which a kernel would be compiled first.
        layer.engine = "eager"
    try:
        found = courses(model, inputs, lengths, state, outputs)
        norms: dict[str, Tensor] = {}
        excuse = None
        if loss is not None:
            try:
                norms = norms_by_lag(
                    model, inputs, loss, step=step, state=state, outputs=outputs, apart=apart
                )
            except ValueError as error:
                excuse = f"no gradient by lag: {error}"
        reports = {}
        for name, course in found.items():
            reports[name] = _report(name, *layers[name], course, norms, excuse)
            if name in norms and name.startswith(apart):
                reports[name].notes.append("lags are counted from its last step with a gradient")
            if spectra:
                reports[name] = _with_spectrum(
                    reports[name], layers[name][0], course, points, lags, most_units
                )
        return reports
    finally:
        for module, training in modes:  # some may be in evaluation for good
            module.training = training
        for layer, engine, used in before:
            layer.engine, layer.engine_used = engine, used


def _report(
    name: str,
    layer: Recurrent[Any],
    reverse: bool,
    course: Course,
    norms: dict[str, Tensor],
    excuse: str | None,
) -> LayerReport:
    cell = layer.cell
    gates_x, before = course.rows()
    outputs = course.outputs[course.inside]
    if not all(bool(part.isfinite().all()) for part in (*before, outputs)):
        raise NotFiniteError(f"the states of {name or 'the layer'} hold NaN or infinite numbers")
    inside = course.inside[course.keep]
    gates = {n: v[inside] for n, v in gate_activations(cell, gates_x, before).items()}
    notes = [excuse] if excuse is not None and not reverse else []
    if not gates:
        notes.append(f"no gates: none was found in the update of {type(cell).__name__}")
    with torch.no_grad():
        constants = time_constants(cell, gates, gates_x)
    quantiles: list[float] = []
    if constants is not None:
        finite = constants.double().cpu().clamp(max=1e12)
        quantiles = finite.quantile(torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    return LayerReport(
        name=name,
        cell=type(cell).__name__,
        reverse=reverse,
        gates={gate: Gate.of(gates[gate]) for gate in sorted(gates)},
        states=States.of(outputs),
        spectral_radii=spectral_radii(cell),
        time_constants=quantiles,
        norm_by_lag=norms[name].tolist() if name in norms else [],
        spectrum=None,
        notes=notes,
    )


def _with_spectrum(
    report: LayerReport,
    layer: Recurrent[Any],
    course: Course,
    points: int,
    lags: tuple[int, ...],
    most_units: int,
) -> LayerReport:
    steps, places = int(course.keep[:, 0].sum()), course.places
    # Of the first sequence, or all places of the lines of the first image.
    fields = [part[:steps, :places].flatten(1) for part in course.before]
    states, gates_x = torch.cat(fields, 1), course.gates_x[:steps, :places].flatten(1)
    width = states.shape[1]
    if width > most_units:
        return _without(
            report, f"the state has {width} numbers, more than most_units = {most_units}"
        )
    longest = max((k for k in lags if k <= steps), default=0)
    spread = sorted({round(i * (steps - 1) / max(points - 1, 1)) for i in range(points)})
    wanted = sorted({*spread, *range(steps - longest, steps)})
    try:
        made = step_jacobians(layer.cell, gates_x[wanted], states[wanted])
    except ValueError as error:  # a state that is not of floating numbers alone
        return _without(report, str(error))
    if not bool(made.isfinite().all()):
        return _without(report, "it is not finite")
    at = {t: index for index, t in enumerate(wanted)}
    values = eigenvalues(made[[at[t] for t in spread]]).flatten()
    used = [k for k in lags if k <= steps]
    products = [
        log_singular_values(
            [made[at[t]].unsqueeze(0) for t in range(steps - k, steps)], count=MOST_SINGULAR
        )[0].tolist()
        for k in used
    ]
    pairs = [(float(v.real), float(v.imag)) for v in values]
    return replace(report, spectrum=Spectrum(spread, pairs, used, products))


def _without(report: LayerReport, why: str) -> LayerReport:
    return replace(report, notes=[*report.notes, f"no Jacobian: {why}"])
