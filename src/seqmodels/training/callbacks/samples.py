"""Generated text on TensorBoard, so that one can read what the model has learnt."""

from __future__ import annotations

import lightning.pytorch as pl
import torch

from seqmodels.sampling import check_sampling, sample
from seqmodels.training.language import LanguageModelling
from seqmodels.training.recording import TensorBoard


class SampleText(pl.Callback):
    """After each validation, writes a continuation of `prompt` to TensorBoard's TEXT page.

    Args:
        length: tokens drawn.
        temperature: see `seqmodels.sampling.choose_next`.
        prompt: what the text starts with; null: a line break.
        seed: the same at every validation, so that the texts can be compared.
    """

    first_process_only = True

    def __init__(
        self,
        *,
        length: int = 300,
        temperature: float = 0.8,
        prompt: str | None = None,
        seed: int = 0,
    ) -> None:
        check_sampling(length, temperature, None, None)
        self.length = length
        self.temperature = temperature
        self.prompt = prompt
        self.seed = seed

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        if trainer.state.fn != "fit" or not boards or not isinstance(pl_module, LanguageModelling):
            return
        vocabulary = pl_module.data.vocabulary
        assert vocabulary is not None
        ids = torch.tensor([vocabulary.encode_prompt(self.prompt)], device=pl_module.device)
        drawn = sample(
            pl_module.model,
            ids,
            self.length,
            seed=self.seed,
            temperature=self.temperature,
            exclude=(vocabulary.unk_id,),
        )
        text = vocabulary.decode(drawn[0].tolist())
        for board in boards:
            # Indented by four: a Markdown page shows it letter for letter.
            written = vocabulary.opening(self.prompt) + text
            page = "\n".join("    " + line for line in written.split("\n"))
            board.experiment.add_text("samples", page, trainer.global_step)
