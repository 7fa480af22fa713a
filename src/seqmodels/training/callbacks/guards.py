"""Guards of a run: no sight of the future, and a word about where the first NaN came from."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch

from seqmodels.training.causality import first_tensor
from seqmodels.training.checkpoints import save
from seqmodels.training.guards import find_first
from seqmodels.training.state import plain_state
from seqmodels.training.task import DivergedError, SequenceTask


class CausalityCheck(pl.Callback):
    """Before the first step of a task that predicts what follows, tries a piece of the batch.

    See `seqmodels.training.causality.check_causality`; the run ends with its `NotCausalError`.
    """

    def __init__(self) -> None:
        self._checked = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._checked = not (isinstance(pl_module, SequenceTask) and pl_module.must_be_causal)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._checked:
            assert isinstance(pl_module, SequenceTask)
            pl_module.check_causality(batch)
            self._checked = True


class _Kept(NamedTuple):
    """What one training batch depended on, beside the weights."""

    step: int
    batch: Any
    state: Any
    random: tuple[torch.Tensor, torch.Tensor | None]


class DivergenceWatch(pl.Callback):
    """When the loss or the gradient has become NaN or infinite, says where and keeps the batch.

    Until then it only remembers the batch, the carried state and the random generator's state of
    the running step. Then it goes through the step again, layer by layer on the eager engine
    (`seqmodels.training.guards.find_first`), adds what it finds to the message, and writes
    `diverged.pt` into the run directory: step, batch, carried state, random state and the weights,
    plain tensors for `torch.load(..., weights_only=True)`. The same where an evaluation's loss is
    NaN or infinite, of the first batch that made it so.

    On an accelerator, where nothing waits for a step's result, divergence is seen at the next
    logged step: the batch of the first bad step is kept, but the weights have moved on with it, so
    that the layer can no longer be told.
    """

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, SequenceTask)
        on_cpu = pl_module.device.type == "cpu"
        step = trainer.global_step + 1
        oldest = step if on_cpu else step - trainer.log_every_n_steps  # type: ignore[attr-defined]
        while self._kept and self._kept[0].step < oldest:
            self._kept.popleft()
        random = (torch.get_rng_state(), None if on_cpu else _device_random(pl_module.device))
        self._kept.append(_Kept(step, batch, pl_module.carried_into(batch_idx), random))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if not isinstance(exception, DivergedError):
            return
        assert isinstance(pl_module, SequenceTask)
        if exception.evaluated is not None:
            batch, state = exception.evaluated
            own = [_Kept(trainer.global_step, batch, state, (torch.get_rng_state(), None))]
        else:
            own = [kept for kept in self._kept if kept.step == exception.step]
        if not own:
            return
        if exception.step is None:
            found, chosen = self._find(trainer, pl_module, own, training=False)
        elif trainer.global_step >= exception.step:
            found, chosen = "the weights have changed since, so the layer cannot be told", own[-1]
        else:
            found, chosen = self._find(trainer, pl_module, own)
        name = f"diverged_{trainer.global_rank}.pt" if trainer.global_rank else "diverged.pt"
        path = Path(trainer.default_root_dir) / name
        told = f". First: {found}"
        try:
            save(_content(pl_module, chosen), path)
            told += f". The batch is in {path}"
        except OSError as error:
            told += f". The batch could not be written to {path}: {error.strerror or error}"
        exception.args = (f"{exception.args[0]}{told}",)

    def _find(
        self, trainer: pl.Trainer, task: SequenceTask, own: list[_Kept], *, training: bool = True
    ) -> tuple[str, _Kept]:
        """In words where it first is, and in which batch: with accumulation a step has several."""
        task.train(training)
        for kept in own:

            def loss_of(kept: _Kept = kept) -> torch.Tensor:
                with trainer.precision_plugin.forward_context():
                    return task.step(kept.batch, kept.state).loss

            devices = [] if kept.random[1] is None else [task.device]
            with torch.random.fork_rng(devices=devices):
                torch.set_rng_state(kept.random[0])
                if kept.random[1] is not None:
                    torch.cuda.set_rng_state(kept.random[1], task.device)
                inputs = first_tensor(kept.batch)
                assert inputs is not None
                finding = find_first(task.model, loss_of, (inputs.shape[0], inputs.shape[1]))
            if finding is not None:
                return f"{finding}{_of_the_optimizer(trainer, task, finding.parameter)}", kept
        return "on the eager engine all of this step is finite: only the norm is not", own[-1]


def _of_the_optimizer(trainer: pl.Trainer, task: SequenceTask, parameter: str | None) -> str:
    """Which of the optimiser's own numbers of a parameter are lost, too."""
    if parameter is None:
        return ""
    weight = task.model.get_parameter(parameter)
    own = {k: v for o in trainer.optimizers for k, v in o.state.get(weight, {}).items()}
    lost = [k for k, v in own.items() if isinstance(v, torch.Tensor) and not v.isfinite().all()]
    return f" (so did the optimizer's {', '.join(lost)} of it)" if lost else ""


def _device_random(device: torch.device) -> torch.Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _content(task: SequenceTask, kept: _Kept) -> dict[str, Any]:
    batch = kept.batch._asdict() if hasattr(kept.batch, "_asdict") else {"batch": kept.batch}
    return {
        "step": kept.step,
        "batch": batch,
        "carried": None if kept.state is None else plain_state(kept.state),
        "random": kept.random[0],
        "state_dict": task.model.state_dict(),
    }
