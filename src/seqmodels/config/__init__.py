"""Configuration: compose it, check it against signatures, build from it.

cfg = compose("train", ["model/cell=gru", "seed=1"])   # Hydra, nothing written
check(cfg)                                             # every problem in one message
model = instantiate(cfg.model)                         # the one place that builds
"""

from __future__ import annotations

from ..locations import config_dir
from .building import apply_overrides, diff, from_plain, instantiate, to_plain
from .checking import check
from .composition import compose
from .schema import Config, TrainerConfig, step_limit

__all__ = [
    "Config",
    "TrainerConfig",
    "apply_overrides",
    "check",
    "compose",
    "config_dir",
    "diff",
    "from_plain",
    "instantiate",
    "step_limit",
    "to_plain",
]
