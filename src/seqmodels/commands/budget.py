"""`budget.parameters=N` and its kin: the width of the layers that makes models comparable."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
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
TRIED = 256  # widths in a row that a cell may refuse
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
        UserError: the model has no layers of a width, the fewest units that it admits are more than
            the budget, or WIDEST units are less.
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

        width, own_cost, kept = _widest(cost, most)
    except building.USER_MISTAKES as error:
        raise building.user_mistake(error) from error
    if not kept:
        units = "one unit" if width == 1 else f"{width} units, the fewest that it admits,"
        raise UserError(
            f"budget.{name}={most:,}: with {units} a layer this model already has {own_cost:,}"
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

    def build(width: int) -> int:
        building.bare_model(with_width(cfg, width), data.sizes())
        return 0

    try:
        with meta:
            _narrowest(build, 2, 2 + TRIED)
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


def _widest(cost: Callable[[int], int], most: int) -> tuple[int, int, bool]:
    """The largest width whose cost is at most so much, its cost, and True.

    Not every cell has every width (a unit for each of its periods at least, as many to each of its
    heads), so those that the layers refuse are passed over. Where even the narrowest costs more:
    that one, its cost, and False.

    Raises:
        ValueError: none of the first widths can be built; what the constructors say of one unit.
    """
    found = _narrowest(cost, 1, 1 + TRIED)
    if found is None:
        cost(1)
        raise AssertionError("one unit was refused before")
    low, low_cost = found
    if low_cost > most:
        return low, low_cost, False
    high = 2 * low
    while high <= WIDEST:
        found = _narrowest(cost, high, high + TRIED)
        if found is None or found[1] > most:
            break
        low, low_cost = found
        high = 2 * low
    if low >= WIDEST:
        return low, low_cost, True
    while high - low > 1:  # nothing from `high` on is both possible and within the budget
        middle = (low + high) // 2
        found = _narrowest(cost, middle, high)
        if found is not None and found[1] <= most:
            low, low_cost = found
        else:
            high = middle
    return low, low_cost, True


def _narrowest(cost: Callable[[int], int], first: int, end: int) -> tuple[int, int] | None:
    """The first width from `first` to before `end` that the layers admit, and its cost."""
    for width in range(first, end):
        try:
            return width, cost(width)
        except ValueError:
            continue
    return None


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
