"""How much of one answer's gradient is left, so many steps before it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.layers import Bidirectional, Recurrent

Term = Callable[[Tensor], Tensor]  # outputs of one step (B, ·) -> its loss, a number
Outputs = Callable[[], Tensor]  # runs the model and gives its outputs (B, T, ·)


def norms_by_lag(
    model: nn.Module,
    inputs: Tensor,
    term: Term,
    *,
    step: int = -1,
    state: Any = None,
    outputs: Outputs | None = None,
    apart: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """‖∂L_t/∂s_{t-k}‖ of ONE loss term L_t, for every recurrent layer and every lag k.

    The loss of a sequence is a sum, and the gradient of a state mixes the terms after it: near ones
    hide that far ones have vanished. One term alone shows it (Pascanu, Mikolov & Bengio 2013,
    https://arxiv.org/abs/1211.5063). One backward pass gives all lags, on any engine.

    Args:
        model: called as model(inputs, state); its outputs (B, T, ·) are the first thing it returns.
            Its mode is left as it is.
        inputs: (B, T) or (B, T, I).
        term: the loss of one step, from that step's outputs (B, ·).
        step: t, from the end where negative.
        state: before the first step.
        outputs: runs the model, where it is called otherwise.
        apart: beginnings of the names of layers whose steps are not those of the outputs, such as
            an encoder's: of these the lag is counted from the last step with any gradient.

    Returns:
        For each `Recurrent` layer that runs forwards (not those of a `Bidirectional` that runs
        backwards), by name: (t + 1), the Euclidean norm over its
        whole state at lag k = 0 … t, mean over the batch, in float64. Of a layer over images the
        state is that of all places of a line. The parameters' own gradients stay as they are.

    Raises:
        ValueError: there is no such layer or step, or a layer recomputes its states.
    """
    layers = {n: m for n, (m, reverse) in recurrent_layers(model).items() if not reverse}
    if not layers:
        raise ValueError("the model has no recurrent layer that runs forwards")
    with ExitStack() as stack, torch.enable_grad():
        probes = {n: stack.enter_context(layer.probing()) for n, layer in layers.items()}
        made = model(inputs, state)[0] if outputs is None else outputs()  # (B, T, ·)
        steps = made.shape[1]
        if not -steps <= step < steps:
            raise ValueError(f"step must lie in {-steps} … {steps - 1}, got {step}")
        # What did not run in this mode has left nothing.
        zeros = {n: z for n, pair in probes.items() for p in pair if (z := p.zeros) is not None}
        found = torch.autograd.grad(
            term(made[:, step]), list(zeros.values()), materialize_grads=True
        )
    by_lag = {}
    for name, grad in zip(zeros, found, strict=True):
        # A dilated layer has its d interleaved sequences side by side: (T/d, d·B, ·) -> (T, B, ·);
        # one over images the places of a line: (T, B·P, ·) -> (T, B, P·).
        width = layers[name].cell.places * grad.shape[-1]
        rows = grad.reshape(-1, len(inputs), width)
        # In double precision: the squares of what has vanished would not fit into single.
        norms = rows.double().norm(dim=-1).mean(-1)  # (T, B, ΣW) -> (T)
        last = step % steps
        if name.startswith(apart):
            last = int(norms.nonzero()[-1]) if bool(norms.any()) else len(norms) - 1
        by_lag[name] = norms[: last + 1].flip(0)
    return by_lag


def recurrent_layers(model: nn.Module) -> dict[str, tuple[Recurrent[Any], bool]]:
    """By name, each recurrent layer and whether it runs from the last step to the first."""
    turned = {
        id(part)
        for module in model.modules()
        if isinstance(module, Bidirectional)
        for part in module.backwards.modules()
    }
    return {
        name: (module, module.reverse or id(module) in turned)
        for name, module in model.named_modules()
        if isinstance(module, Recurrent)
    }
