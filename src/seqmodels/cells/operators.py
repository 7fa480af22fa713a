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


class BlockDiagonal:
    """h -> W h for every gate, where each of `heads` groups of units reads only itself.

    W is one (H, H) matrix a gate, zero outside its blocks of K × K, K = H / heads; only the blocks
    are held. Row g·H + k of `weight` (G·H, K) is gate g of unit k, and its columns are the units of
    unit k's head, k // K.
    """

    def __init__(self, weight: Tensor, heads: int) -> None:
        rows, units = weight.shape
        if heads < 1 or rows % (heads * units):
            raise ValueError(
                f"BlockDiagonal: expected a weight of shape (G·H, H / heads), heads = {heads!r}, "
                f"got {tuple(weight.shape)}"
            )
        self.weight = weight
        self.heads = heads

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight,)

    def apply(self, h: Tensor) -> Tensor:
        value = torch.bmm(self._split(h, 1), self._blocks().transpose(1, 2))  # (heads, B, G·K)
        return self._joined(value)

    def transpose(self, grad: Tensor) -> Tensor:
        value = torch.bmm(self._split(grad, self._gates), self._blocks())  # (heads, B, K)
        return self._joined(value)

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        units = self.weight.shape[1]
        blocks = torch.bmm(self._split(grad, self._gates).transpose(1, 2), self._split(h, 1))
        blocks = blocks.reshape(self.heads, self._gates, units, units)  # from (heads, G·K, K)
        return (blocks.transpose(0, 1).reshape(self.weight.shape),)

    @property
    def _gates(self) -> int:
        return self.weight.shape[0] // (self.heads * self.weight.shape[1])

    def _blocks(self) -> Tensor:
        units = self.weight.shape[1]
        blocks = self.weight.reshape(self._gates, self.heads, units, units)
        return blocks.transpose(0, 1).reshape(self.heads, -1, units)  # (heads, G·K, K)

    def _split(self, rows: Tensor, gates: int) -> Tensor:
        """(N, gates·H) -> (heads, N, gates·K)."""
        split = rows.reshape(len(rows), gates, self.heads, -1)
        return split.permute(2, 0, 1, 3).flatten(2)

    def _joined(self, split: Tensor) -> Tensor:
        """The other way round: (heads, N, gates·K) -> (N, gates·H)."""
        rows, units = split.shape[1], self.weight.shape[1]
        joined = split.reshape(self.heads, rows, -1, units).permute(1, 2, 0, 3)
        return joined.reshape(rows, -1)  # from (N, gates, heads, K)


class Nothing:
    """No product: the recurrence has none, and `update` is given an empty gates_h (B, 0)."""

    @property
    def weights(self) -> tuple[Tensor, ...]:
        return ()

    def apply(self, h: Tensor) -> Tensor:
        return h.new_empty(*h.shape[:-1], 0)  # (B, H) -> (B, 0)

    def transpose(self, grad: Tensor) -> Tensor:
        # A number that broadcasts over the units: nothing comes back through here.
        return grad.new_zeros(*grad.shape[:-1], 1)  # (B, 0) -> (B, 1)

    def weight_grads(self, h: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return ()
