"""Back-propagation through time, written out; and what sharing and truncation do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from seqmodels.cells import Cell, S
from seqmodels.scan import scan

Loss = Callable[[Tensor], Tensor]  # outputs (T, B, H) -> a number


class RNNGradients(NamedTuple):
    """∂L/∂ of everything in a simple recurrent network with linear outputs.

    states (T, B, H): ∂L/∂s_t, all that s_t does to the loss, now and later. U (H, I), W (H, H),
    b (H), V (O, H), c (O): of the parameters. first (B, H): of s_0.
    """

    states: Tensor
    U: Tensor
    W: Tensor
    b: Tensor
    V: Tensor
    c: Tensor
    first: Tensor


def rnn_bptt(
    U: Tensor,
    W: Tensor,
    b: Tensor,
    V: Tensor,
    c: Tensor,
    x: Tensor,
    grad_outputs: Callable[[Tensor], Tensor],
    first: Tensor | None = None,
) -> tuple[Tensor, RNNGradients]:
    """The gradients of a tanh network by the recursion itself, without autograd: to be read.

        s_t = tanh(b + W s_{t-1} + U x_t)               o_t = c + V s_t

        ∂L/∂s_t = ∂L/∂o_t · V + ∂L/∂s_{t+1} · diag(1 - s_{t+1}²) · W           from t = T on
        ∂L/∂V = Σ_t (∂L/∂o_t)ᵀ s_tᵀ          ∂L/∂c = Σ_t ∂L/∂o_t
        ∂L/∂W = Σ_t diag(1 - s_t²) (∂L/∂s_t)ᵀ s_{t-1}ᵀ        and so for U with x_t, for b with 1

    The sums over t are the sharing of parameters: each step adds what it would have given to a
    copy of its own (`untied_gradients` shows it).

    Args:
        U (H, I), W (H, H), b (H), V (O, H), c (O): the parameters.
        x: (T, B, I).
        grad_outputs: outputs (T, B, O) -> ∂L/∂o_t (T, B, O).
        first: s_0 (B, H); None is zero.

    Returns:
        The outputs (T, B, O) and all gradients.

    Source: Rumelhart, Hinton & Williams 1986, https://doi.org/10.1038/323533a0; Werbos 1990,
    https://doi.org/10.1109/5.58337.
    """
    steps, batch = x.shape[:2]
    s = [x.new_zeros(batch, len(b)) if first is None else first]
    for x_t in x:
        s.append(torch.tanh(b + s[-1] @ W.T + x_t @ U.T))  # (B, H)
    outputs = torch.stack([c + s_t @ V.T for s_t in s[1:]])  # (T, B, O)
    grad_o = grad_outputs(outputs)

    grads = RNNGradients(
        x.new_empty(steps, batch, len(b)), *(torch.zeros_like(p) for p in (U, W, b, V, c, s[0]))
    )
    later = torch.zeros_like(s[0])  # ∂L/∂s_{t+1} · diag(1 - s_{t+1}²) · W
    for t in reversed(range(steps)):
        grad_s = grad_o[t] @ V + later  # (B, H)
        inside = grad_s * (1 - s[t + 1] ** 2)  # ∂L/∂a_t, of what is in the tanh
        grads.states[t] = grad_s
        grads.V.add_(grad_o[t].T @ s[t + 1])
        grads.c.add_(grad_o[t].sum(0))
        grads.W.add_(inside.T @ s[t])
        grads.U.add_(inside.T @ x[t])
        grads.b.add_(inside.sum(0))
        later = inside @ W
    grads.first.copy_(later)
    return outputs, grads


class _Loop(nn.Module):
    """The reference loop as a module, so that its parameters can be exchanged."""

    def __init__(self, cell: Cell[S]) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return scan(self.cell, x, state)


def untied_gradients(
    cell: Cell[S], x: Tensor, loss: Loss, state: S | None = None
) -> dict[str, Tensor]:
    """The gradients of a network in which every step has its own copy of the parameters.

    The copies have equal values, so outputs and loss are those of the shared network; its gradient
    is their sum over the steps, by the chain rule.

    Args:
        cell: any cell.
        x: (T, B, I).
        loss: outputs (T, B, H) -> a number.
        state: before the first step.

    Returns:
        For every parameter (T, its shape): the gradient of each step's copy.
    """
    loop = _Loop(cell)
    names = [name for name, _ in loop.named_parameters()]
    if not names:
        raise ValueError(f"{type(cell).__name__} has no parameters: nothing of it is trained")
    copies = [
        {n: p.detach().clone().requires_grad_() for n, p in loop.named_parameters()} for _ in x
    ]
    outputs = []
    for x_t, own in zip(torch.split(x, 1), copies, strict=True):  # T × (1, B, I)
        y, state = functional_call(loop, own, (x_t, state))
        outputs.append(y)
    wanted = [own[name] for own in copies for name in names]
    found = torch.autograd.grad(loss(torch.cat(outputs)), wanted, materialize_grads=True)
    return {
        name.removeprefix("cell."): torch.stack(found[k :: len(names)])
        for k, name in enumerate(names)
    }


@dataclass(frozen=True)
class Truncation:
    """How a gradient that is cut every k steps compares with the whole one.

    Attributes:
        horizon: k.
        angle: between the two, in degrees; 0 is the same direction.
        ratio: ‖truncated‖ / ‖whole‖.
    """

    horizon: int
    angle: float
    ratio: float


def truncation(
    cell: Cell[S], x: Tensor, loss: Loss, horizons: Iterable[int], state: S | None = None
) -> list[Truncation]:
    """Truncated BPTT beside the whole, over all parameters together, for each k of `horizons`.

    The sequence is run in chunks of k steps, as in training; the state is carried from one to the
    next and the gradient is not. With k >= T they are the same.

    Args:
        cell: any cell.
        x: (T, B, I).
        loss: outputs (T, B, H) -> a number.
        horizons: k >= 1 each.
        state: before the first step.

    Raises:
        ValueError: a horizon below 1, or a gradient that is zero.
    """
    whole = _gradient(cell, x, loss, len(x), state)
    if not whole.any():
        raise ValueError("the whole gradient is zero: there is no angle to it")
    found = []
    for horizon in horizons:
        if horizon < 1:
            raise ValueError(f"expected horizons of at least 1 step, got {horizon}")
        cut = _gradient(cell, x, loss, horizon, state)
        # Of the unit vectors' sum and difference: exact for small angles, where a cosine is not.
        a, b = whole / whole.norm(), cut / cut.norm()
        angle = 2 * torch.atan2((a - b).norm(), (a + b).norm())
        found.append(
            Truncation(horizon, float(torch.rad2deg(angle)), float(cut.norm() / whole.norm()))
        )
    return found


def _gradient(cell: Cell[S], x: Tensor, loss: Loss, horizon: int, state: Any) -> Tensor:
    """The gradient with respect to all parameters, as one vector."""
    outputs = []
    for chunk in torch.split(x, horizon):
        y, state = scan(cell, chunk, state)
        state = type(state)(*(field.detach() for field in state))
        outputs.append(y)
    parameters = [p for p in cell.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"{type(cell).__name__} has no parameters: nothing of it is trained")
    grads = torch.autograd.grad(loss(torch.cat(outputs)), parameters, materialize_grads=True)
    return torch.cat([g.flatten() for g in grads])
