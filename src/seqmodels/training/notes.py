"""Which notes sound next."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from seqmodels.training.prediction import Prediction
from seqmodels.training.task import Stage


class NotePrediction(Prediction):
    """−Σ_n log p(x_{t+1,n} | x_1 … x_t), summed over the notes n, averaged over the steps, in nats.

    Each note is on with probability σ(o_{t,n}), independent of the others given the past. In
    evaluation it reports `frame_accuracy` too, TP / (TP + FP + FN) over all notes of all steps, a
    note being answered where its probability is above one half (Bay, Ehmann & Downie 2009).

    Args: see `Prediction`.

    Raises:
        ValueError: a layer of the model is not causal: it would read the notes to be predicted.
    """

    asks_for = "notes"
    must_be_causal = True

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            outputs, targets, reduction="none"
        ).sum(-1)

    def right(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs > 0) == (targets > 0.5)).all(-1)

    def asked(self, targets: Tensor) -> Tensor:
        return ~targets.isnan().any(-1)

    def _tally(self, asked: Tensor, outputs: Tensor, targets: Tensor, padded: bool) -> None:
        super()._tally(asked, outputs, targets, padded)
        said, true = outputs > 0, targets > 0.5
        for name, value in (("both", said & true), ("either", said | true)):
            self._tallies[name] = self._tallies.get(name, 0) + value.sum()

    def metrics(self, stage: Stage, loss: float) -> dict[str, Any]:
        either = int(self._tallies.get("either", 0))
        values = super().metrics(stage, loss)
        if "both" in self._tallies:
            values["frame_accuracy"] = int(self._tallies["both"]) / max(1, either)
        return values
