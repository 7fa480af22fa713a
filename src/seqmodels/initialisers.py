"""Ways to set a model's parameters before training. Each is called with the whole model.

They find the recurrent cells themselves and know them only by `gates`, `memory_gate`, `write_gate`
and torch's parameter names, so they hold for any cell written that way. A cell to which one cannot
apply raises: nothing is left as it was in silence. All draw from torch's global generator.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell
from seqmodels.cells.wrapper import Wrapper


class Initialiser(Protocol):
    def __call__(self, model: nn.Module) -> None:
        """Set parameters of the model in place."""
        ...


class Default:
    """What the modules' constructors did: recurrent cells uniform in ±1/√H, as torch.nn."""

    def __call__(self, model: nn.Module) -> None:
        return None


class Uniform:
    """Every parameter of the model from U(-scale, scale).

    Args:
        scale: > 0; 0.1 in the small model of the reference, 0.05 and 0.04 in its larger ones.

    Reference: Zaremba, Sutskever & Vinyals, "Recurrent neural network regularization", 2014.
    https://arxiv.org/abs/1409.2329
    """

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = _positive("scale", scale)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.uniform_(-self.scale, self.scale)


class Orthogonal:
    """Each gate's recurrent block orthogonal, times gain; input weights Xavier or normal; biases 0.

    Every H×H block of `weight_hh` is drawn from the Haar measure and multiplied by gain: all its
    singular values are gain. Each gate's block of `weight_ih` is uniform in ±√(6/(I+H)), or
    N(0, input_std²).

    Args:
        gain: > 0.
        forget_bias: bias of the memory gate; None leaves it at zero like the others.
        input_std: > 0, standard deviation of `weight_ih`: small ones keep a tanh network near its
            linear range, where an orthogonal map forgets nothing; None: Xavier.

    References: Saxe, McClelland & Ganguli, 2013, https://arxiv.org/abs/1312.6120; Glorot & Bengio,
    AISTATS 2010, https://proceedings.mlr.press/v9/glorot10a.html.
    """

    def __init__(
        self,
        gain: float = 1.0,
        forget_bias: float | None = None,
        input_std: float | None = None,
    ) -> None:
        self.gain = _positive("gain", gain)
        self.forget_bias = None if forget_bias is None else _finite("forget_bias", forget_bias)
        self.input_std = None if input_std is None else _positive("input_std", input_std)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        cells = _cells(model)
        recurrent = [_blocks(cell, "weight_hh") for cell in cells]
        inputs = [_blocks(cell, "weight_ih") for cell in cells]
        if self.forget_bias is not None:
            _check_memory(cells, "Orthogonal(forget_bias=...)")
        for cell, weights_hh, weights_ih in zip(cells, recurrent, inputs, strict=True):
            for block in weights_hh:
                nn.init.orthogonal_(block, self.gain)
            for block in weights_ih:
                if self.input_std is None:
                    nn.init.xavier_uniform_(block)
                else:
                    nn.init.normal_(block, std=self.input_std)
            _zero_biases(cell)
            if self.forget_bias is not None:
                _set_bias(cell, cell.memory_gate, torch.tensor(self.forget_bias))


class Identity:
    """Each gate's recurrent block scale · I; input weights N(0, input_std²); biases zero.

    Args:
        scale: > 0; 1 in the reference, less (0.01) for tasks of short memory there.
        input_std: > 0, standard deviation of `weight_ih`; 0.001 in the reference.

    Meant for the relu RNN, which then starts by adding up its inputs ("IRNN").

    Reference: Le, Jaitly & Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", 2015. https://arxiv.org/abs/1504.00941
    """

    def __init__(self, scale: float = 1.0, input_std: float = 0.001) -> None:
        self.scale = _positive("scale", scale)
        self.input_std = _positive("input_std", input_std)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        cells = _cells(model)
        recurrent = [_blocks(cell, "weight_hh") for cell in cells]
        inputs = [_blocks(cell, "weight_ih") for cell in cells]
        for cell, weights_hh, weights_ih in zip(cells, recurrent, inputs, strict=True):
            for block in weights_hh:
                nn.init.eye_(block).mul_(self.scale)
            for block in weights_ih:
                nn.init.normal_(block, std=self.input_std)
            _zero_biases(cell)


class Chrono:
    """Memory gates that start with time scales spread over 1 … max_time steps.

        bias of the memory gate ~ log U(1, max_time - 1)
        bias of the write gate = -(bias of the memory gate), where the cell has a write gate

    The rest keeps what it has.

    Args:
        max_time: T_max > 2, the longest dependency expected, in steps.

    Reference: Tallec & Ollivier, "Can recurrent neural networks warp time?", ICLR 2018.
    https://arxiv.org/abs/1804.11188
    """

    def __init__(self, max_time: float) -> None:
        if _finite("max_time", max_time) <= 2:
            raise ValueError(f"max_time must be > 2 steps, got {max_time!r}")
        self.max_time = float(max_time)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        cells = _cells(model)
        _check_memory(cells, "Chrono")
        for cell in cells:
            memory = torch.empty(cell.hidden_size).uniform_(1.0, self.max_time - 1.0).log()
            _set_bias(cell, cell.memory_gate, memory)
            if cell.write_gate is not None:
                _set_bias(cell, cell.write_gate, -memory)


class ForgetBias:
    """The memory gate's bias set to value, so that cells start by retaining; the rest is kept.

    Args:
        value: 1 in the reference.

    Reference: Jozefowicz, Zaremba & Sutskever, "An empirical exploration of recurrent network
    architectures", ICML 2015. https://proceedings.mlr.press/v37/jozefowicz15.html
    """

    def __init__(self, value: float = 1.0) -> None:
        self.value = _finite("value", value)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        cells = _cells(model)
        _check_memory(cells, "ForgetBias")
        for cell in cells:
            _set_bias(cell, cell.memory_gate, torch.tensor(self.value))


def _finite(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def _positive(name: str, value: float) -> float:
    if _finite(name, value) <= 0.0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return float(value)


def _cells(model: nn.Module) -> list[Cell[Any]]:
    # A wrapper has no parameters of its own: its cell is among the modules, too.
    cells = [m for m in model.modules() if isinstance(m, Cell) and not isinstance(m, Wrapper)]
    if not cells:
        raise ValueError(f"expected a model with recurrent cells, found none in {model}")
    return cells


def _blocks(cell: Cell[Any], name: str) -> tuple[Tensor, ...]:
    """The gates' blocks of weight_ih (H, I) or weight_hh (H, H), as views of the parameter."""
    rows = len(cell.gates) * cell.hidden_size
    columns = cell.hidden_size if name == "weight_hh" else cell.input_size
    weight = getattr(cell, name, None)
    if not isinstance(weight, Tensor) or not rows or weight.shape != (rows, columns):
        came = tuple(weight.shape) if isinstance(weight, Tensor) else "none"
        raise ValueError(
            f"{type(cell).__name__} has no {name} of shape ({rows}, {columns}), one block a gate "
            f"(it has {came}): use init=default or init=uniform"
        )
    return weight.chunk(len(cell.gates))


def _zero_biases(cell: Cell[Any]) -> None:
    for name in ("bias_ih", "bias_hh"):
        bias = getattr(cell, name, None)
        if bias is not None:
            bias.zero_()


def _check_memory(cells: list[Cell[Any]], who: str) -> None:
    """Refuse, before anything is changed, cells without a memory gate or without its bias."""
    lacking = sorted({type(cell).__name__ for cell in cells if cell.memory_gate is None})
    if lacking:
        raise ValueError(
            f"{who} sets the bias of a memory gate, which {', '.join(lacking)} does not have: "
            "use a gated cell (LSTMCell, GRUCell) or another initialiser"
        )
    without = sorted({type(c).__name__ for c in cells if getattr(c, "bias_ih", None) is None})
    if without:
        raise ValueError(
            f"{who} sets a bias, and {', '.join(without)} was made with bias=False: use bias=True"
        )


def _set_bias(cell: Cell[Any], gate: str | None, value: Tensor) -> None:
    """The effective bias of one gate: the value in bias_ih, zero in bias_hh."""
    assert gate is not None
    index = cell.gates.index(gate)
    rows = slice(index * cell.hidden_size, (index + 1) * cell.hidden_size)
    for name, part in (("bias_ih", value), ("bias_hh", torch.zeros(()))):
        bias = getattr(cell, name, None)
        if bias is not None:
            bias[rows] = part.to(bias)
