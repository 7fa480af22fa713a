"""`seqmodels complete`: images of which a part is given, the rest drawn by a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from seqmodels.config import apply_overrides, check, compose, to_plain

if TYPE_CHECKING:
    from torch import Tensor

    from seqmodels.data.images.files import Array
    from seqmodels.data.pixels import PixelImages
    from seqmodels.models import PixelRNN


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status.

    Overrides of `data.` change the run's own configuration: `data.path=OTHER` completes other
    images, of the same size.
    """
    of_run = [text for text in overrides if text.lstrip("+~").startswith("data.")]
    cfg = compose("complete", [text for text in overrides if text not in of_run], config_dirs)
    check(cfg)

    import torch

    from seqmodels.commands import building
    from seqmodels.commands.images import load_image_model, write_picture
    from seqmodels.models import sample_images
    from seqmodels.training.callbacks.images import completion_grid

    building.set_threads(cfg.num_threads)
    model, stored, described, run_dir = load_image_model(cfg.run, cfg.checkpoint)
    changed = apply_overrides(to_plain(stored), of_run)
    check(changed)
    try:
        images, labels, levels = _images(changed, described, model, of_run, cfg.num_images)
        keep = _mask(cfg.keep, model, cfg.seed)
        model.check(images, labels)
    except building.USER_MISTAKES as error:
        raise building.user_mistake(error) from error
    completed = []
    for number in range(cfg.completions):
        completed.append(
            sample_images(
                model,
                len(images),
                given=images,
                keep=keep,
                labels=labels if model.num_classes else None,
                seed=cfg.seed + number,
                temperature=cfg.temperature,
            )
        )
    with torch.no_grad():
        given = labels if model.num_classes else None
        nats = [float(model.log_likelihood(each, given).mean()) for each in (images, *completed)]
    picture = completion_grid(images, completed, keep, model.levels)
    path = write_picture(picture, cfg.output, run_dir, "completed.png")
    shown = ", ".join(f"{-value:.2f}" for value in nats[1:])
    print(f"nats per image ({levels}): {-nats[0]:.2f} as they are, {shown} completed")
    print(f"{len(images)} images, {cfg.keep} kept: {path}")
    return 0


def _images(
    cfg: DictConfig,
    described: dict[str, Any],
    model: PixelRNN,
    of_run: list[str],
    count: int,
) -> tuple[Tensor, Tensor, str]:
    """Test images of the run's data, or the images of data.path as they come; their classes, and
    how their levels came about."""
    import torch

    from seqmodels.config import instantiate
    from seqmodels.data.base import IGNORE
    from seqmodels.data.images.files import read_images

    data: PixelImages = instantiate(cfg.data)
    if not any(text.startswith("data.path=") for text in of_run) or data.path is None:
        data.setup()
        batches = list(data.test_loader())
        given, classes = (
            torch.cat(each)[:count] for each in zip(*(b[:2] for b in batches), strict=True)
        )
        return given, classes, data.levels_shown
    # A few images need no splits.
    read = read_images(data.path)
    whole = read.get("test") or read["train"]
    channels, height, width = model.shape
    if whole.pixels.shape[1:] != (height, width, channels):
        raise ValueError(
            f"{data.path}: expected images of {height} × {width} pixels and {channels} channel(s), "
            f"as the model was trained with, got {whole.pixels.shape[1:]} (height, width, channels)"
        )
    data.top = int(described["top"])
    pixels = _on_scale(np.moveaxis(whole.pixels[:count], -1, 1), whole.top, data.top, data.path)
    levels = data.to_levels(pixels, np.random.default_rng(data.binarisation_seed))
    if whole.labels is None and model.num_classes:
        raise ValueError(
            f"{data.path}: the images have no classes, and the model is given the class of an "
            "image: put them into one folder for each class, or into an .npz file with labels"
        )
    labels = np.full(len(levels), IGNORE) if whole.labels is None else whole.labels[:count]
    found, classes = (torch.from_numpy(each.astype(np.int64)) for each in (levels, labels))
    return found, classes, data.levels_shown


def _on_scale(pixels: Array, own: int, top: int, path: str) -> Array:
    """Pixels from 0 to `own` as pixels from 0 to `top`, the greatest of the run's images.

    Black and white becomes 0 and `top`; of more levels than the run's a whole number is taken
    together. Pixels that all lie within the run's levels are these already: how many an array could
    have is not written in it.
    """
    if own == 1:
        return (pixels * np.uint8(top)).astype(np.uint8)
    if own == top or int(pixels.max()) <= top:
        return pixels
    if (own + 1) % (top + 1):
        raise ValueError(
            f"{path}: the images have {own + 1} levels, which cannot be taken together to the "
            f"{top + 1} of the run"
        )
    together = (own + 1) // (top + 1)
    print(f"{path}: {together} levels are taken together to one of the run's {top + 1}")
    joined: Array = pixels // np.uint8(together)
    return joined


def _mask(keep: str, model: PixelRNN, seed: int) -> Tensor:
    import torch

    from seqmodels.data.images.pictures import read_picture
    from seqmodels.models.pixel_masks import KEEPS, keep_mask

    _, height, width = model.shape
    if keep in KEEPS:
        return keep_mask(keep, height, width, seed)
    file = Path(keep).expanduser()
    if not file.is_file():
        raise ValueError(
            f"keep: expected one of {', '.join(KEEPS)}, or the file of a picture that is bright "
            f"where pixels are kept, got {keep!r}"
        )
    picture = read_picture(file)
    if picture.shape[:2] != (height, width):
        raise ValueError(
            f"{file}: expected a mask of {height} × {width} pixels, got "
            f"{picture.shape[0]} × {picture.shape[1]}"
        )
    return torch.from_numpy(picture.max(-1) > 127)
