"""What each recurrent layer of a model goes through on a batch: gates, states, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqmodels.analysis.gradients import Outputs
from seqmodels.cells import PixelLSTMCell
from seqmodels.layers import Recurrent
from seqmodels.layers.recurrent import prefix_mask, reverse_time


class Course(NamedTuple):
    """What one layer went through in one call; time runs as the engine went."""

    gates_x: Tensor  # (T, B, G)
    before: Any  # the states before each step, fields (T, B, ·)
    outputs: Tensor  # (T, B, H)
    keep: Tensor  # (T, B) bool: False at padding
    inside: Tensor  # (T, B) bool: False there and at places outside an image
    places: int = 1  # how many of the B rows make one sequence: the places of a line of an image

    def rows(self) -> tuple[Tensor, Any]:
        """Gates and states of the real steps, one below the other: (R, G), fields (R, ·)."""
        kind: Any = type(self.before)
        return self.gates_x[self.keep], kind(*(part[self.keep] for part in self.before))

    def path(self) -> Tensor:
        """The outputs of each sequence (T, B, H); of lines of an image in their middle place."""
        return self.outputs[:, self.places // 2 :: self.places]


@contextmanager
def _watching(model: nn.Module) -> Iterator[list[tuple[str, Recurrent[Any], Any]]]:
    """Collects (name, layer, arguments) of every call of a recurrent layer."""
    calls: list[tuple[str, Recurrent[Any], Any]] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Recurrent):

            def hook(layer: Any, args: Any, kwargs: Any, name: str = name) -> None:
                names = ("x", "state", "lengths")
                calls.append((name, layer, {**dict(zip(names, args, strict=False)), **kwargs}))

            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def courses(
    model: nn.Module,
    inputs: Tensor,
    lengths: Tensor | None = None,
    state: Any = None,
    outputs: Outputs | None = None,
) -> dict[str, Course]:
    """What each recurrent layer of a model goes through on a batch, by name, in the mode it is in.

    Args:
        model: called as model(inputs, state, lengths).
        inputs: (B, T) or (B, T, I).
        lengths: (B,), or None.
        state: before the first step.
        outputs: runs the model, where it is called otherwise.

    Raises:
        ValueError: the model has no recurrent layer.
    """
    if not any(isinstance(module, Recurrent) for module in model.modules()):
        raise ValueError("the model has no recurrent layer: there is nothing to analyse")
    with _watching(model) as calls:
        if outputs is None:
            model(inputs, state, lengths)
        else:
            outputs()
    return {name: _course(layer, **given) for name, layer, given in calls}


def _course(
    layer: Recurrent[Any], x: Tensor, state: Any = None, lengths: Tensor | None = None
) -> Course:
    _, path, _ = layer.trajectory(x, state, lengths)
    x = x.transpose(0, 1)  # (B, T, I) -> (T, B, I)
    steps, batch = x.shape[:2]
    mask = None if lengths is None else prefix_mask(lengths, x)
    keep = x.new_ones(steps, batch, dtype=torch.bool) if mask is None else mask
    after = [part.transpose(0, 1) for part in path]  # fields (T, B, ·)
    if layer.reverse:
        x = reverse_time(x, mask)
        after = [_reversed(part, mask) for part in after]
    first = layer.initial_state(batch, x) if state is None else state
    kind: Any = type(first)
    before = kind(*(torch.cat((f.unsqueeze(0), a[:-1])) for f, a in zip(first, after, strict=True)))
    # Lines of an image stay whole, for a place reads those beside it.
    inside = keep & (x[..., -1] == 0) if isinstance(layer.cell, PixelLSTMCell) else keep
    gates_x = layer.cell.project(x)
    return Course(gates_x, before, after[0], keep, inside, layer.cell.places)


def _reversed(part: Tensor, keep: Tensor | None) -> Tensor:
    flat = part.flatten(2)  # (T, B, ·): `reverse_time` takes one width
    return reverse_time(flat, keep).reshape(part.shape)
