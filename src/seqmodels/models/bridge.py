"""From the encoder's last state to the decoder's first one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqmodels.layers import Stacked

Handover = Literal["auto", "copy", "linear", "none"]
HANDOVERS = ("auto", "copy", "linear", "none")


class Bridge(nn.Module):
    """The state that the decoder starts from.

        copy      layer l of the decoder starts from the last state of layer l of the encoder
                  (Sutskever, Vinyals & Le 2014, https://arxiv.org/abs/1409.3215)
        linear    s = tanh(W e + b), each activation s of each layer; e: all activations of the last
                  state of the encoder's top layer, both directions of a bidirectional one (after
                  Bahdanau, Cho & Bengio 2015, https://arxiv.org/abs/1409.0473, where e is h of the
                  backward direction)
        none      the decoder's own initial state: it knows the source by attention alone

    Fields that are no activations (a clock, positions) start, with `linear`, at their own start.

    Args:
        encoder, decoder: the layers.
        kind: one of these; "auto": copy where both have layers and states alike, else linear.

    Attributes:
        kind: "copy", "linear" or "none".

    Raises:
        ValueError: another kind; "copy" where the states differ.
    """

    def __init__(self, encoder: Stacked, decoder: Stacked, kind: Handover = "auto") -> None:
        super().__init__()
        if kind not in HANDOVERS:
            raise ValueError(f"bridge must be one of {', '.join(HANDOVERS)}, got {kind!r}")
        like = next(decoder.parameters()).detach()
        given, wanted = encoder.initial_state(1, like), decoder.initial_state(1, like)
        alike = _form(given) == _form(wanted)
        if kind == "copy" and not alike:
            raise ValueError(
                "bridge=copy needs an encoder and a decoder with the same cells, widths, "
                "directions and number of layers, and theirs differ: choose bridge=linear or auto"
            )
        self.kind: str = ("copy" if alike else "linear") if kind == "auto" else kind
        self._clocks = _clocks(encoder) | _clocks(decoder)
        self.maps = nn.ModuleList()
        if self.kind == "linear":
            size = sum(field.numel() for field in self._activations(given[-1]))
            self.maps.extend(nn.Linear(size, field.numel()) for field in self._activations(wanted))

    def forward(self, last: Any, first: Any) -> Any:
        """The state to start from.

        Args:
            last: the encoder's state after each sequence.
            first: the decoder's own initial state for as many sequences.
        """
        if self.kind == "copy":
            return last
        if self.kind == "none":
            return first
        known = torch.cat([field.flatten(1) for field in self._activations(last[-1])], 1)  # (B, E)
        maps = iter(self.maps)
        return self._filled(first, lambda field: torch.tanh(next(maps)(known)).view_as(field))

    def _activations(self, state: Any, name: str = "") -> Iterator[Tensor]:
        if isinstance(state, Tensor):
            if state.is_floating_point() and name not in self._clocks:
                yield state
            return
        names = getattr(state, "_fields", ("",) * len(state))
        for own, item in zip(names, state, strict=True):
            yield from self._activations(item, own)

    def _filled(self, state: Any, fill: Any, name: str = "") -> Any:
        """The same tree with every activation replaced, in the order of `_activations`."""
        if isinstance(state, Tensor):
            own = state.is_floating_point() and name not in self._clocks
            return fill(state) if own else state
        names = getattr(state, "_fields", ("",) * len(state))
        items = [self._filled(item, fill, n) for n, item in zip(names, state, strict=True)]
        return type(state)(*items) if hasattr(state, "_fields") else tuple(items)

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}"


def _form(state: Any) -> Any:
    """The shape of a tree of states, batch apart."""
    if isinstance(state, Tensor):
        return tuple(state.shape[1:])
    names = getattr(state, "_fields", None)
    return (names, *map(_form, state))


def _clocks(module: nn.Module) -> set[str]:
    return {name for each in module.modules() for name in getattr(each, "not_activations", ())}
