"""How the learning rate changes: each schedule builds a torch scheduler and says when it steps."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau


class Limits(Protocol):
    """What a Lightning Trainer says about the length of a run."""

    @property
    def limit_train_batches(self) -> int | float | None: ...
    @property
    def accumulate_grad_batches(self) -> int: ...
    @property
    def max_steps(self) -> int | None: ...
    @property
    def max_epochs(self) -> int | None: ...


class Horizon(NamedTuple):
    """What the run knows about its length."""

    total_steps: int | None  # optimiser steps in all; None: no step limit was given
    steps_per_epoch: int

    @classmethod
    def of(cls, limits: Limits, batches_per_epoch: int) -> Horizon:
        """The horizon under a trainer's limits."""
        limit = limits.limit_train_batches
        batches = batches_per_epoch
        if isinstance(limit, float):
            batches = int(batches * limit)
        elif limit is not None:
            batches = min(batches, limit)
        steps = max(1, math.ceil(batches / limits.accumulate_grad_batches))
        ends = []
        if limits.max_steps is not None and limits.max_steps >= 0:
            ends.append(limits.max_steps)
        if limits.max_epochs is not None and limits.max_epochs >= 0:
            ends.append(limits.max_epochs * steps)
        return cls(min(ends, default=None), steps)


class Schedule(Protocol):
    """`interval` says after what the built scheduler steps: every update, or every validation."""

    interval: Literal["step", "validation"]

    def build(self, optimizer: Optimizer, horizon: Horizon) -> LRScheduler: ...


class ConstantSchedule:
    """The optimiser's own learning rate throughout."""

    interval: Literal["step", "validation"] = "step"

    def build(self, optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: 1.0)


class CosineSchedule:
    """Linear warm-up, then half a cosine from the full rate to `final` times it at the last step.

    With w warm-up steps of N in all, the factor at step s is (s + 1) / w for s < w, then
    final + (1 − final) · (1 + cos(π (s − w) / (N − w))) / 2 (Loshchilov & Hutter 2017,
    https://arxiv.org/abs/1608.03983).

    Args:
        warmup_steps: w ≥ 0.
        final: the factor reached at the end, in [0, 1].
    """

    interval: Literal["step", "validation"] = "step"

    def __init__(self, *, warmup_steps: int = 0, final: float = 0.0) -> None:
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be >= 0, got {warmup_steps}")
        if not 0.0 <= final <= 1.0:
            raise ValueError(f"final must lie in [0, 1], got {final}")
        self.warmup_steps = warmup_steps
        self.final = final

    def factor(self, step: int, total_steps: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        span = max(1, total_steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))

    def build(self, optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
        total = horizon.total_steps
        if total is None:
            raise ValueError(
                "scheduler=cosine needs to know where the run ends: set trainer.max_steps or "
                "trainer.max_epochs"
            )
        if self.warmup_steps >= total:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below the run's {total} steps"
            )
        return LambdaLR(optimizer, lambda step: self.factor(step, total))


class DecaySchedule:
    """Full rate for `constant_epochs` epochs, then multiplied by `factor` at every further epoch.

    In epoch e = 1, 2, …: factor^max(0, e − constant_epochs), as in Zaremba et al. 2014
    (https://arxiv.org/abs/1409.2329; their small model: 4 epochs, factor 0.5).

    Args:
        constant_epochs: epochs at the full rate, ≥ 0.
        factor: in (0, 1].
    """

    interval: Literal["step", "validation"] = "step"

    def __init__(self, *, constant_epochs: int = 4, factor: float = 0.5) -> None:
        if constant_epochs < 0:
            raise ValueError(f"constant_epochs must be >= 0, got {constant_epochs}")
        if not 0.0 < factor <= 1.0:
            raise ValueError(f"factor must lie in (0, 1], got {factor}")
        self.constant_epochs = constant_epochs
        self.factor = factor

    def build(self, optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
        # A function of the step alone: a run resumed anywhere has the same rate.
        def rate(step: int) -> float:
            epoch = step // horizon.steps_per_epoch + 1
            return float(self.factor ** max(0, epoch - self.constant_epochs))

        return LambdaLR(optimizer, rate)


class PlateauSchedule:
    """Multiplied by `factor` when the validation loss has not fallen for `patience` validations.

    With factor 0.25 and patience 0: the way of word language models, "divide by four as soon as a
    validation brings nothing".

    Args:
        factor: in (0, 1).
        patience: validations without a new best that are forgiven, ≥ 0.
        min_lr: the rate never falls below this.
    """

    interval: Literal["step", "validation"] = "validation"

    def __init__(self, *, factor: float = 0.25, patience: int = 0, min_lr: float = 0.0) -> None:
        if not 0.0 < factor < 1.0:
            raise ValueError(f"factor must lie in (0, 1), got {factor}")
        if patience < 0:
            raise ValueError(f"patience must be >= 0, got {patience}")
        self.factor = factor
        self.patience = patience
        self.min_lr = min_lr

    def build(self, optimizer: Optimizer, horizon: Horizon) -> LRScheduler:
        return ReduceLROnPlateau(
            optimizer,
            factor=self.factor,
            patience=self.patience,
            min_lr=self.min_lr,
            threshold=0.0,
        )
