"""Sequences that are written of sequences that were read."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from seqmodels.analysis.piece import Piece, last_answer
from seqmodels.data.base import IGNORE, Loader, SequenceBatch
from seqmodels.data.vocabulary import Vocabulary
from seqmodels.models import EncoderDecoder
from seqmodels.training.causality import check_causality
from seqmodels.training.clipping import Clip
from seqmodels.training.schedules import Schedule
from seqmodels.training.task import OptimizerFactory, SequenceTask, Stage, StepResult


class PairData(Protocol):
    """What the task needs to know of its data; see `seqmodels.data.pairs`."""

    @property
    def vocabulary(self) -> Vocabulary | None: ...

    def train_loader(self) -> Loader: ...

    def valid_loader(self) -> Loader | None: ...


class SequenceToSequence(SequenceTask):
    """−ln p(y_t | y_1 … y_{t−1}, x) with the true symbols before (teacher forcing), in nats.

    Reports the loss, the mean over all symbols of the targets with their ends; and in evaluation

        accuracy        share of these symbols that are the likeliest, the true ones before them
        exact_match     share of the sequences that greedy decoding writes wholly right, end
                        included; also for each length of the sources where there are several sets

    Args:
        model: an `EncoderDecoder`.
        optimizer, schedule, clip: see `SequenceTask`.
        data: pairs of sequences.

    Raises:
        ValueError: the model or the data is another.
    """

    must_be_causal = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: PairData,
    ) -> None:
        if not isinstance(model, EncoderDecoder):
            raise ValueError(
                f"task=seq2seq is for model=seq2seq, and this model is a {type(model).__name__}"
            )
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            carry_state=False,
            batches_per_epoch=len(data.train_loader()),
        )
        self.data = data
        self._tallies: dict[str, Tensor] = {}

    def step(self, batch: SequenceBatch, state: Any) -> StepResult:
        assert isinstance(self.model, EncoderDecoder)
        previous = before(batch.targets, self.model.end)
        logits, _ = self.model(batch.inputs, previous, batch.lengths)  # (B, T, V)
        asked = batch.targets != IGNORE  # (B, T)
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE
        )
        if not self.training:
            self._tally(batch, asked, logits.argmax(-1))
        return StepResult(loss, asked.sum(), None)

    def check_causality(self, batch: SequenceBatch) -> None:
        """Of what the decoder reads; the sources are known from the beginning."""
        assert isinstance(self.model, EncoderDecoder)
        sources, targets, lengths = batch
        model = self.model

        def outputs(previous: Tensor) -> Tensor:
            rows = slice(len(previous))
            logits: Tensor = model(
                sources[rows], previous, None if lengths is None else lengths[rows]
            )[0]
            return logits

        check_causality(model, before(targets, model.end), outputs=outputs)

    def loss_at(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="sum")

    def piece(self, batch: SequenceBatch, *, sequences: int, steps: int) -> Piece:
        """Sources of the commonest length, whole; the last symbol that most of them are asked."""
        assert isinstance(self.model, EncoderDecoder)
        inputs, targets, lengths = batch
        if lengths is not None:
            length = int(lengths.mode().values)
            chosen = lengths == length
            inputs, targets = inputs[chosen][:, :length], targets[chosen]
        previous = before(targets, self.model.end)[:, :steps]
        step, rows = last_answer(targets[:, :steps] != IGNORE)
        rows = rows[:sequences]
        known = previous[rows, : step + 1]
        return Piece(inputs[rows], targets[rows, step], step, known, apart=("encoder",))

    def read(self, model: nn.Module, piece: Piece) -> Tensor:
        logits: Tensor = model(piece.inputs, piece.beside)[0]
        return logits

    def _tally(self, batch: SequenceBatch, asked: Tensor, likeliest: Tensor) -> None:
        assert isinstance(self.model, EncoderDecoder)
        written = self.model.greedy(batch.inputs, batch.lengths, batch.targets.shape[1]).tokens
        whole = torch.full_like(batch.targets, self.model.end)  # (B, T)
        whole[:, : written.shape[1]] = written
        exact = ((whole == batch.targets) | ~asked).all(1)
        steps = 0 if batch.lengths is not None else batch.inputs.shape[1]  # 0: of many lengths
        for name, value in (
            ("symbols", asked.sum()),
            ("right", (asked & (likeliest == batch.targets)).sum()),
            (f"sequences/{steps}", torch.tensor(len(exact), device=exact.device)),
            (f"exact/{steps}", exact.sum()),
        ):
            self._tallies[name] = self._tallies.get(name, 0) + value

    def _start_evaluation(self) -> None:
        super()._start_evaluation()
        self._tallies = {}

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit":
            self._tallies = {}  # they are no part of what training reports

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        values = {"loss": loss}
        if not self._tallies:
            return values
        counts = {name: int(value) for name, value in self._tallies.items()}
        values["accuracy"] = counts["right"] / counts["symbols"]
        steps = sorted(int(n.partition("/")[2]) for n in counts if n.startswith("exact/"))
        exact = sum(counts[f"exact/{n}"] for n in steps)
        values["exact_match"] = exact / sum(counts[f"sequences/{n}"] for n in steps)
        if len(steps) > 1 and 0 not in steps:
            for n in steps:
                values[f"exact_match_{n}_steps"] = counts[f"exact/{n}"] / counts[f"sequences/{n}"]
        return values


def before(targets: Tensor, end: int) -> Tensor:
    """What the decoder reads where it is to write targets (B, T): the end, y_1 … y_{T−1}."""
    known = targets.masked_fill(targets == IGNORE, end)
    return torch.cat((torch.full_like(known[:, :1], end), known[:, :-1]), 1)
