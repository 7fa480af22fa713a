"""`seqmodels analyse`: what happens inside a trained run's recurrent layers, in pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seqmodels import __version__
from seqmodels.config import check, compose
from seqmodels.errors import UserError
from seqmodels.runs import now, write_atomically, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from seqmodels.analysis.describe import LayerReport
    from seqmodels.commands.analyse_subject import Subject

FOLDER = "analysis"
FORMAT = 1  # of analysis.json


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    cfg = compose("analyse", overrides, config_dirs)
    check(cfg)

    from seqmodels.commands import building
    from seqmodels.commands.analyse_subject import load_subject, over_training
    from seqmodels.commands.analyse_table import layer_table, print_tables

    building.set_threads(cfg.num_threads)
    own = load_subject(cfg)
    print(
        f"{own.folder}, {own.checkpoint} checkpoint (step {own.step}), {own.split} split: "
        f"{own.piece}",
        flush=True,
    )
    try:
        layers, paths = _measure(own, cfg)
        source, rows = over_training(own)
    except ValueError as error:
        raise UserError(str(error)) from None
    pictures = {name: _png(f) for name, f in _figures(own.folder, layers, paths, rows).items()}
    plain = _plain(own, cfg, layers, source, rows, list(pictures))
    gone = _write(own.folder / FOLDER, plain, pictures)
    shown = _to_tensorboard(own.folder, pictures, own.step)
    print_tables(layer_table(layers), layers, own.folder / FOLDER, list(pictures))
    if gone:
        print(gone)
    print("TensorBoard: page IMAGES" if shown else "TensorBoard: this run has not written for it")
    return 0


def _measure(own: Subject, cfg: DictConfig) -> tuple[dict[str, LayerReport], dict[str, Tensor]]:
    """The reports of all layers, and their outputs (T, B, H)."""
    from seqmodels.analysis.courses import courses
    from seqmodels.analysis.describe import describe_layers

    outputs = partial(own.task.read, own.model, own.piece)
    layers = describe_layers(
        own.model,
        own.piece.inputs,
        loss=own.loss,
        step=own.piece.step,
        spectra=cfg.spectra,
        points=cfg.points,
        lags=tuple(cfg.lags),
        most_units=cfg.most_units,
        outputs=outputs,
        apart=own.piece.apart,
    )
    found = courses(own.model, own.piece.inputs, outputs=outputs)
    return layers, {name: course.path() for name, course in found.items()}


def _figures(
    run_dir: Path,
    layers: dict[str, LayerReport],
    paths: dict[str, Tensor],
    rows: list[dict[str, Any]],
) -> dict[str, Figure]:
    from seqmodels.analysis import pictures
    from seqmodels.analysis.cliff_picture import cliff
    from seqmodels.commands.analyse_subject import read_rows

    made = {
        "gradient_by_lag": pictures.gradient_by_lag(layers),
        "gradient_over_training": pictures.gradient_over_training(rows),
        "jacobian_spectra": pictures.jacobian_spectra(layers),
        "gates": pictures.gate_histograms(layers),
        "states": pictures.states(layers, paths),
        "clipping": pictures.clipping(read_rows(run_dir / "metrics.jsonl")),
        "cliff": cliff(),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def _png(figure: Figure) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    with np.errstate(over="ignore"):  # of the products of a perspective, on some machines
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _plain(
    own: Subject,
    cfg: DictConfig,
    layers: dict[str, LayerReport],
    source: str | None,
    rows: list[dict[str, Any]],
    pictures: list[str],
) -> dict[str, Any]:
    """What analysis.json holds."""
    names = [n for n, part in rows[-1]["layers"].items() if part["norm_by_lag"]] if rows else []
    return {
        "format": FORMAT,
        "date": now(),
        "seqmodels": __version__,
        "run": own.folder.name,
        "checkpoint": own.checkpoint,
        "step": own.step,
        "split": own.split,
        "sequences": len(own.piece.inputs),
        "steps": int(own.piece.inputs.shape[1]),
        "loss_at_step": own.piece.step,
        "pictures": pictures,
        "layers": {name: report.as_dict() for name, report in layers.items()},
        "gradient_over_training": {
            "source": source,
            "steps": [row["step"] for row in rows],
            "norm_by_lag": {n: [r["layers"][n]["norm_by_lag"] for r in rows] for n in names},
        },
    }


def _write(folder: Path, plain: dict[str, Any], pictures: dict[str, bytes]) -> str | None:
    """Every file whole or not at all; tells what of an earlier call was replaced or taken away."""
    path = folder / "analysis.json"
    try:
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError):
        old = {}
    spare = [n for n in old.get("pictures", []) if n not in pictures]
    try:
        folder.mkdir(exist_ok=True)
        for name, png in pictures.items():
            write_atomically(folder / f"{name}.png", png)
        write_json(path, plain)
        for name in spare:  # what this call does not make would belong to other numbers
            (folder / f"{name}.png").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    if not old:
        return None
    told = f"replaces the analysis of {old.get('date')} (step {old.get('step')})"
    removed = "".join(f", {name}.png" for name in spare)
    return f"{told}; removed{removed[1:]}" if spare else told


def _to_tensorboard(run_dir: Path, pictures: dict[str, bytes], step: int) -> bool:
    """Onto the IMAGES page, where the run has written for TensorBoard at all."""
    folder = run_dir / "tensorboard"
    if not folder.exists():
        return False
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as board:
        for name, png in pictures.items():
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            board.add_image(f"{FOLDER}/{name}", pixels, step, dataformats="HWC")
    return True
