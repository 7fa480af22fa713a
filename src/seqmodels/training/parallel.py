"""Training by several processes that share each batch and hold equal weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from seqmodels.data.base import Loader, SequenceBatch
from seqmodels.training.interruption import StopRequest

if TYPE_CHECKING:
    from seqmodels.training.task import SequenceTask


class SpareBatch(SequenceBatch):
    """The first sequence of a batch that has fewer than there are processes: it counts nothing."""

    __slots__ = ()


class SharedLoader:
    """Of every batch of a loader the rows of one process, in contiguous parts as equal as can be.

    All processes read the same batches in the same order. The rows of a stream loader are streams,
    so that each process carries the states of its own.

    Args:
        loader: of the whole batches.
        rank: 0 … size − 1, which process.
        size: how many there are.

    Raises:
        ValueError: batches of fewer sequences than processes.
    """

    def __init__(self, loader: Loader, rank: int, size: int) -> None:
        if loader.batch_size < size:
            raise ValueError(
                f"{size} processes cannot share batches of {loader.batch_size}: set "
                f"data.batch_size to {size} at least, or trainer.devices lower"
            )
        self.loader, self.rank, self.size = loader, rank, size
        self.batch_size = loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[SequenceBatch]:
        return map(self._part, self.loader)

    def _part(self, batch: SequenceBatch) -> SequenceBatch:
        rows = len(batch.inputs)
        start, end = rows * self.rank // self.size, rows * (self.rank + 1) // self.size
        if start == end:
            return SpareBatch(*_rows(batch, 0, 1))
        return SequenceBatch(*_rows(batch, start, end))

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.loader.state_dict()  # type: ignore[attr-defined]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)  # type: ignore[attr-defined]


def _rows(batch: SequenceBatch, start: int, end: int) -> list[Any]:
    return [None if part is None else part[start:end] for part in batch]


class Step(NamedTuple):
    """A training step as all processes together see it."""

    objective: Tensor  # () what this process differentiates
    loss: Tensor  # () mean over the predictions of the whole batch
    predictions: Tensor  # () int64: of the whole batch
    terms: Mapping[str, Tensor]  # penalties, the mean over the processes


class Team:
    """The processes that train together; by default one.

    With L_r, the mean over the n_r predictions of process r, and its penalties P_r, the processes
    differentiate R · n_r/n · (L_r + P_r), n = Σ n_r. Averaged over the R processes, as
    `DistributedDataParallel` does, this is the gradient of the mean over the whole batch. (So is
    that of the penalties where all parts are of the same size.)

    Args:
        rank: 0 … size − 1, which of them this is.
        size: R.
        stop: the wish of this process to stop, which becomes that of all at the next step.
    """

    def __init__(self, rank: int = 0, size: int = 1, stop: StopRequest | None = None) -> None:
        self.rank, self.size, self.stop = rank, size, stop
        if stop is not None:
            stop.together = size > 1

    def step(
        self,
        batch: SequenceBatch,
        loss: Tensor,
        predictions: Tensor,
        terms: Mapping[str, Tensor],
        model: nn.Module,
    ) -> Step:
        whole = loss
        for term in terms.values():
            whole = whole + term
        if self.size == 1:
            return Step(whole, loss, predictions, terms)
        own = 0 if isinstance(batch, SpareBatch) else int(predictions)
        asked = self.stop is not None and self.stop.requested is not None
        parts = [float(term.detach()) * own for term in terms.values()]
        told = torch.tensor(
            [own, float(loss.detach()) * own if own else 0.0, float(asked), *parts],
            dtype=torch.float32 if loss.device.type == "mps" else torch.float64,
            device=loss.device,
        )
        dist.all_reduce(told)
        count, total, wishes = told[0], told[1], told[2]
        if self.stop is not None and float(wishes) > 0:
            self.stop.agree()
        if own:
            objective = whole * (own * self.size / count).to(whole.dtype)
        else:  # a mean over nothing is no number, and has no gradient
            trained = [p for p in model.parameters() if p.requires_grad]
            objective = torch.stack([p.sum() for p in trained]).sum() * 0.0
        means = {name: told[3 + i] / count for i, name in enumerate(terms)}
        return Step(objective, total / count, count.to(torch.int64), means)

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def leaves_parameters_out(task: SequenceTask, batch: SequenceBatch) -> bool:
    """Whether a batch may leave some trained parameters without a gradient.

    So it is where this one does, and with an adaptive softmax, whose rare words have parameters of
    their own.
    """
    if any(isinstance(m, nn.AdaptiveLogSoftmaxWithLoss) for m in task.modules()):
        return True
    trained = [p for p in task.parameters() if p.requires_grad]
    like = trained[0]
    moved: list[Any] = [
        part.to(like.dtype) if part is not None and part.is_floating_point() else part
        for part in batch
    ]
    task.eval()  # nothing is drawn, and no policy of training takes part
    found = torch.autograd.grad(
        task.step(SequenceBatch(*moved), None).loss, trained, allow_unused=True
    )
    task.train()
    task.on_validation_epoch_start()  # forgets what was counted
    return any(gradient is None for gradient in found)
