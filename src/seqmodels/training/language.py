"""Language modelling: predict every next token."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from seqmodels.data.base import IGNORE, Loader, SequenceBatch, Split
from seqmodels.data.vocabulary import Vocabulary
from seqmodels.models import SequenceModel
from seqmodels.training.averaging import Averaging
from seqmodels.training.causality import refuse_sight_of_later_inputs
from seqmodels.training.clipping import Clip
from seqmodels.training.schedules import Schedule
from seqmodels.training.task import OptimizerFactory, SequenceTask, Stage, StepResult

SPLITS: dict[Stage, Split] = {"train": "train", "val": "valid", "test": "test"}


class TokenData(Protocol):
    """What a language model needs to know of its text."""

    @property
    def vocabulary(self) -> Vocabulary | None: ...

    def train_loader(self) -> Loader: ...

    def valid_loader(self) -> Loader | None: ...

    def characters_per_token(self, split: Split) -> float:
        """Mean length of a token of this split in characters of the original text."""


class LanguageModelling(SequenceTask):
    """Mean negative log-likelihood of the next token, −log p(x_{t+1} | x_{1..t}), in nats.

    Reports the loss (nats per token), perplexity exp(loss), and bits per character of the original
    text: loss / ln 2 times tokens per character.

    Args:
        model: gives logits (B, T, V).
        optimizer, schedule, clip, carry_state, omega, ar, tar: see `SequenceTask`.
        data: the text, for the characters that a token stands for and the vocabulary. Where its
            chunks have random lengths, an update has the rate lr · T / seq_len (Merity et al.
            2017), with accumulated gradients that of the last chunk.
        average_after: the weights are averaged from the first validation on that is worse than the
            best of all but so many before it (`seqmodels.training.averaging`); None: never.

    Raises:
        ValueError: a layer of the model is not causal: it would read the tokens to be predicted; or
            the data is no text.
    """

    must_be_causal = True

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule,
        clip: Clip,
        data: TokenData,
        carry_state: bool = True,
        omega: float = 0.0,
        ar: float = 0.0,
        tar: float = 0.0,
        average_after: int | None = None,
    ) -> None:
        asked = getattr(data, "targets", "next tokens")
        if data.vocabulary is not None and asked != "next tokens":
            raise ValueError(
                f"task=language_model predicts the next token, and this data asks for {asked}: "
                f"choose task={'seq2seq' if asked == 'sequences' else 'classification'}"
            )
        if data.vocabulary is None:
            raise ValueError(
                "task=language_model predicts the next symbol of a text, and this data is none: "
                "choose task=classification, task=regression or task=notes"
            )
        refuse_sight_of_later_inputs(
            model, "language modelling predicts each next token from those before it"
        )
        super().__init__(
            model,
            optimizer=optimizer,
            schedule=schedule,
            clip=clip,
            carry_state=carry_state,
            batches_per_epoch=len(data.train_loader()),
            omega=omega,
            ar=ar,
            tar=tar,
        )
        self.data = data
        self._usual = int(getattr(data, "seq_len", 1))
        self._random = bool(getattr(data, "random_seq_len", False))
        self._averaging = None if average_after is None else Averaging(self._trained, average_after)

    def step(self, batch: SequenceBatch, state: Any) -> StepResult:
        if self.training and self._random:
            self.rate_share = batch.inputs.shape[1] / self._usual
        if isinstance(self.model, SequenceModel):
            loss, state = self.model.loss(batch.inputs, batch.targets, state, batch.lengths)
        else:
            logits, state = self.model(batch.inputs, state, batch.lengths)  # (B, T, V)
            loss = nn.functional.cross_entropy(
                logits.transpose(1, 2), batch.targets, ignore_index=IGNORE
            )
        return StepResult(loss, (batch.targets != IGNORE).sum(), state)

    def loss_at(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, ignore_index=IGNORE, reduction="sum")

    # --- averaged weights -----------------------------------------------------------------------

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self._averaging is not None:
            self._averaging.after_step()

    def on_validation_start(self) -> None:
        if self._averaging is not None and self.trainer.state.fn == "fit":
            self._averaging.put_in()

    def on_validation_end(self) -> None:
        # After the callbacks: what a checkpoint of a validation holds is what was measured.
        if self._averaging is not None:
            self._averaging.take_out()

    def _finish_evaluation(self, stage: Stage) -> float:
        loss = super()._finish_evaluation(stage)
        if self._averaging is not None and stage == "val" and self.trainer.state.fn == "fit":
            self._averaging.after_validation(loss)
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self._averaging is not None:
            checkpoint["task"]["averaging"] = self._averaging.state_dict()

    def _resume(self, saved: dict[str, Any]) -> None:
        super()._resume(saved)
        if self._averaging is not None:
            self._averaging.load_state_dict(saved["averaging"])

    def metrics(self, stage: Stage, loss: float) -> dict[str, float]:
        bits = loss / math.log(2.0)
        return {
            "loss": loss,
            "perplexity": math.exp(loss) if loss < 700.0 else math.inf,
            "bits_per_character": bits / self.data.characters_per_token(SPLITS[stage]),
        }
