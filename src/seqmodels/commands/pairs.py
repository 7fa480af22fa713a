"""`seqmodels sample` of a model that writes one sequence of another."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from seqmodels.errors import UserError
from seqmodels.runs import existing_run

LENGTH = 500  # where none is said
NOT_HERE = ("num_samples", "top_k", "top_p", "num_images", "label")


def is_of_pairs(described: dict[str, Any]) -> bool:
    """Whether a record describes data of pairs of sequences."""
    return "num_sources" in (described.get("sizes") or {})


def write_answer(cfg: DictConfig) -> int:
    """Prints what the model writes of `prompt`, the likeliest symbol at each step.

    With `output=FILE.png` it also draws what each symbol looked at. Gives back the exit status.
    """
    import torch

    from seqmodels.analysis.attention_picture import attention_map, attention_picture
    from seqmodels.commands import building
    from seqmodels.data import SequenceBatch
    from seqmodels.data.pairs import PairVocabulary
    from seqmodels.data.pairs.vocabulary import symbols_of
    from seqmodels.models import EncoderDecoder
    from seqmodels.training.checkpoints import load, load_weights

    for name in NOT_HERE:
        if cfg[name] is not None:
            raise UserError(
                f"{name} is for models that draw, and {cfg.run} writes the likeliest answer to its "
                "prompt"
            )
    if cfg.temperature not in (0.0, 1.0):
        raise UserError(
            f"temperature={cfg.temperature}: {cfg.run} writes the likeliest answer to its prompt "
            "and draws nothing; leave temperature away"
        )
    run_dir, record = existing_run(cfg.run)
    path = building.checkpoint_path(run_dir, cfg.checkpoint)
    content = load(path)
    vocabulary = building.stored_vocabulary(run_dir)
    stored = building.stored_config(content, path)
    model = building.build_model_of(stored, record["data"]["sizes"])
    load_weights(model, building.model_weights(content), path)
    assert isinstance(model, EncoderDecoder) and isinstance(vocabulary, PairVocabulary)
    read = vocabulary.source
    symbols = symbols_of(cfg.prompt or "", read.level, lowercase=read.lowercase)
    if not symbols:
        raise UserError(
            'prompt: there is nothing to read; set prompt="…" to what is to be answered'
        )
    ids = torch.from_numpy(read.encode(symbols)).unsqueeze(0)  # (1, S)
    unknown = sorted({symbol for symbol in symbols if symbol not in read.numbers})
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (" …" if len(unknown) > 5 else "")
        print(f"seqmodels: not in the model's vocabulary: {shown}", file=sys.stderr)
    decoded = model.greedy(ids, None, cfg.length or LENGTH)
    count = int(decoded.lengths[0])
    print(vocabulary.decode(decoded.tokens[0, :count].tolist()))
    if count == decoded.tokens.shape[1]:
        print(f"seqmodels: cut after {count} symbols (length=…)", file=sys.stderr)
    if cfg.output is not None:
        place = Path(cfg.output).expanduser()
        if place.suffix.lower() != ".png":
            raise UserError(f"output: expected the name of a .png file, got {cfg.output!r}")
        try:
            batch = SequenceBatch(ids, ids)
            attention_picture([attention_map(decoded, 0, batch, vocabulary)]).savefig(
                place, dpi=110
            )
        except ValueError as error:
            raise UserError(str(error)) from None
        except OSError as error:
            raise UserError(f"{place}: {error.strerror or error}") from None
    return 0
