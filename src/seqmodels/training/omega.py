"""A regulariser that keeps the norm of the gradient on its way back through time.

    Ω = mean over t and sequences of ( ‖δ_t · ∂s_t/∂s_{t-1}‖² / ‖δ_t‖² − 1 )²,   δ_t = ∂L/∂s_t

s is the whole state of a layer (h; of an LSTM h and c), δ_t the total gradient, L the loss of the
batch. Steps with ‖δ_t‖² < 1e-20 and padding are left out of the mean.

As in the paper its gradient is the immediate one: δ and the states count as constants, and so does
the linearisation of the update at them; what is differentiated is the recurrent map within
∂s_t/∂s_{t-1} alone. For the vanilla RNN that is (‖W^T (1 − h_t²) δ_t‖² / ‖δ_t‖² − 1)² to W. In
general the way back through a stage is

    (a, b) = δ · ∂update/∂(gates_h, s)       constants        v = transpose_W(a) + b

and v depends on the weights through `Operator.transpose`, which autograd differentiates: there is
no double backward, and any engine may run the layer. The δ are what the loss's own backward pass
leaves on zeros that are added to every state; all steps are then done at once, without a loop.

Reference: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks",
ICML 2013, section 3.3. https://arxiv.org/abs/1211.5063. The form above (squared norms, mean) is
that of the authors' programs; the paper prints norms and a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell, Stage
from seqmodels.cells.exposed import Exposed
from seqmodels.cells.probed import Probed, Widths
from seqmodels.cells.wrapper import probe, read
from seqmodels.layers import Recurrent
from seqmodels.layers.recurrent import prefix_mask, reverse_time

LEAST = 1e-20  # of ‖δ‖²


class _Probed(Probed):
    """Keeps beside what the linearisation of a step needs."""

    def __init__(self, cell: Cell[Any]) -> None:
        super().__init__(cell)
        self.gates_x: Tensor | None = None
        self.stages: tuple[Stage[Any], ...] = ()

    def project(self, x: Tensor) -> Tensor:
        gates_x = super().project(x)
        extra = sum(width for _, width in self.widths)
        self.gates_x = gates_x.detach()[..., : gates_x.shape[-1] - extra]
        return gates_x

    def prepare(self) -> tuple[Stage[Any], ...]:
        # Twice with the same random numbers: the loss's backward pass frees its own way from the
        # effective weights to the parameters.
        weight = self.cell.like()
        devices = [weight.device] if weight.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            self.stages = self.cell.prepare()
        return super().prepare()


@dataclass(frozen=True)
class _Call:
    """What one call of a layer left behind; time runs as the engine went."""

    stages: tuple[Stage[Any], ...]
    widths: Widths
    zeros: Tensor  # (T, B, ΣW); its gradient is δ
    gates_x: Tensor  # (T, B, G)
    before: Any  # the states before each step, fields (T, B, …)
    keep: Tensor | None  # (T, B)


class Omega:
    """Watches the recurrent layers of a model in training and gives Ω and its gradient.

    Args:
        model: with at least one `Recurrent` layer.

    Raises:
        ValueError: a layer has no recurrent weights that are trained, recomputes its states, or
            has recurrent dropout, whose state holds the same unit twice.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = {n: m for n, m in model.named_modules() if isinstance(m, Recurrent)}
        if not layers:
            raise ValueError("omega is for recurrent layers and the model has none: set it to 0")
        for name, layer in layers.items():
            reason = _why_not(layer)
            if reason is not None:
                raise ValueError(f"omega cannot be computed for {name}: {reason}; set omega to 0")
        self._layers = tuple(layers.values())
        self._watched: dict[int, tuple[_Probed, Exposed]] = {}
        self._calls: list[tuple[Recurrent[Any], _Call]] = []
        for layer in self._layers:
            layer.watch_training(self._watch)

    def forget(self) -> None:
        """Drop what was watched."""
        self._calls.clear()

    def add_gradient(self, weight: float) -> Tensor:
        """Ω of the calls since the last time (summed over layers), after the loss's backward pass.

        Adds weight · ∂Ω/∂W to the gradients of the parameters behind the recurrent maps.
        """
        total = torch.zeros(())
        for layer, call in self._calls:
            if call.zeros.grad is None:
                continue  # nothing of the loss came through this layer
            value = omega(
                call.stages, call.widths, call.zeros.grad, call.gates_x, call.before, call.keep
            )
            parameters = [p for p in layer.cell.parameters() if p.requires_grad]
            found = torch.autograd.grad(weight * value, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    parameter.grad = gradient + (0 if parameter.grad is None else parameter.grad)
            total = total.to(value) + value.detach()
        self._calls.clear()
        return total

    def _watch(
        self, layer: Any, cell: Cell[Any], x: Tensor, state: Any, lengths: Tensor | None
    ) -> tuple[Tensor, Any]:
        if id(layer) not in self._watched or self._watched[id(layer)][0].cell is not cell:
            made = _Probed(cell)
            self._watched[id(layer)] = (made, Exposed(made))
        probed, exposed = self._watched[id(layer)]
        first = layer.initial_state(x.shape[0], x) if state is None else state
        joined, last = layer.run(exposed, x, first, lengths)  # (B, T, all widths)
        keep = None if lengths is None else prefix_mask(lengths, x.transpose(0, 1))
        before = []
        for start, field in zip(first, exposed.split(joined.detach()), strict=True):
            states = field.transpose(0, 1)  # (T, B, …)
            if layer.reverse:
                states = _turned(states, keep)
            before.append(torch.cat((start.detach().unsqueeze(0).to(states), states[:-1])))
        assert probed.zeros is not None and probed.gates_x is not None
        kind = type(first)
        call = _Call(
            probed.stages, probed.widths, probed.zeros, probed.gates_x, kind(*before), keep
        )
        self._calls.append((layer, call))
        return exposed.split(joined)[0], last


def _turned(states: Tensor, keep: Tensor | None) -> Tensor:
    flat = states.flatten(2) if states.dim() > 2 else states.unsqueeze(-1)
    return reverse_time(flat, keep).reshape(states.shape)


def _why_not(layer: Recurrent[Any]) -> str | None:
    cell: Cell[Any] = layer.training_cell
    if layer.recompute is not None:
        return "it computes its states a second time (recompute)"
    state = probe(cell)[0]
    if state._fields != probe(layer.cell)[0]._fields:
        return "its options add fields to the state (recurrent_dropout)"
    with torch.enable_grad():
        weights = [w for stage in cell.prepare() for w in stage.operator.weights]
    if not any(w.requires_grad for w in weights):
        return f"{type(layer.cell).__name__} has no recurrent weights that are trained"
    return None


def omega(
    stages: Sequence[Stage[Any]],
    widths: Widths,
    deltas: Tensor,
    gates_x: Tensor,
    before: Any,
    keep: Tensor | None = None,
) -> Tensor:
    """Ω of one layer (), differentiable in the weights of the stages' operators.

    Args:
        stages: of the cell.
        widths: the state's floating fields and the widths of their rows.
        deltas: ∂L/∂s_t (T, B, ΣW), the fields side by side.
        gates_x: (T, B, G). before: s_{t-1}, fields (T, B, …). keep: (T, B), False at padding.
    """
    rows = type(before)(*(field.flatten(0, 1) for field in before))  # (T·B, …)
    flat = deltas.flatten(0, 1)  # (T·B, ΣW)
    parts = torch.split(flat, [width for _, width in widths], dim=-1)
    came = {name: part for (name, _), part in zip(widths, parts, strict=True)}
    back = _step_back(stages, gates_x.flatten(0, 1), rows, came)
    after, size = _square(back), _square(list(came.values()))
    counted = size >= LEAST
    if keep is not None:
        counted = counted & keep.flatten()
    ratio = after / torch.where(counted, size, torch.ones_like(size))
    terms = torch.where(counted, (ratio - 1.0).square(), torch.zeros_like(ratio))
    return terms.sum() / counted.sum().clamp(min=1)


def _square(parts: Sequence[Tensor]) -> Tensor:
    """‖·‖² of each row over all parts (N)."""
    return torch.stack([part.flatten(1).square().sum(1) for part in parts]).sum(0)


def _step_back(
    stages: Sequence[Stage[Any]], gates_x: Tensor, state: Any, came: dict[str, Tensor]
) -> list[Tensor]:
    """δ · ∂s_t/∂s_{t-1} for all rows, one field each; linear in each operator's weights."""
    seen = []
    with torch.no_grad():
        for stage in stages:
            inside = read(stage.reads, state)
            gates_h = stage.operator.apply(inside).to(inside.dtype)
            seen.append((stage, gates_h, state))
            state = stage.update(gates_x, gates_h, state, *stage.params)
    names = list(came)
    grads = {name: came[name].reshape(getattr(state, name).shape) for name in names}
    for number, (stage, gates_h, old) in enumerate(reversed(seen)):
        with torch.enable_grad():
            gates = gates_h.detach().requires_grad_()
            fields = {name: getattr(old, name).detach().requires_grad_() for name in names}
            params = [p.detach() for p in stage.params]
            new = stage.update(gates_x, gates, old._replace(**fields), *params)
            # A field that a stage leaves alone is the very tensor: its gradient goes straight on.
            pairs = [(getattr(new, n), grads[n]) for n in names if getattr(new, n).requires_grad]
            found = torch.autograd.grad(
                [value for value, _ in pairs],
                [gates, *fields.values()],
                [grad for _, grad in pairs],
                create_graph=number > 0,  # only then do the gradients depend on weights
                materialize_grads=True,
            )
        into_gates, *rest = found
        grads = dict(zip(names, rest, strict=True))
        if not stage.operator.weights:
            continue
        through = stage.operator.transpose(into_gates)
        at = 0
        for name in stage.reads:
            width = getattr(old, name).flatten(1).shape[1]
            part = through.reshape(len(through), -1)[:, at : at + width]
            grads[name] = grads[name] + part.reshape(grads[name].shape)
            at += width
    return list(grads.values())
