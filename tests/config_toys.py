"""Small targets for the configuration tests; importable by name."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["char", "word"]


class Cell:
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Literal["tanh", "sigmoid", "relu"] = "tanh",
        bias: bool = True,
    ) -> None:
        if hidden_size < 1:
            raise ValueError(f"hidden_size must be >= 1, got {hidden_size}")
        self.sizes = (input_size, hidden_size)
        self.nonlinearity = nonlinearity


class Layers:
    def __init__(
        self,
        *,
        cell: Callable[[int, int], Cell] | None = None,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        self.hidden_size = hidden_size


class Model:
    def __init__(
        self, num_tokens: int, *, cell: Callable[[int, int], Cell], layers: Callable[..., Layers]
    ) -> None:
        self.cell = cell(num_tokens, 4)


class Data:
    def __init__(
        self,
        *,
        path: str | Path | None = None,
        level: Level = "char",
        split: tuple[float, float, float] = (0.8, 0.1, 0.1),
    ) -> None:
        self.split = split
        if path == "nowhere":
            raise FileNotFoundError(f"there is no file {path}")


class Part:
    def __init__(
        self, parts: Sequence[object] = (), named: dict[str, object] | None = None
    ) -> None:
        self.parts, self.named = parts, named


@dataclass
class Settings:
    factor: float
    steps: int = 0


def quadruple(x: int, *extra: int) -> int:
    return 4 * x


def anything(**settings: object) -> dict[str, object]:
    return settings


NUMBER = 3


FILES = {
    "train.yaml": """
        defaults:
          - schema
          - model: sequence
          - data: text
          - task: plain
          - optimizer: adam
          - scheduler: cosine
          - clip: none
          - _self_
          - experiment: null
        trainer:
          max_steps: 10
    """,
    "eval.yaml": """
        defaults:
          - eval_schema
          - _self_
        run: ???  # the folder of a run
        split: null  # train | valid | test
    """,
    "sample.yaml": """
        defaults:
          - sample_schema
          - _self_
        length: 500
    """,
    "model/sequence.yaml": """
        defaults:
          - cell: rnn
          - layers: plain
          - _self_
        _target_: config_toys.Model
        _partial_: true
    """,
    "model/cell/rnn.yaml": """
        _target_: config_toys.Cell
        _partial_: true
        nonlinearity: tanh
        bias: true
    """,
    "model/cell/custom.yaml": """
        _target_: ???
        _partial_: true
    """,
    "model/layers/plain.yaml": """
        _target_: config_toys.Layers
        _partial_: true
        hidden_size: 8
        num_layers: 1
        dropout: 0.0
    """,
    "data/text.yaml": """
        _target_: config_toys.Data
        path: null
        level: char
        split: [0.8, 0.1, 0.1]
    """,
    "task/plain.yaml": """
        _target_: config_toys.Part
        parts: []
        named: null
    """,
    "optimizer/adam.yaml": """
        _target_: torch.optim.Adam
        _partial_: true
        lr: 0.001
        betas: [0.9, 0.999]
    """,
    "scheduler/cosine.yaml": """
        _target_: seqmodels.training.schedules.CosineSchedule
        warmup_steps: 0
        final: 0.0
    """,
    "clip/none.yaml": "_target_: seqmodels.training.clipping.NoClip",
    "clip/norm.yaml": """
        _target_: seqmodels.training.clipping.NormClip
        max_norm: 1.0
    """,
    "experiment/good.yaml": """
        # @package _global_
        model:
          layers:
            hidden_size: [4, 4]
    """,
    "experiment/typo_in_leaf.yaml": """
        # @package _global_
        model:
          cell:
            nonlinearty: relu
    """,
    "experiment/typo_in_root.yaml": """
        # @package _global_
        trainer:
          max_stepz: 3
    """,
    "experiment/wrong_type.yaml": """
        # @package _global_
        trainer:
          max_steps: many
    """,
    "experiment/not_yaml.yaml": """
        # @package _global_
        trainer: [
    """,
    "experiment/wrong_option.yaml": """
        # @package _global_
        defaults:
          - override /clip: norn
    """,
}


def write_configs(folder: Path, files: dict[str, str] | None = None) -> Path:
    """Lay a small configuration folder out."""
    for name, text in (FILES if files is None else files).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return folder
