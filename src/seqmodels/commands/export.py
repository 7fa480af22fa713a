"""`seqmodels export`: a trained model as one file for use elsewhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from seqmodels.config import check, compose, to_plain
from seqmodels.errors import UserError

NEEDS = {
    "torch_export": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "safetensors": ("safetensors",),
}


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    cfg = compose("export", overrides, config_dirs)
    check(cfg)

    missing = [name for name in NEEDS[cfg.format] if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"format={cfg.format} needs {', '.join(missing)}: pip install 'seqmodels[export]'"
        )

    from seqmodels.commands import building
    from seqmodels.exporting import SUFFIXES, ExportError, Format, export
    from seqmodels.runs import existing_run

    building.set_threads(cfg.num_threads)
    run_dir, _ = existing_run(cfg.run)
    suffix = SUFFIXES[cfg.format]
    path = run_dir / f"model{suffix}" if cfg.path is None else Path(cfg.path).expanduser()
    if path.suffix != suffix:
        raise UserError(f"path: expected the name of a {suffix} file, got {cfg.path!r}")
    if path.is_dir():
        raise UserError(f"path: {path} is a folder")
    if path.exists() and not cfg.overwrite:
        raise UserError(f"{path} exists; replace it with overwrite=true, or choose another path")
    if not path.parent.is_dir():
        raise UserError(f"path: there is no folder {path.parent}")
    model, more = _load(run_dir, cfg.checkpoint)
    try:
        difference = export(model, cast(Format, cfg.format), path, more)
    except ExportError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes, step {more['step']}")
    if difference is not None:
        print(
            "outputs and states equal the model's for other batches and lengths, in one call and "
            f"carried on: the largest difference is {difference:.2g}"
        )
    return 0


def _load(run_dir: Path, checkpoint: str) -> tuple[nn.Module, dict[str, Any]]:
    """The model of a run, without its data where its sizes are known, and what is said of it."""
    from seqmodels.commands import building
    from seqmodels.runs import read_record
    from seqmodels.training.checkpoints import load, load_weights

    path = building.checkpoint_path(run_dir, checkpoint)
    content = load(path)
    cfg = building.stored_config(content, path)
    vocabulary = building.stored_vocabulary(run_dir)
    sizes = ((read_record(run_dir) or {}).get("data") or {}).get("sizes")
    if sizes is None and vocabulary is not None:
        sizes = {"num_tokens": len(vocabulary)}
    try:
        if sizes is None:
            sizes = building.build_data(cfg).sizes()
        model = building.build_model_of(cfg, sizes)
    except building.USER_MISTAKES as error:
        raise building.user_mistake(error) from error
    load_weights(model, building.model_weights(content), path)
    more = {
        "step": int(content["global_step"]),
        "config": to_plain(cfg),
        "vocabulary": None if vocabulary is None else vocabulary.to_dict(),
    }
    return model, more
