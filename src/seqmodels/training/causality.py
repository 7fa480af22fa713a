"""Whether a model sees the future, tried on a real batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class NotCausalError(ValueError):
    """An output depends on a later input, in a task where it may not."""


ROWS, STEPS = 2, 8
Seen = dict[str, tuple[Tensor, Tensor]]  # by module: what it read and what it gave, (B, T, …)


def check_causality(
    model: nn.Module,
    inputs: Tensor,
    lengths: Tensor | None = None,
    others: Tensor | None = None,
    outputs: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Refuse a model of which an output at step t changes with the inputs after t.

    All inputs after t are replaced by others, for every t of a small piece of the batch, with the
    same random numbers; the outputs up to t must stay the same up to rounding. Changing values, and
    not a gradient, also finds what looks ahead through something that has no gradient. The model is
    left as it was: buffers and random generators, too.

    Args:
        model: called as model(inputs, None, lengths) -> (outputs (B, T, …), state).
        inputs: (B, T) ids or (B, T, F). lengths: (B,), optional.
        others: what inputs are replaced by, of the same kind; None: taken from `inputs`.
        outputs: runs the model on the first rows and steps of inputs, where it is called otherwise.

    Raises:
        NotCausalError: names the layer, t, and the size of the change.
    """
    steps = min(STEPS, inputs.shape[1])
    if steps < 2:
        return
    rows = min(ROWS, inputs.shape[0]) if steps != ROWS else 1  # so that B and T differ
    piece = inputs[:rows, :steps]
    other = _others(inputs if others is None else others, piece)
    short = None if lengths is None else lengths[:rows].clamp(max=steps)
    with _untouched(model, inputs.device), torch.no_grad():
        call = partial(_outputs, outputs or (lambda piece: model(piece, None, short)[0]))
        usual = call(piece)
        room = 100 * torch.finfo(usual.dtype).eps * float(usual.abs().max())
        for t in range(steps - 1):
            changed = piece.clone()
            changed[:, t + 1 :] = other[:, t + 1 :]
            difference = _difference(usual, call(changed), t)
            if difference > room:
                name = _culprit(model, call, piece, changed, t)
                raise NotCausalError(
                    f"{name} is not causal: its output at step {t} (from 0) changes with the "
                    f"inputs after that step (the model's output by {difference:.2g}), and this "
                    "task predicts them. Use a layer that runs forwards only, or another task"
                )


def _others(source: Tensor, piece: Tensor) -> Tensor:
    """Something else at every place, of the kind of `piece`."""
    if piece.is_floating_point():
        return piece + 1.0 + piece.abs()
    kinds = torch.unique(source)
    if len(kinds) == 1:  # then 0 is another id, or there is no other
        return torch.zeros_like(piece)
    place = torch.searchsorted(kinds, piece.contiguous())
    other: Tensor = kinds[(place + 1) % len(kinds)]
    return other


def _outputs(call: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    torch.manual_seed(0)  # the same dropout each time; within fork_rng
    return call(inputs)


def _difference(usual: Tensor, changed: Tensor, t: int) -> float:
    apart = (usual[:, : t + 1].double() - changed[:, : t + 1].double()).abs()
    return float(apart.nan_to_num(nan=0.0).max())  # NaN is not what is looked for here


def _culprit(
    model: nn.Module, call: Callable[[Tensor], Tensor], piece: Tensor, changed: Tensor, t: int
) -> str:
    """The innermost module whose input up to t is the same and whose output is not."""
    runs = []
    for inputs in (piece, changed):
        with _recording(model, tuple(piece.shape[:2])) as seen:
            call(inputs)
        runs.append(seen)
    for name, (read, gave) in runs[0].items():  # as they finish: parts before what they are part of
        if name in runs[1]:
            read_then, gave_then = runs[1][name]
            room = 100 * torch.finfo(gave.dtype).eps * float(gave.abs().max())
            same = torch.equal(read[:, : t + 1], read_then[:, : t + 1])
            if same and _difference(gave, gave_then, t) > room:
                return named(model, name)
    return "the model"


@contextmanager
def _recording(model: nn.Module, shape: tuple[int, ...]) -> Iterator[Seen]:
    seen: Seen = {}

    def hook(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        read, gave = first_tensor(arguments), first_tensor(output)
        fits = [t is not None and tuple(t.shape[:2]) == shape for t in (read, gave)]
        if all(fits) and gave is not None and read is not None and gave.is_floating_point():
            seen[name] = (read.clone(), gave.clone())

    handles = [m.register_forward_hook(partial(hook, n)) for n, m in model.named_modules()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def first_tensor(value: Any) -> Tensor | None:
    """The tensor, or the first one of a tuple."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list) and value:
        return first_tensor(value[0])
    return None


def named(model: nn.Module, name: str) -> str:
    """The module's name with its type."""
    return f"{name or 'the model'} ({type(model.get_submodule(name)).__name__})"


@contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    buffers = {name: copy.deepcopy(buffer) for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def refuse_sight_of_later_inputs(
    model: nn.Module, because: str = "what is to be predicted is among the later inputs"
) -> None:
    """Raise a ValueError where a part of the model says that it is not causal, and name it."""
    found = {name: m for name, m in model.named_modules() if getattr(m, "causal", True) is False}
    # A whole is not causal because a part is not: name the parts.
    parts = [
        n for n in found if not any(o.startswith(f"{n}." if n else "") for o in found if o != n)
    ]
    if not parts:
        return
    kinds = ", ".join(f"{name or 'the model'} ({type(found[name]).__name__})" for name in parts[:3])
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    raise ValueError(
        f"{because}, and {kinds}{more} reads the later ones too: use layers that run forwards "
        "only, such as model/layers=plain with reverse=false"
    )
