"""`budget.parameters=N` and its kin: the width of the layers that makes models comparable."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from seqmodels.config.schema import BUDGETS
from seqmodels.data.base import DataModule
from seqmodels.errors import UserError
from seqmodels.layers import Recurrent

WIDEST = 1 << 16
WIDTH = "model.layers.hidden_size"


def asked(cfg: DictConfig) -> tuple[str, int] | None:
    """Which budget a configuration has, and how much; None: the width is as it says."""
    found = [(name, int(cfg.budget[name])) for name in BUDGETS if cfg.budget[name] is not None]
    return found[0] if found else None


def within_budget(cfg: DictConfig) -> DictConfig:
    """The same configuration with the widest layers that keep to its budget.

    All layers get one width; where the head's weights are the embedding's, the embedding gets it
    too. The model is built for each width that is tried, without its numbers where only its sizes
    count.

    Raises:
        UserError: the model has no layers of a width, or even one unit is more than the budget, or
            WIDEST units are less.
    """
    from seqmodels.commands import building

    wanted = asked(cfg)
    if wanted is None:
        return cfg
    name, most = wanted
    if isinstance(OmegaConf.select(cfg, WIDTH, default=None), type(None)):
        raise UserError(f"budget.{name} chooses {WIDTH}, and this model has none")
    try:
        data = building.build_data(cfg)
        place = _place(cfg, name, data)

        def cost(width: int) -> int:
            own = with_width(cfg, width)
            with place:
                return _measured(name, building.bare_model(own, data.sizes()), data)

        width, own_cost = _widest(cost, most)
    except building.USER_MISTAKES as error:
        raise building.user_mistake(error) from error
    if width == 0:
        raise UserError(
            f"budget.{name}={most:,}: with one unit a layer this model already has {own_cost:,}"
        )
    if width >= WIDEST:
        raise UserError(
            f"budget.{name}={most:,}: layers of {WIDEST:,} units, the widest that are tried, have "
            f"only {own_cost:,}"
        )
    print(f"budget: {WIDTH}={width} has {own_cost:,} of {most:,} {name}", flush=True)
    return with_width(cfg, width)


def _place(cfg: DictConfig, name: str, data: DataModule) -> torch.device:
    """Where models are built to be measured: on the meta device, which keeps sizes alone.

    Products are counted while they are done, and some cells look at their first numbers (a
    reservoir at its spectral radius): then on the CPU. Which it is changes no count.
    """
    from seqmodels.commands import building

    if name == "flops":
        return torch.device("cpu")
    meta = torch.device("meta")
    try:
        with meta:
            building.bare_model(with_width(cfg, 2), data.sizes())
    except (RuntimeError, NotImplementedError):
        return torch.device("cpu")
    return meta


def with_width(cfg: DictConfig, width: int) -> DictConfig:
    """A copy whose layers have so many units each."""
    own = copy.deepcopy(cfg)
    OmegaConf.update(own, WIDTH, width)
    if OmegaConf.select(own, "model.head.tie_weights", default=False):
        OmegaConf.update(own, "model.embedding.size", width)
    return own


def _widest(cost: Any, most: int) -> tuple[int, int]:
    """The largest width whose cost is at most so much, and that cost; (0, cost of 1) if none."""
    least = cost(1)
    if least > most:
        return 0, least
    low, low_cost, high = 1, least, 2
    while high <= WIDEST and (found := cost(high)) <= most:
        low, low_cost, high = high, found, 2 * high
    if low == WIDEST:
        return low, low_cost
    while high - low > 1:
        middle = (low + high) // 2
        found = cost(middle)
        if found <= most:
            low, low_cost = middle, found
        else:
            high = middle
    return low, low_cost


def _measured(name: str, model: nn.Module, data: DataModule) -> int:
    if name == "parameters":
        return sum(p.numel() for p in model.parameters() if p.requires_grad)
    if name == "state":
        like = next(model.parameters())
        state = model.initial_state(1, like)  # type: ignore[operator]
        return sum(tensor.numel() for tensor in _tensors(state))
    return _flops(model, data)


@torch.no_grad()
def _flops(model: nn.Module, data: DataModule) -> int:
    """Of the products of one step: multiplications and additions, of one sequence."""
    for module in model.modules():
        if isinstance(module, Recurrent):
            module.engine = "eager"  # kernels count nothing
    inputs = next(iter(data.train_loader())).inputs[:1, :8]
    if inputs.is_floating_point():
        inputs = inputs.to(next(model.parameters()).dtype)
    model.eval()
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    return int(counter.get_total_flops()) // inputs.shape[1]


def _tensors(state: Any) -> Iterable[Tensor]:
    if isinstance(state, Tensor):
        yield state
    else:
        for part in state:
            yield from _tensors(part)
