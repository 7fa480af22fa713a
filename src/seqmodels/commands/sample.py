"""`seqmodels sample`: text from a trained model, printed as it is drawn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seqmodels.config import check, compose
from seqmodels.errors import UserError


def run(overrides: list[str], *, config_dirs: Sequence[Path] = ()) -> int:
    """Runs the command; gives back its exit status."""
    cfg = compose("sample", overrides, config_dirs)
    check(cfg)

    import torch

    from seqmodels.commands import building
    from seqmodels.sampling import check_sampling, stream

    try:
        check_sampling(cfg.length, cfg.temperature, cfg.top_k, cfg.top_p)
    except ValueError as error:
        raise UserError(str(error)) from None
    building.set_threads(cfg.num_threads)
    model, vocabulary = building.load_generator(cfg.run, cfg.checkpoint)
    prompt = vocabulary.encode_prompt(cfg.prompt)
    ids = torch.tensor([prompt]).expand(cfg.num_samples, -1)  # (B, T)
    drawn = stream(
        model,
        ids,
        cfg.length,
        seed=cfg.seed,
        temperature=cfg.temperature,
        top_k=cfg.top_k,
        top_p=cfg.top_p,
        exclude=(vocabulary.unk_id,),
    )
    start = cfg.prompt or ""
    if cfg.num_samples == 1:
        sys.stdout.write(start)
        for token in drawn:
            sys.stdout.write(vocabulary.decode_next(int(token)))
            sys.stdout.flush()
        print()
        return 0
    together = torch.stack(list(drawn), dim=1).tolist()  # (B, length)
    for number, tokens in enumerate(together, 1):
        print(f"--- sample {number} of {cfg.num_samples}")
        print(start + "".join(vocabulary.decode_next(token) for token in tokens))
    return 0
