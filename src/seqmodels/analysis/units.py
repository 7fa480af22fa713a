"""What the units of a recurrent layer do: gates, time constants, dead units, rank, radius."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from seqmodels.cells import LeakyCell, ReservoirCell
from seqmodels.cells.base import Cell
from seqmodels.cells.operators import BlockDiagonal, Dense, Diagonal
from seqmodels.cells.wrapper import read

CLOSED, OPEN = 0.1, 0.9  # a sigmoid below or above these counts as saturated
SATURATED = 0.9  # of a unit that tanh bounds, |h|

_SQUASHES = ("sigmoid", "tanh", "exp")


class _Squashes(TorchFunctionMode):
    """Remembers every sigmoid, tanh and exponential that is taken while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[tuple[str, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = (resolve_name(func) or "").rpartition(".")[2].rstrip("_")
        if name in _SQUASHES and isinstance(out, Tensor):
            self.taken.append((name, out))
        return out


def gate_activations(cell: Cell[Any], gates_x: Tensor, state: Any) -> dict[str, Tensor]:
    """The values of a cell's gates, for many rows at once.

    No cell has to tell its gates: the update is run, and every sigmoid and tanh in it is a gate or
    a candidate, and so is an exponential that rises with its gate and never leaves [0, 1]. Its name
    is the one of `cell.gates` whose block of gates_x it depends on and no other gate does alone;
    what depends on none of its own (the tanh of an LSTM's output) is left. Where the gate that
    remembers has no such function, it is the coefficient of the linear recurrence, if that lies in
    [0, 1].

    Args:
        cell: any cell.
        gates_x: (R, G), rows of `cell.project`.
        state: the state before each of them, fields (R, ·).

    Returns:
        By name, (R, H). Empty for a cell without any. As the update uses them: of torch's GRU z is
        what is retained; of `slstm` f and i are divided by the larger of what is retained and
        written; of `min_lstm` f is its share f / (f + i), and i is not told apart.
    """
    names, width = cell.gates, cell.hidden_size
    with torch.enable_grad():
        leaf = gates_x.detach().requires_grad_()
        fixed = type(state)(*(field.detach() for field in state))
        with _Squashes() as squashes:
            new = fixed
            for stage in cell.prepare():
                gates_h = stage.operator.apply(read(stage.reads, new))
                new = stage.update(leaf, gates_h, new, *stage.params)
        taken = [(kind, out) for kind, out in squashes.taken if kind != "exp" or _share(out)]
        reliance = [_reliance(*one, leaf, max(len(names), 1), width) for one in taken]
    single = {next(iter(r)) for r in reliance if len(r) == 1}
    found: dict[str, Tensor] = {}
    for (kind, out), own in zip(taken, reliance, strict=True):
        left = own if len(own) == 1 else {k: v for k, v in own.items() if k not in single}
        # Such as sigmoid(a_f − a_i), which is f's: what opens it, not what closes it.
        rising = [k for k, v in left.items() if v > 0]
        if len(rising) == 1 or (len(left) == 1 and kind != "exp"):
            index = rising[0] if len(rising) == 1 else next(iter(left))
            name = names[index] if names else f"{kind}{index}"
            found.setdefault(name, out.detach())
    memory = cell.memory_gate
    if memory is not None and memory not in found:
        linear = cell.linear(gates_x.detach().unsqueeze(0))
        if linear and len(linear[0].a) == 1 and _share(linear[0].a[0]):
            found[memory] = linear[0].a[0].detach()[0].expand(len(gates_x), width)
    return found


def _share(values: Tensor) -> bool:
    return bool((values >= 0).all()) and bool((values <= 1).all())


def _reliance(kind: str, out: Tensor, leaf: Tensor, count: int, width: int) -> dict[int, float]:
    """By the number of each block of gates_x that a unit's value depends on: how, at its own unit.

    A block that moves it by less than a fifth of the strongest is left out: layer normalisation
    over all gates makes each depend a little on every other.
    """
    if not out.requires_grad or out.shape != (len(leaf), width):
        return {}
    slope = 1 - out.square() if kind == "tanh" else out * (1 - out)
    unit = int(slope.detach().mean(0).argmax())  # one that is shut for good depends on nothing
    (grad,) = torch.autograd.grad(out[:, unit].sum(), leaf, retain_graph=True, allow_unused=True)
    if grad is None:
        return {}
    own = grad[:, unit : count * width : width].mean(0)  # (count): at that unit of each block
    most = float(own.abs().max())
    return {k: v for k, v in enumerate(own.tolist()) if abs(v) > 0.2 * most}


@dataclass(frozen=True)
class Gate:
    """One gate over all units, steps and sequences.

    Attributes:
        mean: of its values.
        closed, open: the shares below 0.1 and above 0.9; of a tanh candidate those of |·|.
        histogram: shares in equal bins over [low, 1].
        low: 0 for a sigmoid, −1 for a tanh.
    """

    mean: float
    closed: float
    open: float
    histogram: list[float]
    low: float

    @classmethod
    def of(cls, values: Tensor, bins: int = 40) -> Gate:
        flat = values.detach().float().flatten()
        low = -1.0 if bool((flat < 0).any()) else 0.0
        counts = torch.histc(flat, bins, low, 1.0)
        size = flat.abs() if low < 0 else flat
        return cls(
            mean=float(flat.mean()),
            closed=float((size < CLOSED).float().mean()),
            open=float((size > OPEN).float().mean()),
            histogram=[round(c / max(flat.numel(), 1), 6) for c in counts.tolist()],
            low=low,
        )


def time_constants(
    cell: Cell[Any], gates: dict[str, Tensor], gates_x: Tensor | None = None
) -> Tensor | None:
    """Of each unit, in steps (H); None where the cell has none that could be told.

    Of a leaky unit τ itself, or one over its mean rate 1/τ where the input chooses. Of others
    −1 / log(a), after which e⁻¹ of what was held is left, where a is the mean over rows of the
    modulus of a linear recurrence's coefficient (`Cell.linear`), or else of the memory gate.
    Infinite where nothing is forgotten.

    Args:
        cell: any cell.
        gates: its `gate_activations`.
        gates_x: (R, G), the rows that those are of.
    """
    if (rate := leak_rate(cell)) is not None:
        return 1 / rate
    if isinstance(cell, LeakyCell):  # the input chooses
        return None if gates_x is None else 1 / gates_x.detach()[:, cell.hidden_size :].mean(0)
    linear = None if gates_x is None else cell.linear(gates_x.detach().unsqueeze(0))
    if linear:
        parts = [part.detach().double() for part in linear[0].a]
        size = torch.stack([p.expand(1, 1, *p.shape[-1:]) if p.dim() < 3 else p for p in parts])
        retained = size.square().sum(0).sqrt().flatten(0, 1).mean(0)
    elif cell.memory_gate in gates:
        retained = gates[cell.memory_gate].double().mean(0)
    else:
        return None
    return -1 / retained.clamp(0, 1).log()


def leak_rate(cell: Cell[Any]) -> Tensor | None:
    """1/τ of a leaky cell (H); None for other cells and where the input chooses τ."""
    one = torch.ones(cell.hidden_size, dtype=torch.float64)
    if isinstance(cell, ReservoirCell):
        return one * cell.leak
    if not isinstance(cell, LeakyCell) or cell.time == "input":
        return None
    if cell.time == "per_unit":
        return 1 / cell.time_constants.detach().double().cpu()
    if cell.time == "learned":
        theta = cell.theta.detach().double().cpu()
        return 1 / (1 + nn.functional.softplus(theta))
    return one / cell.tau


@torch.no_grad()
def recurrent_matrices(cell: Cell[Any]) -> dict[str, Tensor]:
    """The square blocks of the recurrent map, one for each gate, (H, H) each, in float64."""
    found = {}
    for number, stage in enumerate(cell.prepare()):
        operator = stage.operator
        if not isinstance(operator, Dense | Diagonal | BlockDiagonal) or stage.reads != ("h",):
            continue
        eye = torch.eye(cell.output_size, dtype=operator.weights[0].dtype)
        eye = eye.to(operator.weights[0].device)
        rows = operator.apply(eye) - operator.apply(torch.zeros_like(eye))  # without the bias
        blocks = torch.split(rows.T.double().cpu(), cell.output_size)  # (G, H) -> G/H × (H, H)
        for index, block in enumerate(blocks):
            if block.shape[0] == block.shape[1]:
                named = cell.gates if number == 0 else ()
                name = named[index] if index < len(named) else f"{number}.{index}"
                found[name] = block
    return found


def spectral_radii(cell: Cell[Any]) -> dict[str, float]:
    """The largest modulus of an eigenvalue of each recurrent block.

    For a leaky cell also "effective": of (1 − 1/τ) I + (1/τ) W, the linearisation at rest.
    """
    blocks = recurrent_matrices(cell)
    radii = {name: _radius(block) for name, block in blocks.items()}
    rate = leak_rate(cell)
    if rate is not None and len(blocks) == 1:
        (block,) = blocks.values()
        radii["effective"] = _radius(torch.diag(1 - rate) + rate.unsqueeze(1) * block)
    return radii


def _radius(matrix: Tensor) -> float:
    if not bool(matrix.isfinite().all()):
        return math.nan
    return float(torch.linalg.eigvals(matrix).abs().max())


@dataclass(frozen=True)
class States:
    """How the units of a layer are used, over all steps and sequences that were seen.

    Attributes:
        dead: how many units do not move: a standard deviation below 1e-3 of the largest unit's.
        saturated: the share of values beyond ±0.9; None where the units are not within ±1.
        rank: the numerical rank of the centred states: singular values above 1e-3 of the largest.
        effective_rank: (Σλ)² / Σλ² with the variances λ along the principal directions: how many
            directions share the variance.
        variances: the share of each of the first 20 principal directions.
    """

    units: int
    dead: int
    saturated: float | None
    rank: int
    effective_rank: float
    variances: list[float]

    @classmethod
    def of(cls, outputs: Tensor) -> States:
        """Args: outputs (R, H), rows of h."""
        rows = outputs.detach().double().cpu()
        deviation = rows.std(0, unbiased=False)
        most = float(deviation.max())
        spectrum = torch.linalg.svdvals(rows - rows.mean(0))
        variance = spectrum.square()
        total = float(variance.sum())
        alive = total > 0
        bounded = float(rows.abs().max()) <= 1.0
        return cls(
            units=rows.shape[1],
            dead=int((deviation <= 1e-3 * most).sum()),
            saturated=float((rows.abs() > SATURATED).double().mean()) if bounded else None,
            rank=int((spectrum > 1e-3 * spectrum[0]).sum()) if alive else 0,
            effective_rank=total**2 / float(variance.square().sum()) if alive else 0.0,
            variances=(variance / total).tolist()[:20] if alive else [],
        )
