"""The linear maps of a recurrence, with the three products that back-propagation needs of them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Operator(Protocol):
    """An affine map of the state, holding the effective weights of one call.

    It is no module: a cell builds it in `prepare`, once per call, from its parameters or from
    whatever it derives from them. Knowing the map, and not only its value, lets an engine take
    the weights' gradients out of the loop over time: they are linear in the stacked states.
    """

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The tensors that the map is linear in, in the order of `weight_grads`."""
        ...

    def apply(self, h: Tensor) -> Tensor:
        """The map itself: (B, H) -> (B, G)."""
        ...

    def transpose(self, grad: Tensor) -> Tensor:
        """The gradient of `apply` to its argument: (B, G) -> (B, H)."""
        ...

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        """The gradients of `apply` to the weights, summed over N: (N, H), (N, G) -> one each."""
        ...


class Dense:
    """h -> W h + b, with W (G, H) and b (G) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self.bias = bias

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def apply(self, h: Tensor) -> Tensor:
        return functional.linear(h, self.weight, self.bias)  # (B, H) -> (B, G)

    def transpose(self, grad: Tensor) -> Tensor:
        return grad @ self.weight  # (B, G) -> (B, H)

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        weight = grad.t() @ h  # (G, H)
        return (weight,) if self.bias is None else (weight, grad.sum(0))


class Diagonal:
    """h -> w * h, with w (H): every unit sees only itself."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def apply(self, h: Tensor) -> Tensor:
        return h * self.weight

    def transpose(self, grad: Tensor) -> Tensor:
        return grad * self.weight

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return (torch.einsum("nh,nh->h", h, grad),)
