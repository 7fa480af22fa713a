"""`seqmodels analyse`: what happens inside a trained run's recurrent layers, in pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmodels.config import check, compose, instantiate
from seqmodels.errors import UserError
from seqmodels.runs import existing_run, now, write_atomically, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from seqmodels.analysis.describe import LayerReport

FOLDER = "analysis"
LAGS = (10, 50)  # of the table


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    cfg = compose("analyse", overrides, config_dirs)
    check(cfg)

    from seqmodels.analysis.describe import courses, describe_layers
    from seqmodels.analysis.piece import cut_piece
    from seqmodels.commands import building

    building.set_threads(cfg.num_threads)
    run_dir, _ = existing_run(cfg.run)
    run_cfg, data, model, content = building.load_run(run_dir, cfg.checkpoint, lambda c: c)
    task = instantiate(run_cfg.task)(
        model,
        optimizer=instantiate(run_cfg.optimizer),
        schedule=instantiate(run_cfg.scheduler),
        clip=instantiate(run_cfg.clip),
        data=data,
    )
    loaders = {"valid": data.valid_loader, "test": data.test_loader, "train": data.train_loader}
    loader = loaders[cfg.split]()
    if loader is None:
        raise UserError(f"the data of this run has no {cfg.split} split: choose another split")
    step = int(content["global_step"])
    print(f"{run_dir}, {cfg.checkpoint} checkpoint (step {step}), {cfg.split} split", flush=True)
    try:
        piece = cut_piece(next(iter(loader)), sequences=cfg.sequences, steps=cfg.steps)
        layers = describe_layers(
            model,
            piece.inputs,
            loss=lambda outputs: task.loss_at(outputs, piece.targets),
            step=piece.step,
            spectra=cfg.spectra,
            points=cfg.points,
            lags=tuple(cfg.lags),
            most_units=cfg.most_units,
        )
        model.eval()
        paths = {name: c.outputs for name, c in courses(model, piece.inputs).items()}
    except ValueError as error:
        raise UserError(str(error)) from None
    plain = {
        "date": now(),
        "run": run_dir.name,
        "checkpoint": cfg.checkpoint,
        "step": step,
        "split": cfg.split,
        "sequences": len(piece.inputs),
        "steps": int(piece.inputs.shape[1]),
        "loss_at_step": piece.step,
        "layers": {name: report.as_dict() for name, report in layers.items()},
    }
    pictures = {name: _png(f) for name, f in _figures(run_dir, layers, paths).items()}
    folder = run_dir / FOLDER
    replaced = folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.png"):  # pictures of an earlier call that this one does not make
            if old.stem not in pictures:
                old.unlink()
        for name, png in pictures.items():
            write_atomically(folder / f"{name}.png", png)
        write_json(folder / "analysis.json", plain)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    _to_tensorboard(run_dir, pictures, step)
    _print(layers)
    print(f"{folder}{' (replaced)' if replaced else ''}:")
    for name in (*(f"{stem}.png" for stem in pictures), "analysis.json"):
        print(f"  {name}")
    return 0


def _figures(
    run_dir: Path, layers: dict[str, LayerReport], paths: dict[str, Any]
) -> dict[str, Figure]:
    from seqmodels.analysis import pictures

    made = {
        "gradient_by_lag": pictures.gradient_by_lag(layers),
        "gradient_over_training": pictures.gradient_over_training(_rows(run_dir, "analysis.jsonl")),
        "jacobian_spectra": pictures.jacobian_spectra(layers),
        "gates": pictures.gate_histograms(layers),
        "states": pictures.states(layers, paths),
        "clipping": pictures.clipping(_rows(run_dir, "metrics.jsonl")),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def _rows(run_dir: Path, name: str) -> list[dict[str, Any]]:
    """The rows of one of the run's logs; none where it is missing."""
    path = run_dir / name
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _to_tensorboard(run_dir: Path, pictures: dict[str, bytes], step: int) -> None:
    """Onto the IMAGES page, where the run has written for TensorBoard at all."""
    folder = run_dir / "tensorboard"
    if not folder.exists():
        return
    import numpy as np
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as board:
        for name, png in pictures.items():
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            board.add_image(f"{FOLDER}/{name}", pixels, step, dataformats="HWC")


def _print(layers: dict[str, LayerReport]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="recurrent layers", title_justify="left")
    for head in ("layer", "cell", "radius", "rank", "dead", "saturated", "τ"):
        own = "left" if head in ("layer", "cell") else "right"
        table.add_column(head, justify=own, no_wrap=True)  # type: ignore[arg-type]
    for lag in LAGS:
        table.add_column(f"∇{lag}", justify="right", no_wrap=True)
    for name, report in layers.items():
        radii = [f"{block} {radius:.2f}" for block, radius in report.spectral_radii.items()]
        gates = [f"{g} {found.closed + found.open:.0%}" for g, found in report.gates.items()
                 if found.low == 0.0]  # fmt: skip
        tau = f"{report.time_constants[2]:.1f}" if report.time_constants else "–"
        table.add_row(
            name.removeprefix("backbone.").removeprefix("layers.") or "–",
            report.cell.removesuffix("Cell") + (" ←" if report.reverse else ""),
            "\n".join(radii) or "–",
            f"{report.states.effective_rank:.1f}/{report.states.units}",
            str(report.states.dead),
            "\n".join(gates) or "–",
            tau,
            *(_left(report, lag) for lag in LAGS),
        )
    console = Console()
    console.print(table)
    console.print(
        "radius: of each recurrent block; rank: directions that share the variance; saturated: "
        "gates below 0.1 or above 0.9; τ: median time constant in steps; ∇k: the share of one "
        "loss's gradient left k steps before it",
        highlight=False,
    )
    for name, report in layers.items():
        for note in report.notes:
            console.print(f"{name}: {note}", highlight=False, markup=False)


def _left(report: LayerReport, lag: int) -> str:
    """The share of the gradient at lag 0 that is left."""
    norms = report.norm_by_lag
    return f"{norms[lag] / norms[0]:.0e}" if len(norms) > lag and norms[0] > 0 else "–"
