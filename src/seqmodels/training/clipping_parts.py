"""Clipping by the parts of the model, and by the gradients seen before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from seqmodels.training.clipping import (
    HALVES,
    Clip,
    Clipped,
    gradients_of,
    positive,
    shrink,
    total_norm,
)


class AdaptiveClip(Clip):
    """Each unit's gradient is bounded by a share of the unit's own weights (AGC).

        G_i ← G_i · min(1, λ · max(‖W_i‖, ε) / ‖G_i‖)

    Symbols: W_i the weights into one unit, a row of a matrix (of the embedding a token's vector);
    a vector (a bias) counts as one unit. λ: `ratio`. ε: `eps`, so that weights of zero can leave.

    Args:
        ratio: the largest gradient norm of a unit, as a share of its weight norm; > 0. The
            reference takes 0.01 to 0.16, smaller for larger batches.
        eps: > 0.
        exclude: parameters that are left alone, by the beginning of their dotted names. The
            reference leaves out the last linear map. A tied matrix is left out where all its
            names are.

    Reference: Brock et al., "High-performance large-scale image recognition without
    normalization", ICML 2021. https://arxiv.org/abs/2102.06171
    """

    def __init__(
        self, ratio: float = 0.01, eps: float = 1e-3, exclude: Sequence[str] = ("head",)
    ) -> None:
        self.ratio = positive("ratio", ratio)
        self.eps = positive("eps", eps)
        self.exclude = tuple(exclude)
        self._left_out: set[int] | None = None if self.exclude else set()

    def attach(self, model: nn.Module) -> None:
        names: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            names.setdefault(id(parameter), []).append(name)
        every = [name for own in names.values() for name in own]
        unknown = [e for e in self.exclude if not any(_within(name, e) for name in every)]
        if unknown:
            raise ValueError(
                f"clip.exclude has {', '.join(map(repr, unknown))} and no parameter is so called; "
                f"there are {', '.join(every[:8])}{' …' if len(every) > 8 else ''}"
            )
        self._left_out = {
            key
            for key, own in names.items()
            if all(any(_within(name, e) for e in self.exclude) for name in own)
        }

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        if self._left_out is None:
            raise RuntimeError("AdaptiveClip leaves out parameters by name: call attach(model)")
        norm = total_norm(gradients_of(parameters))
        clipped, units = torch.zeros((), dtype=torch.int64, device=norm.device), 0
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None or id(parameter) in self._left_out:
                continue
            own = _unit_norms(gradient)
            bound = self.ratio * _unit_norms(parameter.detach()).clamp(min=self.eps)
            gradient.mul_(shrink(own, bound, [gradient]).to(gradient.dtype))
            clipped = clipped + (own > bound).sum()
            units += own.numel()
        after = total_norm(gradients_of(parameters))
        return Clipped(
            norm, after, clipped > 0, details={"clipped_units_share": clipped / max(units, 1)}
        )


def _within(name: str, start: str) -> bool:
    return name == start or name.startswith(f"{start}.")


def _unit_norms(tensor: Tensor) -> Tensor:
    """‖·‖ of each row (O, 1, …), or of the whole vector (1)."""
    wide = tensor.float() if tensor.dtype in HALVES else tensor
    inputs = tuple(range(1, wide.dim())) or None  # None: over all that there is
    norms: Tensor = torch.linalg.vector_norm(wide, dim=inputs, keepdim=True)
    return norms


class PerLayerClip(Clip):
    """A norm for each layer: g_l ← g_l · min(1, c / ‖g_l‖).

    One layer that explodes then does not silence the others, as it does under one common norm; in
    return the direction of the whole gradient changes.

    Args:
        max_norm: c, the largest norm of a layer's gradient; > 0. The whole gradient is then at
            most c · √(number of layers).
        per: what a layer is. "module": the parameters of one module together (a cell's weights and
            biases, the embedding, the head). "parameter": each tensor alone.
    """

    def __init__(
        self, max_norm: float = 1.0, per: Literal["module", "parameter"] = "module"
    ) -> None:
        if per not in ("module", "parameter"):
            raise ValueError(f"per must be 'module' or 'parameter', got {per!r}")
        self.max_norm = positive("max_norm", max_norm)
        self.per = per
        self._module_of: dict[int, str] | None = None

    def attach(self, model: nn.Module) -> None:
        self._module_of = {id(p): name.rpartition(".")[0] for name, p in model.named_parameters()}

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        groups: dict[Any, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                groups.setdefault(self._layer_of(parameter), []).append(parameter.grad)
        norms, scales = [], []
        for gradients in groups.values():
            norms.append(total_norm(gradients))
            scales.append(shrink(norms[-1], self.max_norm, gradients))
            torch._foreach_mul_(gradients, scales[-1])
        each = torch.stack(norms) if norms else torch.zeros(1)
        above = each > self.max_norm
        after = torch.linalg.vector_norm(each * (torch.stack(scales) if scales else 1.0))
        share = above.to(each.dtype).mean()
        return Clipped(
            torch.linalg.vector_norm(each),
            after,
            above.any(),
            details={"clipped_layers_share": share, "layer_norm_max": each.max()},
        )

    def _layer_of(self, parameter: nn.Parameter) -> Any:
        if self.per == "parameter":
            return id(parameter)
        if self._module_of is None:
            raise RuntimeError("PerLayerClip(per='module') needs the modules: call attach(model)")
        return self._module_of[id(parameter)]


class AutoClip(Clip):
    """g ← g · min(1, θ / ‖g‖), θ a quantile of the norms of the last gradients, this one too.

    The bound needs no guess: it follows the gradients as they shrink and grow over a run. The norms
    are part of the checkpoint; each optimiser has its own.

    Args:
        quantile: in (0, 1]. The reference's 0.1 clips nine updates in ten; 0.9 only the outliers.
        window: how many of the last norms count; ≥ 1. The reference takes all of them.

    Reference: Seetharaman et al., "AutoClip: adaptive gradient clipping for source separation
    networks", MLSP 2020. https://arxiv.org/abs/2007.14469
    """

    def __init__(self, quantile: float = 0.1, window: int = 1000) -> None:
        if isinstance(quantile, bool) or not 0.0 < quantile <= 1.0:
            raise ValueError(f"quantile must lie in (0, 1], got {quantile}")
        if isinstance(window, bool) or window < 1:
            raise ValueError(f"window must be at least 1, got {window}")
        self.quantile = float(quantile)
        self.window = window
        self._names: dict[int, str] = {}
        # By the first parameter of an optimiser: a ring of norms, and how many there were in all.
        self._rings: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def attach(self, model: nn.Module) -> None:
        self._names = {id(p): name for name, p in model.named_parameters()}

    def __call__(self, parameters: Sequence[nn.Parameter]) -> Clipped:
        gradients = gradients_of(parameters)
        norm = total_norm(gradients)
        bound = torch.nanquantile(self._remember(parameters, norm), self.quantile)
        scale = shrink(norm, bound, gradients)
        torch._foreach_mul_(gradients, scale)
        return Clipped(norm, norm * scale, norm > bound, details={"threshold": bound})

    def _remember(self, parameters: Sequence[nn.Parameter], norm: Tensor) -> Tensor:
        key = self._names.get(id(parameters[0]), "") if parameters else ""
        ring = self._rings.get(key)
        if ring is None:
            ring = norm.new_full((self.window,), float("nan"))
        ring = self._rings[key] = ring.to(norm)
        count = self._counts.get(key, 0)
        # What is infinite for once must not become the bound.
        ring[count % self.window] = torch.where(norm.isfinite(), norm, float("nan"))
        self._counts[key] = count + 1
        return ring[: count + 1]

    def state_dict(self) -> dict[str, Any]:
        rings = {key: ring.clone() for key, ring in self._rings.items()}
        return {"norms": rings, "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rings = {key: ring.clone() for key, ring in state["norms"].items()}
        self._counts = dict(state["counts"])
