"""`seqmodels sample`: text from a trained model, printed as it is drawn, or a picture of images."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from seqmodels.config import check, compose
from seqmodels.errors import UserError

LENGTH, IMAGES = 500, 64  # where none is said
TEXT_ONLY = ("prompt", "length", "num_samples", "top_k", "top_p")
IMAGES_ONLY = ("num_images", "label", "output")


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    cfg = compose("sample", overrides, config_dirs)
    check(cfg)

    from seqmodels.commands import building
    from seqmodels.commands.images import is_of_images
    from seqmodels.commands.pairs import is_of_pairs, write_answer
    from seqmodels.runs import existing_run

    building.set_threads(cfg.num_threads)
    _, record = existing_run(cfg.run)
    if is_of_pairs(record.get("data") or {}):
        return write_answer(cfg)
    of_images = is_of_images(record.get("data") or {})
    for name in TEXT_ONLY if of_images else IMAGES_ONLY:
        if cfg[name] is not None:
            own, other = ("images", "text") if of_images else ("text", "images")
            raise UserError(f"{name} is for models of {other}, and {cfg.run} is one of {own}")
    return _images(cfg) if of_images else _text(cfg)


def _images(cfg: DictConfig) -> int:
    import torch

    from seqmodels.analysis.image_grid import grid
    from seqmodels.commands.images import load_image_model, write_picture
    from seqmodels.models import sample_images

    model, _, _, run_dir = load_image_model(cfg.run, cfg.checkpoint)
    count = cfg.num_images or IMAGES
    labels = None
    if model.num_classes:
        labels = torch.arange(count) % model.num_classes
        if cfg.label is not None:
            labels = torch.full((count,), cfg.label)
    elif cfg.label is not None:
        raise UserError(f"label={cfg.label}: the model of {run_dir} is not given a class")
    try:
        images = sample_images(
            model, count, seed=cfg.seed, temperature=cfg.temperature, labels=labels
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    picture = grid(images, model.levels, columns=math.ceil(math.sqrt(count)))
    path = write_picture(picture, cfg.output, run_dir, "sampled.png")
    print(f"{count} images: {path}")
    return 0


def _text(cfg: DictConfig) -> int:
    import torch

    from seqmodels.commands import building
    from seqmodels.data.vocabulary import UNK
    from seqmodels.sampling import check_sampling, stream

    length = LENGTH if cfg.length is None else cfg.length
    count = cfg.num_samples or 1
    try:
        check_sampling(length, cfg.temperature, cfg.top_k, cfg.top_p)
    except ValueError as error:
        raise UserError(str(error)) from None
    model, vocabulary = building.load_generator(cfg.run, cfg.checkpoint)
    prompt = vocabulary.encode_prompt(cfg.prompt)
    if unknown := vocabulary.unknown_in(cfg.prompt):
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        print(
            f"prompt: read as {UNK}, for the model does not know it: "
            f"{', '.join(map(repr, unknown[:5]))}{more}",
            file=sys.stderr,
        )
    ids = torch.tensor([prompt]).expand(count, -1)  # (B, T)
    drawn = stream(
        model,
        ids,
        length,
        seed=cfg.seed,
        temperature=cfg.temperature,
        top_k=cfg.top_k,
        top_p=cfg.top_p,
        exclude=(vocabulary.unk_id,),
    )
    start = vocabulary.opening(cfg.prompt)
    if count == 1:
        sys.stdout.write(start)
        for token in drawn:
            sys.stdout.write(vocabulary.decode_next(int(token)))
            sys.stdout.flush()
        print()
        return 0
    together = torch.stack(list(drawn), dim=1).tolist()  # (B, length)
    for number, tokens in enumerate(together, 1):
        print(f"--- sample {number} of {count}")
        print(start + "".join(vocabulary.decode_next(token) for token in tokens))
    return 0
