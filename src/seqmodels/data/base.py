"""What every kind of data offers to models and to training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

from seqmodels.data.streams import IGNORE, SequenceBatch, StreamLoader
from seqmodels.data.vocabulary import Vocabulary

__all__ = ["IGNORE", "SPLITS", "DataModule", "SequenceBatch", "Split"]

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


class DataModule(ABC):
    """Data that is read once by `setup` and then handed out as loaders, one for each split.

    A loader is made anew by each call and starts at its first batch.

    Attributes:
        vocabulary: the symbols; there after `setup`.
    """

    vocabulary: Vocabulary

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
    def train_loader(self) -> StreamLoader: ...

    @abstractmethod
    def valid_loader(self) -> StreamLoader | None:
        """None where there is no such split."""

    @abstractmethod
    def test_loader(self) -> StreamLoader | None:
        """None where there is no such split."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain values for the record: at least `summary` (one line) and `digest` (SHA-256)."""

    @abstractmethod
    def baselines(self, order: int = 2) -> dict[str, float]:
        """Validation losses of simple models, to be printed beside the result.

        Args:
            order: of the greatest n-gram model; ≥ 1.
        """
