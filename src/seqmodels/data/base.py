"""What every kind of data offers to models and to training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Protocol

from torch import Tensor

from seqmodels.data.streams import IGNORE, SequenceBatch
from seqmodels.data.vocabulary import Vocabulary

__all__ = ["IGNORE", "SPLITS", "DataModule", "Loader", "SequenceBatch", "Split"]

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class Loader(Protocol):
    """Batches of one split; sized. That of training also saves and restores its position."""

    batch_size: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SequenceBatch]: ...


class DataModule(ABC):
    """Data that is read once by `setup` and then handed out as loaders, one for each split.

    A loader is made anew by each call and starts at its first batch.

    Attributes:
        vocabulary: the symbols; there after `setup`. None: the data is no text.
        loss_unit: in which the losses are measured.
    """

    vocabulary: Vocabulary | None = None
    loss_unit: str = "nats"

    @abstractmethod
    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        """Reads and prepares everything.

        Args:
            vocabulary: of a model that exists already; None makes one from the training split.

        Raises:
            ValueError, OSError: a setting or a file is not what it should be; the message is meant
                for the user.
        """

    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """What a model must be told: its keyword arguments."""

    @abstractmethod
    def train_loader(self) -> Loader: ...

    @abstractmethod
    def valid_loader(self) -> Loader | None:
        """None where there is no such split."""

    @abstractmethod
    def test_loader(self) -> Loader | None:
        """None where there is no such split."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values for the record: at least `summary` (one line) and `digest` (SHA-256)."""

    def initial_vectors(self) -> Tensor | None:
        """(V, E): what a token's vector starts as, NaN where that is left to the model; or None."""
        return None

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """Validation losses of simple models, to be printed beside the result."""
