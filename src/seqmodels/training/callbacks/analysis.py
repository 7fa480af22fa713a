"""What happens inside the recurrent layers while they train, every so many steps."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from seqmodels.analysis.describe import LayerReport, NotFiniteError, describe_layers
from seqmodels.analysis.piece import Piece, long_batch, to_device
from seqmodels.runs import truncate_metrics
from seqmodels.training.recording import TensorBoard
from seqmodels.training.task import SequenceTask

FILE = "analysis.jsonl"


class LayerAnalysis(pl.Callback):
    """Measures every recurrent layer on the same sequences again and again as training goes on.

    Gradient norm by lag of one loss term, gates, use of the units, time constants, spectral radii
    (`seqmodels.analysis.describe`): one row for each time in `analysis.jsonl`; the key numbers and
    the distributions of the gates on TensorBoard. It draws no random number and leaves model and
    gradients alone: losses are those of a run without it, bit for bit.

    Args:
        every_n_steps: distance of two measurements; also before the first step and after the last.
        sequences: how many, of the first validation batch that is as long, or of training where
            there is none.
        steps: their length at most, where every step has a loss.
        spectra: Jacobians too, whose cost grows with the square of the state's width.
    """

    first_process_only = True

    def __init__(
        self,
        *,
        every_n_steps: int = 500,
        sequences: int = 8,
        steps: int = 100,
        spectra: bool = False,
    ) -> None:
        for name, value in (
            ("every_n_steps", every_n_steps),
            ("sequences", sequences),
            ("steps", steps),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"callbacks.analysis.{name} must be a positive integer: {value!r}")
        self.every_n_steps = every_n_steps
        self.sequences = sequences
        self.steps = steps
        self.spectra = spectra
        self._piece: Piece | None = None
        self._last = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SequenceTask)
        path = Path(trainer.default_root_dir) / FILE
        truncate_metrics(path, trainer.global_step)  # a resumed run writes the rest again
        self._last = _last_step(path)
        data: Any = getattr(pl_module, "data", None)
        if data is None:
            return
        valid = data.valid_loader()
        try:
            if valid is None:
                batch = next(iter(data.train_loader()))
            else:
                batch = long_batch(valid, self.steps)
            made = pl_module.piece(batch, sequences=self.sequences, steps=self.steps)
        except ValueError as error:
            return self._give_up(error)
        self._piece = to_device(made, pl_module.device)
        # At step 0, and where a run was killed between a checkpoint and this.
        if trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        step = trainer.global_step
        if self._piece is None or step == self._last:
            return
        assert isinstance(task, SequenceTask)
        try:
            layers = describe_layers(
                task.model,
                self._piece.inputs,
                loss=partial(_answer_loss, task, self._piece),
                step=self._piece.step,
                spectra=self.spectra,
                outputs=partial(task.read, task.model, self._piece),
                apart=self._piece.apart,
            )
        except NotFiniteError as error:  # the run itself says when it has diverged
            return print(f"seqmodels: no analysis of step {step}: {error}", file=sys.stderr)
        except (ValueError, NotImplementedError) as error:
            return self._give_up(error)
        self._last = step
        row = {"step": step, "layers": {name: own.as_dict() for name, own in layers.items()}}
        with (Path(trainer.default_root_dir) / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoard):
                logger.log_metrics(key_numbers(layers), step)
                _histograms(logger, layers, step)

    def _give_up(self, error: Exception) -> None:
        self._piece = None
        print(f"seqmodels: no analysis of the layers: {error}", file=sys.stderr)


def _histograms(board: TensorBoard, layers: dict[str, LayerReport], step: int) -> None:
    """The gates of every layer on TensorBoard's HISTOGRAMS page, in the bins of the report."""
    for name, report in layers.items():
        for gate, found in report.gates.items():
            width = (1.0 - found.low) / len(found.histogram)
            middles = [found.low + (i + 0.5) * width for i in range(len(found.histogram))]
            board.experiment.add_histogram_raw(
                f"analysis/{name or 'layer'}/gate_{gate}",
                min=found.low,
                max=1.0,
                num=1,  # shares, not counts
                sum=found.mean,
                sum_squares=sum(s * m * m for s, m in zip(found.histogram, middles, strict=True)),
                bucket_limits=[found.low + (i + 1) * width for i in range(len(found.histogram))],
                bucket_counts=found.histogram,
                global_step=step,
            )


def _answer_loss(task: SequenceTask, piece: Piece, outputs: Any) -> Any:
    return task.loss_at(outputs, piece.targets)


def _last_step(path: Path) -> int:
    if not path.exists():
        return -1
    lines = path.read_text(encoding="utf-8").splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else -1


def key_numbers(layers: dict[str, LayerReport]) -> dict[str, float]:
    """A few scalars of each layer, by a name that groups them on TensorBoard."""
    values: dict[str, float] = {}
    for name, report in layers.items():
        own = f"analysis/{name or 'layer'}"
        values[f"{own}/effective_rank"] = report.states.effective_rank
        values[f"{own}/dead_units"] = float(report.states.dead)
        if report.states.saturated is not None:
            values[f"{own}/saturated"] = report.states.saturated
        for gate, found in report.gates.items():
            values[f"{own}/gate_{gate}_mean"] = found.mean
            closed = found.closed if found.low == 0.0 else 0.0  # of a candidate, near 0 is not
            values[f"{own}/gate_{gate}_saturated"] = closed + found.open
        for block, radius in report.spectral_radii.items():
            values[f"{own}/spectral_radius_{block}"] = radius
        if report.time_constants:
            values[f"{own}/time_constant_median"] = report.time_constants[2]
        norms = report.norm_by_lag
        for lag in (10, 50):
            if len(norms) > lag and norms[0] > 0 and norms[lag] > 0:
                values[f"{own}/gradient_left_after_{lag}"] = norms[lag] / norms[0]
    return values
