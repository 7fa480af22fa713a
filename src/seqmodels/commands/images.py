"""What `sample` and `complete` have in common for models of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from seqmodels.errors import UserError
from seqmodels.models import PixelRNN
from seqmodels.runs import existing_run


def load_image_model(
    run: str, checkpoint: str
) -> tuple[PixelRNN, DictConfig, dict[str, Any], Path]:
    """The model of a run without its data, the run's configuration, its record's data, its folder.

    Raises:
        UserError: the run is none of a model of images, or cannot be read.
    """
    from seqmodels.commands import building
    from seqmodels.training.checkpoints import load, load_weights

    run_dir, record = existing_run(run)
    described = record.get("data") or {}
    if not is_of_images(described):
        raise UserError(f"{run_dir} is not a run of a model of images (model=pixelrnn)")
    path = building.checkpoint_path(run_dir, checkpoint)
    content = load(path)
    cfg = building.stored_config(content, path)
    model = building.build_model_of(cfg, described["sizes"])
    load_weights(model, building.model_weights(content), path)
    assert isinstance(model, PixelRNN)
    return model, cfg, described, run_dir


def is_of_images(described: dict[str, Any]) -> bool:
    """Whether a record describes the data of a model of images."""
    return "levels" in (described.get("sizes") or {})


def write_picture(picture: np.ndarray, output: str | None, run_dir: Path, name: str) -> Path:
    """Writes the picture to `output`, or under `name` into the run's directory."""
    from seqmodels.analysis.image_grid import write_png

    path = run_dir / name if output is None else Path(output).expanduser()
    if path.suffix.lower() != ".png":
        raise UserError(f"output: expected the name of a .png file, got {output!r}")
    try:
        write_png(picture, path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    return path
