"""A linear readout in closed form: ridge regression on the states of a recurrent model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqmodels.analysis.ridge import RidgeStream, Solver
from seqmodels.data.base import SequenceBatch
from seqmodels.models import EchoStateModel
from seqmodels.training.clipping import Clip, NoClip
from seqmodels.training.parallel import Team
from seqmodels.training.prediction import AnsweredData, Regression
from seqmodels.training.schedules import ConstantSchedule, Schedule
from seqmodels.training.series_scores import start_left
from seqmodels.training.task import OptimizerFactory, Stage

# Numbers of features held at a time: 24 MB in float64. The allocator hands memory of this size out
# again; larger pieces come fresh from the system each time, which costs as much as the states.
_CHUNK = 3_000_000


class ClosedForm(Optimizer):
    """Stands where an optimiser is asked for: the weights are solved for, not stepped to."""

    takes_no_steps = True

    def __init__(self, params: Iterable[nn.Parameter]) -> None:
        super().__init__(params, {"lr": 0.0})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        return None if closure is None else closure()


class Ridge(Regression):
    """min Σ_t ‖y_t − c − V z_t‖² + β ‖V‖² over the features z of an `EchoStateModel`.

    One pass over the training data, in pieces whose size does not depend on its length; then V and
    c for every penalty, of which the one with the least error on the validation data is kept.
    Series are read one by one or side by side, each from the initial state; where nothing is asked
    (washout) nothing is fitted.

    Args:
        model: an `EchoStateModel`.
        optimizer, schedule, clip: must be the ones that do nothing (optimizer=none,
            scheduler=none, clip=none).
        penalties: β >= 0, added to the diagonal of ZᵀZ as it is; several need validation data.
        solver: "gram" or "qr", see `RidgeStream`.
        data: its targets must be numbers.
        tolerance: see `Regression`.

    Attributes:
        penalty: the one that was chosen; None before.
    """

    takes_steps = False

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: AnsweredData,
        penalties: Sequence[float] = (1e-6, 1e-4, 1e-2, 1.0),
        solver: Solver = "gram",
        tolerance: float = 0.04,
    ) -> None:
        if not isinstance(model, EchoStateModel):
            raise ValueError(
                "task=ridge fits the readout of an echo state model: choose model=echo_state "
                f"(got a {type(model).__name__})"
            )
        made = optimizer([torch.nn.Parameter(torch.zeros(1))])
        idle = isinstance(schedule, ConstantSchedule) and isinstance(clip, NoClip)
        if not isinstance(made, ClosedForm) or not idle:
            raise ValueError(
                "task=ridge solves for its weights and takes no steps: choose optimizer=none, "
                "scheduler=none and clip=none"
            )
        penalties = list(penalties)
        if not penalties or min(penalties) < 0:
            raise ValueError(f"task.penalties: expected numbers >= 0, got {penalties}")
        if len(penalties) > 1 and data.valid_loader() is None:
            raise ValueError(
                f"task.penalties: to choose among {len(penalties)} takes validation data "
                "(data.valid=…), or give one"
            )
        super().__init__(
            model, optimizer=optimizer, schedule=schedule, clip=clip, data=data, tolerance=tolerance
        )
        self.automatic_optimization = False
        self.penalties = penalties
        self.penalty: float | None = None
        outputs = len(model.bias)
        self._stream = RidgeStream(model.num_features, outputs, solver=solver)
        self._logged = True

    @property
    def readout(self) -> EchoStateModel:
        assert isinstance(self.model, EchoStateModel)
        return self.model

    def join(self, team: Team) -> None:
        if team.size > 1:
            raise ValueError(
                "task=ridge solves for its readout in one process: leave trainer.strategy=ddp and "
                "trainer.devices out"
            )
        super().join(team)

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> None:  # type: ignore[override]
        self.model.train()  # with its noise, dropout and zoneout, where there are some
        for features, targets in self._rows(batch):
            self._stream.add(features, targets)
        if batch_idx + 1 >= self.batches_per_epoch:
            self._solve(batch)
            self.trainer.should_stop = True
        optimizer: Any = self.optimizers()
        optimizer.step()

    @torch.no_grad()
    def _rows(self, batch: SequenceBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (N, F) and answers (N, O), piece by piece."""
        whole = any(getattr(m, "causal", True) is False for m in self.model.modules())
        rows = (
            [slice(None)]
            if batch.lengths is None
            else [slice(b, b + 1) for b in range(len(batch.inputs))]
        )
        for index, row in enumerate(rows):
            inputs, targets = batch.inputs[row], batch.targets[row]
            if batch.lengths is not None:
                steps = int(batch.lengths[index])
                inputs, targets = inputs[:, :steps], targets[:, :steps]
            size = max(1, _CHUNK // (len(inputs) * self.readout.num_features))
            size = inputs.shape[1] if whole else size
            state = None
            for at in range(0, inputs.shape[1], size):
                z, state = self.readout.features(inputs[:, at : at + size], state)
                wanted = targets[:, at : at + size]
                asked = self.asked(wanted)
                # By time first, as they lie: in this order nothing is copied.
                yield (
                    (z.transpose(0, 1).flatten(0, 1), wanted.transpose(0, 1).flatten(0, 1))
                    if bool(asked.all())
                    else (z[asked], wanted[asked])
                )

    @torch.no_grad()
    def _solve(self, batch: SequenceBatch) -> None:
        weights, biases = self._stream.solve(self.penalties)  # (P, O, F), (P, O)
        best = 0
        if len(self.penalties) > 1:
            errors = torch.zeros(len(self.penalties), dtype=torch.float64, device=weights.device)
            self.model.eval()
            loader: Any = self.data.valid_loader()
            for each in loader:
                moved = self._moved(each)
                for features, targets in self._rows(moved):
                    said = features.double() @ weights.flatten(0, 1).t() + biases.flatten()
                    said = said.reshape(-1, *biases.shape)  # (N, P, O)
                    errors += (said - targets.double().unsqueeze(1)).square().sum((0, 2))
            self.model.train()
            best = int(errors.nan_to_num(nan=torch.inf).argmin())
        self.penalty = self.penalties[best]
        self.readout.weight.copy_(weights[best])
        self.readout.bias.copy_(biases[best])
        total = count = 0.0
        for features, targets in self._rows(batch):
            said = features.to(self.readout.weight) @ self.readout.weight.t() + self.readout.bias
            total += float((said - targets).double().square().sum())
            count += targets.numel()
        mean = torch.tensor(total / max(count, 1.0), dtype=torch.float64)
        self._window.add(mean, torch.tensor(1))
        self._epoch.add(mean, torch.tensor(1))
        self._logged = False

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        values = super().metrics(stage, loss)
        if stage == "test" and self._series is not None and self.readout.backbone.causal:
            values["start_left"] = start_left(self.model, self._series)
        return values

    def _moved(self, batch: SequenceBatch) -> SequenceBatch:
        like = self.readout.weight
        return SequenceBatch(batch.inputs.to(like), batch.targets.to(like), batch.lengths)

    @property
    def window_empty(self) -> bool:
        return self._logged

    def take_window(self) -> dict[str, float]:
        values = {"train/loss": self._window.value()}
        if self.penalty is not None:
            values["train/penalty"] = self.penalty
        self._window = type(self._window)()
        self._logged = True
        return values

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["task"]["ridge"] = self._stream.state_dict()

    def _resume(self, saved: dict[str, Any]) -> None:
        super()._resume(saved)
        self._stream.load_state_dict(saved["ridge"])
