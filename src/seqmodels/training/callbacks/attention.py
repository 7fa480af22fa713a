"""What attention looks at while a model learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl

from seqmodels.analysis.attention_picture import attention_maps, attention_picture
from seqmodels.data.base import SequenceBatch
from seqmodels.data.pairs import PairVocabulary
from seqmodels.models import EncoderDecoder
from seqmodels.training.recording import TensorBoard
from seqmodels.training.seq2seq import SequenceToSequence

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AttentionMaps(pl.Callback):
    """After each validation on TensorBoard; when training ends, as `attention.png` in the run too.

    The sequences are those in the middle of the first validation batch, the same each time.

    Args:
        sequences: how many, ≥ 1.
    """

    first_process_only = True

    def __init__(self, *, sequences: int = 4) -> None:
        if isinstance(sequences, bool) or not isinstance(sequences, int) or sequences < 1:
            raise ValueError(f"callbacks.attention.sequences must be >= 1, got {sequences!r}")
        self.sequences = sequences

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        figure = self._drawn(pl_module) if trainer.state.fn == "fit" and boards else None
        for board in boards if figure is not None else ():
            board.experiment.add_figure("attention", figure, trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figure = self._drawn(pl_module)
        if figure is not None:
            folder = Path(trainer.default_root_dir)
            figure.savefig(folder / ".attention.tmp.png", dpi=110)
            (folder / ".attention.tmp.png").replace(folder / "attention.png")

    def _drawn(self, task: pl.LightningModule) -> Figure | None:
        if not isinstance(task, SequenceToSequence):
            return None
        model, vocabulary = task.model, task.data.vocabulary
        assert isinstance(model, EncoderDecoder) and isinstance(vocabulary, PairVocabulary)
        if model.attention is None:
            return None
        batch = next(iter(task.data.valid_loader() or task.data.train_loader()))
        first = max(0, (len(batch.inputs) - self.sequences) // 2)
        rows = slice(first, first + self.sequences)
        lengths = None if batch.lengths is None else batch.lengths[rows]
        few = SequenceBatch(batch.inputs[rows].to(task.device), batch.targets[rows], lengths)
        return attention_picture(attention_maps(model, few, vocabulary))
