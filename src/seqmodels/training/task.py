"""What every way of training has in common: step, clipping, schedule, carried state, metrics."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from seqmodels.analysis.piece import Piece, cut_piece
from seqmodels.data.base import SequenceBatch
from seqmodels.training.activation import ActivationPenalty
from seqmodels.training.causality import check_causality
from seqmodels.training.clipping import Clip
from seqmodels.training.gradient_log import GradientLog
from seqmodels.training.omega import Omega
from seqmodels.training.parallel import Team
from seqmodels.training.schedules import Horizon, Schedule
from seqmodels.training.state import (
    Mean,
    detach,
    load_random_state,
    plain_state,
    random_state,
    restore_state,
)

Stage = Literal["train", "val", "test"]
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class DivergedError(RuntimeError):
    """The loss or the gradient became NaN or infinite.

    Attributes:
        step: the optimiser step where it did, counted from 1; None in an evaluation.
        evaluated: in an evaluation the first batch where it did and the state before it; None where
            that is not known, as on an accelerator.
    """

    def __init__(
        self, message: str, step: int | None = None, evaluated: tuple[Any, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.step = step
        self.evaluated = evaluated


class StepResult(NamedTuple):
    loss: Tensor  # mean over the predictions of the batch, in nats
    predictions: Tensor  # () int64: how many there were
    state: Any  # what the model carries to the next chunk


class SequenceTask(pl.LightningModule, ABC):
    """Trains a model on batches of sequences.

    A task says what the loss of a batch is (`step`) and which metrics follow from it (`metrics`);
    this class does the rest. All that a step changes is part of the checkpoint, so that a resumed
    run goes on bit for bit.

    Args:
        model: called as model(inputs, state, lengths) -> (outputs, state).
        optimizer: called with the parameters.
        schedule: of the learning rate.
        clip: what happens to the gradient before the update.
        carry_state: each batch starts from the final state of the one before (truncated BPTT);
            the first of an epoch from the initial state.
        batches_per_epoch: of the training data.
        omega: weight of the regulariser that keeps gradient norms through time, ≥ 0; see
            `seqmodels.training.omega`. The reported losses do not contain it.
        ar, tar: weights ≥ 0 of the penalties on the size of the outputs and on their change from
            step to step; see `seqmodels.training.activation`. Nor do they contain these.

    Attributes:
        must_be_causal: whether an output may know of no later input; checked before the first step
            (`seqmodels.training.callbacks.guards`).
        takes_steps: whether it learns by an optimiser's steps.
        rate_share: what the learning rate of the next update is multiplied by, for that update.
        team: the processes that train together.
    """

    must_be_causal: bool = False
    takes_steps: bool = True
    rate_share: float = 1.0

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        carry_state: bool,
        batches_per_epoch: int,
        omega: float = 0.0,
        ar: float = 0.0,
        tar: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= omega < math.inf:
            raise ValueError(f"omega must be a finite weight >= 0, got {omega}")
        made = optimizer([nn.Parameter(torch.zeros(1))])
        if self.takes_steps and getattr(made, "takes_no_steps", False):
            raise ValueError(
                "optimizer=none takes no steps, by which this task learns: choose optimizer=adam "
                "or another (only task=ridge solves for its weights)"
            )
        self.model = model
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.clip = clip
        clip.attach(model)
        self.omega = omega
        self._omega = Omega(model) if omega > 0.0 else None
        self._penalty = ActivationPenalty(model, ar, tar)
        self.carry_state = carry_state
        self.batches_per_epoch = batches_per_epoch
        self.team = Team()
        self.record_metrics: Callable[[Mapping[str, float]], None] | None = None
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._scheduler: LRScheduler | ReduceLROnPlateau | None = None
        self._carried: Any = None
        self._evaluated: Any = None
        self._lost: tuple[Any, Any] | None = None  # evaluated: a batch whose loss is none
        self._window = Mean()  # training loss since the last logged step
        self._epoch = Mean()  # training loss since the epoch began
        self._evaluation = Mean()
        self._gradients = GradientLog()  # since the last logged step
        self._omegas = Mean()
        self._penalties = {"ar": Mean(), "tar": Mean()}
        self._last_loss: Tensor | None = None
        self._rate = math.nan  # learning rate of the last update
        self._restored: dict[str, Any] | None = None

    def join(self, team: Team) -> None:
        """Trains with these processes; ValueError where this way of training cannot."""
        if team.size > 1 and self._omega is not None:
            raise ValueError(
                "task.omega is a ratio of sums over the whole batch, which several processes do "
                "not have: set it to 0 or train in one process"
            )
        self.team = team

    @abstractmethod
    def step(self, batch: SequenceBatch, state: Any) -> StepResult:
        """Loss of one batch, read from `state` on (None: from the initial state)."""

    def loss_at(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of one step, summed over the batch: outputs (B, O), targets (B) or (B, O).

        What looks at gradients through time differentiates this (`seqmodels.analysis`).
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of a single step")

    def check_causality(self, batch: SequenceBatch) -> None:
        """Refuse a model whose outputs tell of later inputs; see `causality.check_causality`."""
        check_causality(self.model, batch.inputs, batch.lengths)

    def piece(self, batch: SequenceBatch, *, sequences: int, steps: int) -> Piece:
        """What of a batch is looked at, and which of its losses; see `analysis.piece.cut_piece`."""
        return cut_piece(batch, sequences=sequences, steps=steps)

    def read(self, model: nn.Module, piece: Piece) -> Tensor:
        """The outputs (B, T, ·) of this model, or another like it, for a piece of a batch."""
        outputs: Tensor = model(piece.inputs, None)[0]
        return outputs

    @abstractmethod
    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        """What is reported for a mean loss of so many nats; keys without the stage's name."""

    # --- training -------------------------------------------------------------------------------

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.optimizer_factory(self._trained)
        # Not by Lightning's estimate, which sets up the loaders before a resumed run's position in
        # them is known.
        horizon = Horizon.of(self.trainer, self.batches_per_epoch)
        self._scheduler = self.schedule.build(optimizer, horizon)
        return optimizer

    def on_train_start(self) -> None:
        if self._restored is not None:
            self._resume(self._restored)
            self._restored = None

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        if batch_idx == 0:
            # Not in on_train_epoch_start: Lightning leaves that out where a run resumes from a
            # checkpoint of an epoch's last step.
            self._carried, self._epoch = None, Mean()
        if self._omega is not None:
            self._omega.forget()
        scale = 1.0 if self._scaler is None else float(self._scaler.get_scale())
        self.clip.loss_scale = scale * self.team.size
        result = self.step(batch, self._carried)
        if self.carry_state:
            self._carried = detach(result.state)
        terms = self._penalty.terms()
        seen = self.team.step(batch, result.loss, result.predictions, terms, self.model)
        self._window.add(seen.loss, seen.predictions)
        self._epoch.add(seen.loss, seen.predictions)
        self._last_loss = seen.loss.detach()
        for name, term in seen.terms.items():
            self._penalties[name].add(term, seen.predictions)
        return seen.objective

    def on_after_backward(self) -> None:
        if self._omega is None:
            return
        share = 1.0 / self.trainer.accumulate_grad_batches
        scaler = self._scaler
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        value = self._omega.add_gradient(self.omega * share * scale)
        self._omegas.add(value, torch.ones((), dtype=torch.int64, device=value.device))

    @property
    def _scaler(self) -> Any:
        """The loss scaler of 16-mixed; None elsewhere."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Lightning calls this once per update, after accumulation and after unscaling, which it
        # leaves to fused optimisers: they would do it after the clipping.
        if self._scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            self._scaler.unscale_(optimizer)
        clipped = self.clip([p for group in optimizer.param_groups for p in group["params"]])
        self._gradients.add(clipped)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * self.rate_share
        if clipped.norm.device.type == "cpu":
            norm = 0.0 if clipped.skipped else float(clipped.norm)
            self._refuse_divergence(norm, self.trainer.global_step + 1)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        groups = self.trainer.optimizers[0].param_groups
        rates = [group["lr"] for group in groups]
        optimizer.step(closure=optimizer_closure)
        self._rate = float(groups[0]["lr"])
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate  # of this step alone it may have been another: `rate_share`
        # Here and not in a hook after the batch, so that a checkpoint of this step contains it.
        if self.schedule.interval == "step" and isinstance(self._scheduler, LRScheduler):
            self._scheduler.step()

    def _refuse_divergence(self, norm: float, step: int) -> None:
        assert self._last_loss is not None
        loss = float(self._last_loss)
        scaled = self._scaler is not None  # the loss scaler itself skips such updates
        if not math.isfinite(loss) or not (math.isfinite(norm) or scaled):
            raise DivergedError(
                f"the loss became {loss} at step {step}; the gradient norm was {norm}. "
                "Lower optimizer.lr or clip harder (clip=norm clip.max_norm=…)",
                step,
            )

    def take_window(self) -> dict[str, float]:
        """Metrics of the steps since the last call, which this forgets."""
        if not self._gradients.on_cpu:  # on a CPU every step was checked
            place, norm = self._gradients.first_bad() or (len(self._gradients) - 1, 0.0)
            step = self.trainer.global_step - (len(self._gradients) - 1 - place)
            self._refuse_divergence(norm, step)
        values = {f"train/{k}": v for k, v in self.metrics("train", self._window.value()).items()}
        values["train/learning_rate"] = self._rate
        values |= self._gradients.take()
        if not self._omegas.empty:
            values["train/omega"] = self._omegas.value()
        for name, mean in self._penalties.items():
            if not mean.empty:
                values[f"train/{name}"] = mean.value()
        self._window, self._omegas = Mean(), Mean()
        self._penalties = {name: Mean() for name in self._penalties}
        return values

    @property
    def window_empty(self) -> bool:
        return self._gradients.empty

    def carried_into(self, batch_idx: int) -> Any:
        """The state that a training batch starts from; None: the initial one."""
        return None if batch_idx == 0 else self._carried

    @property
    def epoch_loss(self) -> float:
        """Mean training loss of the present epoch so far."""
        return self._epoch.value()

    # --- evaluation -----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation()

    def on_test_epoch_start(self) -> None:
        self._start_evaluation()

    def _start_evaluation(self) -> None:
        self._evaluated, self._evaluation, self._lost = None, Mean(), None

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        self._evaluate(batch)

    def _evaluate(self, batch: SequenceBatch) -> None:
        before = self._evaluated
        result = self.step(batch, before)
        on_cpu = result.loss.device.type == "cpu"  # elsewhere each batch would wait for it
        if on_cpu and self._lost is None and not bool(result.loss.isfinite()):
            self._lost = (batch, before)
        if self.carry_state:
            self._evaluated = result.state
        self._evaluation.add(result.loss, result.predictions)

    def on_validation_epoch_end(self) -> None:
        loss = self._finish_evaluation("val")
        scheduler = self._scheduler  # None where a finished model is only measured
        if self.schedule.interval == "validation" and isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(loss)

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def _finish_evaluation(self, stage: Stage) -> float:
        loss = self._evaluation.value()
        self._evaluated = None
        if not math.isfinite(loss):
            told = f"the {stage} loss is {loss} after step {self.trainer.global_step}"
            raise DivergedError(told, evaluated=self._lost)
        values = {f"{stage}/{k}": v for k, v in self.metrics(stage, loss).items()}
        # For callbacks that watch a metric; our own loggers are told directly, with the step.
        self.log_dict(values, logger=False)
        if self.record_metrics is not None:
            self.record_metrics(values)
        return loss

    # --- checkpoints ----------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        assert self._scheduler is not None
        carried = None if self._carried is None else plain_state(self._carried)
        own = self.team.gather({"carried": carried, "random": random_state()})
        checkpoint["task"] = {
            "processes": own,  # what each has for itself
            "window": self._window.state(),
            "epoch": self._epoch.state(),
            "gradients": self._gradients.state(),
            "omegas": self._omegas.state(),
            "penalties": {name: mean.state() for name, mean in self._penalties.items()},
            "clip": self.clip.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Kept until training starts: the optimiser does not exist yet, and what happens between
        # may draw random numbers.
        self._restored = checkpoint["task"]

    def _resume(self, saved: dict[str, Any]) -> None:
        assert self._scheduler is not None
        self._scheduler.load_state_dict(saved["scheduler"])
        self._window.load(saved["window"], self.device)
        self._epoch.load(saved["epoch"], self.device)
        self._gradients.load(saved["gradients"], self.device)
        self._omegas.load(saved["omegas"], self.device)
        for name, mean in self._penalties.items():
            mean.load(saved["penalties"][name], self.device)
        self.clip.load_state_dict(saved["clip"])
        own = saved["processes"][self.team.rank]
        if own["carried"] is not None:
            self._carried = self._state_like(own["carried"])
        load_random_state(own["random"])

    def _state_like(self, plain: Any) -> Any:
        """The plain tuples of a checkpoint in the types of the model's own state."""
        batch_size = _first_tensor(plain).shape[0]
        like = next(self.model.parameters())
        template = self.model.initial_state(batch_size, like)  # type: ignore[operator]
        return restore_state(template, plain)


def _first_tensor(state: Any) -> Tensor:
    while not isinstance(state, Tensor):
        state = state[0]
    return state
