"""From a checked configuration to data and model; shared by every command."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from seqmodels.config import from_plain, instantiate
from seqmodels.data import SubwordVocabulary, Vocabulary
from seqmodels.data.base import DataModule
from seqmodels.data.pairs import PairVocabulary
from seqmodels.errors import UserError
from seqmodels.layers import Recurrent
from seqmodels.models import EncoderDecoder, TokenEmbedding
from seqmodels.runs import existing_run
from seqmodels.training.checkpoints import BEST, LAST, load, load_weights
from seqmodels.training.state import seed_everything

# What constructors and loaders raise when a setting or a file is not what it should be.
USER_MISTAKES = (ValueError, OSError)


def set_threads(num_threads: int | None, processes: int = 1) -> int:
    """Tells torch how many threads to use; gives back how many it will.

    Where none is given, several processes on this machine share its cores.
    """
    if num_threads is None and processes > 1:
        num_threads = max(1, torch.get_num_threads() // processes)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return torch.get_num_threads()


def build_data(cfg: DictConfig, vocabulary: Vocabulary | None = None) -> DataModule:
    """The data, read and ready; with the vocabulary of a trained model where there is one."""
    data: DataModule = instantiate(cfg.data)
    data.setup(vocabulary)
    return data


def build_model(cfg: DictConfig, data: DataModule) -> nn.Module:
    """The model with its first weights, a function of the seed alone."""
    model = build_model_of(cfg, data.sizes())
    vectors = data.initial_vectors()
    if vectors is not None:
        _start_from(model, vectors)
    return model


@torch.no_grad()
def _start_from(model: nn.Module, vectors: torch.Tensor) -> None:
    """Put the vectors (V, E) into the model's embedding, where they are not NaN."""
    embeddings = [m for m in model.modules() if isinstance(m, TokenEmbedding)]
    if not embeddings:
        raise ValueError("data.vectors: the model has no embedding that could start from them")
    weight = embeddings[0].weight
    if weight.shape != vectors.shape:
        raise ValueError(
            f"data.vectors: the vectors have {vectors.shape[1]} numbers and the model's embedding "
            f"{weight.shape[1]}: set its size to {vectors.shape[1]}"
        )
    weight.copy_(torch.where(vectors.isnan(), weight, vectors.to(weight)))


def build_model_of(cfg: DictConfig, sizes: dict[str, int]) -> nn.Module:
    """The model for data of these sizes, with its first weights."""
    seed_everything(cfg.seed)
    model = bare_model(cfg, sizes)
    if cfg.init is not None:
        instantiate(cfg.init)(model)
    return model


def bare_model(cfg: DictConfig, sizes: dict[str, int]) -> nn.Module:
    """The same before its initialiser, from whatever state the generators are in."""
    factory = instantiate(cfg.model)
    try:
        inspect.signature(factory).bind(**sizes)
    except TypeError as error:
        said = ", ".join(f"{name}={size}" for name, size in sizes.items())
        raise ValueError(
            f"the model {cfg.model._target_} does not fit the data, which says {said}: {error}. "
            "Text goes with model=sequence, images (data=pixels) with model=pixelrnn, other data "
            "with model=prediction (symbols) or model=prediction_real (numbers), texts with a "
            "class with model=classifier, pairs of sequences with model=seq2seq"
        ) from None
    model: nn.Module = factory(**sizes)
    return model


@torch.no_grad()
def try_out(model: nn.Module, data: DataModule) -> None:
    """One small call, so that an engine that may not run says so before a run directory is made."""
    batch = next(iter(data.train_loader()))
    of_images = batch.inputs.dim() == 4
    inputs = batch.inputs[:2] if of_images else batch.inputs[:2, :2]
    if inputs.is_floating_point():  # the trainer's precision comes later
        inputs = inputs.to(next(model.parameters()).dtype)
    model.eval()
    if of_images:
        model(inputs, batch.targets[:2])
    elif isinstance(model, EncoderDecoder):
        model(inputs, inputs.new_full(inputs.shape, model.end))
    else:
        model(inputs)
    model.train()
    for module in model.modules():
        if isinstance(module, Recurrent):
            module.engine_used = None  # of the run itself, which comes later


def user_mistake(error: BaseException) -> UserError:
    """The same message, as one for the person at the keyboard."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return UserError(f"{error.filename}: {error.strerror}")
    return UserError(str(error))


def load_run(
    run_dir: Path, checkpoint: str, change: Callable[[DictConfig], DictConfig]
) -> tuple[DictConfig, DataModule, nn.Module, dict[str, Any]]:
    """A finished, interrupted or running run: config, data, trained model, checkpoint.

    Args:
        run_dir: the run's directory.
        checkpoint: "best" or "last".
        change: applied to the stored configuration before anything is built.
    """
    path = checkpoint_path(run_dir, checkpoint)
    content = load(path)
    cfg = change(stored_config(content, path))
    try:
        data = build_data(cfg, stored_vocabulary(run_dir))
        model = build_model(cfg, data)
    except USER_MISTAKES as error:
        raise user_mistake(error) from error
    load_weights(model, model_weights(content), path)
    return cfg, data, model, content


def load_generator(run: str, checkpoint: str) -> tuple[nn.Module, Vocabulary]:
    """The model and the vocabulary of a run, without reading its data."""
    run_dir, _ = existing_run(run)
    path = checkpoint_path(run_dir, checkpoint)
    content = load(path)
    vocabulary = stored_vocabulary(run_dir)
    if vocabulary is None:
        raise UserError(f"{run_dir} is not a model of text: there is nothing to write")
    try:
        model = build_model_of(stored_config(content, path), {"num_tokens": len(vocabulary)})
    except ValueError as error:
        raise UserError(
            f"{run_dir} does not predict the next token of a text: there is nothing to write "
            f"({error})"
        ) from None
    load_weights(model, model_weights(content), path)
    return model, vocabulary


def stored_vocabulary(run_dir: Path) -> Vocabulary | None:
    """The symbols that a run was trained with; None where its data is no text."""
    path = run_dir / "vocabulary.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain is None:
            return None
        if "merges" in plain:
            return SubwordVocabulary.from_dict(plain)
        return (PairVocabulary if "source" in plain else Vocabulary).from_dict(plain)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: the run cannot be used without it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def checkpoint_path(run_dir: Path, checkpoint: str) -> Path:
    """The file of the "best" or the "last" checkpoint."""
    names = {"best": BEST, "last": LAST}
    if checkpoint not in names:
        raise UserError(f"checkpoint: expected 'best' or 'last', got {checkpoint!r}")
    return run_dir / "checkpoints" / names[checkpoint]


def stored_config(content: dict[str, Any], path: Path) -> DictConfig:
    """The configuration that a checkpoint carries."""
    if "config" not in content:
        raise UserError(f"checkpoint {path} carries no configuration: it is not from seqmodels")
    return from_plain(content["config"])


def model_weights(content: dict[str, Any]) -> dict[str, Any]:
    """The model's part of a task's weights."""
    prefix = "model."
    return {k.removeprefix(prefix): v for k, v in content["state_dict"].items()}


def engines_used(model: nn.Module) -> dict[str, str]:
    """Which engine each recurrent layer ran on."""
    return {
        name: module.engine_used
        for name, module in model.named_modules()
        if isinstance(module, Recurrent) and module.engine_used is not None
    }


def count_parameters(model: nn.Module) -> int:
    """Parameters that are trained, shared ones once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
