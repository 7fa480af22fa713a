"""Where in a step the first NaN or infinite value appeared, found by going through it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seqmodels.layers import Recurrent
from seqmodels.training.causality import first_tensor, named


@dataclass(frozen=True)
class Finding:
    """Where the first value that is NaN or infinite appeared.

    Attributes:
        what: in words, with the layer's name.
        step: of time, from 0; None where the place has no time.
        sequence: of the batch, from 0.
        parameter: that was lost before the step, by an earlier update.
    """

    what: str
    step: int | None = None
    sequence: int | None = None
    parameter: str | None = None

    def __str__(self) -> str:
        if self.step is None:
            return self.what
        return f"{self.what}, at time step {self.step} of sequence {self.sequence} (from 0)"


def find_first(
    model: nn.Module, loss_of: Callable[[], Tensor], shape: tuple[int, int]
) -> Finding | None:
    """Where a step's first NaN or infinite value appears; None where all is finite.

    Looks at the parameters, then, in the order of computation, at what every module reads and
    gives, at the loss, and, on the way back, at the gradients of all those and of the parameters.
    Recurrent layers run on the eager engine for it. The parameters' gradients are overwritten.

    Args:
        loss_of: computes the loss of the batch, by way of the model.
        shape: (B, T) of the batch.
    """
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            what = (
                f"the parameter {name} held it before this step already: an earlier update made it"
            )
            return Finding(what, parameter=name)
    with _eager(model), _watching(model, shape) as watch, torch.enable_grad():
        model.zero_grad()
        loss = loss_of()
        if watch.found is not None:
            return watch.found
        if not bool(loss.isfinite()):
            return Finding(f"the loss ({float(loss.detach())}), of outputs that are all finite")
        watch.backward = True
        loss.backward()  # type: ignore[no-untyped-call]
    if watch.found is not None:
        return watch.found
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return Finding(f"the gradient of the parameter {name}")
    return None


class _Watch:
    """Keeps the first finding."""

    def __init__(self, model: nn.Module, shape: tuple[int, int]) -> None:
        self.model = model
        self.shape = shape
        self.found: Finding | None = None
        self.backward = False
        # A tensor that several modules read or give belongs to the innermost, which is told last.
        self.names: dict[int, tuple[Tensor, str]] = {}

    def look(self, what: str, tensor: Tensor | None) -> None:
        if tensor is None or not tensor.is_floating_point() or self.found is not None:
            return
        finite = tensor.detach().isfinite()
        if not bool(finite.all()):
            self.found = Finding(what, *self.place(finite))
            return
        if tensor.requires_grad:
            if id(tensor) not in self.names:
                tensor.register_hook(partial(self.look_back, id(tensor)))  # type: ignore[no-untyped-call]
            self.names[id(tensor)] = (tensor, what)

    def look_back(self, key: int, gradient: Tensor) -> None:
        finite = gradient.isfinite()
        if self.backward and self.found is None and not bool(finite.all()):
            self.found = Finding(f"the gradient of {self.names[key][1]}", *self.place(finite))

    def place(self, finite: Tensor) -> tuple[int | None, int | None]:
        """(time step, sequence) of the first in the order of computation."""
        if finite.dim() < 2 or tuple(finite.shape[:2]) != self.shape:
            return None, None
        bad = ~finite.reshape(*self.shape, -1).all(-1)  # (B, T)
        steps = bad.any(0).nonzero().flatten()
        step = int(steps[-1 if self.backward else 0])
        return step, int(bad[:, step].nonzero()[0])


@contextmanager
def _watching(model: nn.Module, shape: tuple[int, int]) -> Iterator[_Watch]:
    watch = _Watch(model, shape)

    def before(name: str, module: nn.Module, arguments: Any) -> None:
        watch.look(f"what {named(model, name)} reads", first_tensor(arguments))

    def after(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        watch.look(f"the output of {named(model, name)}", first_tensor(output))

    handles = [m.register_forward_pre_hook(partial(before, n)) for n, m in model.named_modules()]
    handles += [m.register_forward_hook(partial(after, n)) for n, m in model.named_modules()]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _eager(model: nn.Module) -> Iterator[None]:
    layers = [module for module in model.modules() if isinstance(module, Recurrent)]
    engines = [layer.engine for layer in layers]
    try:
        for layer in layers:
            layer.engine = "eager"
        yield
    finally:
        for layer, engine in zip(layers, engines, strict=True):
            layer.engine = engine
