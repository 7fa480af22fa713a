"""Texts whose class is asked for, as padded batches of like lengths."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqmodels.data.base import IGNORE, SPLITS, SequenceBatch, Split
from seqmodels.data.labelled.baselines import baselines
from seqmodels.data.labelled.examples import read_examples, read_hub
from seqmodels.data.labelled.padded import PaddedClassification, class_numbers, name_classes
from seqmodels.data.labelled.splits import apart
from seqmodels.data.labelled.tables import Example
from seqmodels.data.labelled.vectors import read_vectors
from seqmodels.data.vocabulary import Level, Vocabulary, check_limits, check_vocabulary

Array = np.ndarray
_WORDS = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


class TextClassification(PaddedClassification):
    """Texts with a class each: what is this one about, what does it think?

        x_t: the t-th word (or character) of the text, t ≤ T_b, its length
        target at step T_b: the class

    Batches are padded to their longest text, and hold texts of like lengths (`mixed_batches`).

    Args:
        path: files; see `seqmodels.data.labelled.read_examples`.
        name: a set of the hub instead, such as "stanfordnlp/imdb".
        config, cache_dir: of the set; see `seqmodels.data.HubTextData`.
        text_column, label_column: of tables and sets of the hub.
        train_split, valid_split, test_split: names of the set's splits; None: a part of training
            is kept apart instead.
        classes: all labels that there may be, in the order of their numbers; of folders and files
            for a class only these are read. None: those of the training texts, sorted.
        level: "word": runs of letters and digits, and every other sign by itself; "char".
        lowercase: turn texts to lower case.
        max_vocab, min_count: see `Vocabulary.build`; the others become <unk>.
        max_length: texts are cut after so many tokens, which is counted and reported; None: never.
        valid, test: in (0, 1), shares that are kept for validation and test where there are no such
            sets apart; from each class alike.
        fold: k in 0 … folds − 1: the test is the k-th of `folds` parts of all texts, and
            `test` is not used. None: no cross-validation.
        folds: ≥ 2.
        split_seed: of what is kept for which.
        batch_size: B of training.
        eval_batch_size: does not change the results.
        vectors: a text file of word vectors (a word and its numbers on each line, as of GloVe)
            that the embedding starts from; None: none.
        seed: of the order of training.

    Raises:
        ValueError: a setting out of its range; by `setup`, also OSError: the texts are not what
            they should be.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        name: str | None = None,
        config: str | None = None,
        cache_dir: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        train_split: str = "train",
        valid_split: str | None = None,
        test_split: str | None = "test",
        classes: Sequence[str] | None = None,
        level: Level = "word",
        lowercase: bool = True,
        max_vocab: int | None = 20_000,
        min_count: int = 2,
        max_length: int | None = 400,
        valid: float = 0.1,
        test: float = 0.1,
        fold: int | None = None,
        folds: int = 10,
        split_seed: int = 0,
        batch_size: int = 32,
        eval_batch_size: int = 100,
        vectors: str | None = None,
        seed: int = 0,
    ) -> None:
        if (path is None) == (name is None):
            raise ValueError("data=text_classification needs data.path=PATH or data.name=NAME")
        if level not in ("word", "char"):
            raise ValueError(f"data.level: expected word or char, got {level!r}")
        if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
            raise ValueError(
                "data.valid, data.test: expected shares in (0, 1) that leave something for "
                f"training, got {valid} and {test}"
            )
        for setting, value, least in (
            ("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1),
            ("max_length", 1 if max_length is None else max_length, 1), ("folds", folds, 2),
            ("seed", seed, 0), ("split_seed", split_seed, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"data.{setting} must be >= {least}, got {value}")
        if fold is not None and not 0 <= fold < folds:
            raise ValueError(f"data.fold must lie in 0 … {folds - 1}, got {fold}")
        if classes is not None and len(set(classes)) < max(2, len(classes)):
            raise ValueError(f"data.classes: expected two or more different, got {list(classes)}")
        check_limits(max_vocab, min_count)
        if vectors is not None and level != "word":
            raise ValueError("data.vectors are of words: they need data.level=word")
        self.path, self.name, self.config, self.cache_dir = path, name, config, cache_dir
        self.text_column, self.label_column = text_column, label_column
        self.split_names: dict[Split, str | None] = {
            "train": train_split, "valid": valid_split, "test": test_split
        }  # fmt: skip
        self.class_names: list[str] = [] if classes is None else [str(c) for c in classes]
        self.level: Level = level
        self.lowercase = lowercase
        self.max_vocab, self.min_count, self.max_length = max_vocab, min_count, max_length
        self.shares: dict[Split, float] = {"valid": valid, "test": test}
        self.fold, self.folds, self.split_seed = fold, folds, split_seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.vectors, self.seed = vectors, seed
        self.shown = str(path or name)
        self._ids: dict[Split, list[Array]] = {}
        self._labels: dict[Split, Array] = {}  # (N) int64
        self._cut = 0

    # --- reading --------------------------------------------------------------------------------

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        check_vocabulary(vocabulary, self.level, self.lowercase)
        examples, self._remarks = self._read()
        self.class_names = name_classes(
            [example.label for example in examples["train"]], self.class_names, self.shown,
            f"data.label_column={self.label_column}",
        )  # fmt: skip
        examples = apart(
            examples, shares=self.shares, fold=self.fold, folds=self.folds, seed=self.split_seed,
            shown=self.shown,
        )  # fmt: skip
        self._labels = class_numbers(
            {split: [example.label for example in each] for split, each in examples.items()},
            {split: [example.place for example in each] for split, each in examples.items()},
            self.class_names,
            self.shown,
        )
        tokens = {split: [self._tokens(e) for e in each] for split, each in examples.items()}
        if vocabulary is None:
            every = (token for text in tokens["train"] for token in text)
            vocabulary = Vocabulary.build(
                every, self.level, max_size=self.max_vocab, min_count=self.min_count,
                lowercase=self.lowercase,
            )  # fmt: skip
        self.vocabulary = vocabulary
        self._ids = {s: [vocabulary.encode(t) for t in texts] for s, texts in tokens.items()}

    def _read(self) -> tuple[dict[Split, list[Example]], list[str]]:
        columns = {"text_column": self.text_column, "label_column": self.label_column}
        if self.path is not None:
            return read_examples(self.path, **columns, classes=self.class_names)
        assert self.name is not None
        found = read_hub(
            self.name, self.config, splits=self.split_names, cache_dir=self.cache_dir, **columns
        )
        return found, []

    def _tokens(self, example: Example) -> list[str]:
        text = example.text.lower() if self.lowercase else example.text
        tokens = _WORDS.findall(text) if self.level == "word" else list(text)
        if not tokens:
            raise ValueError(f"{example.place}: there is no word in {example.text!r:.40}")
        if self.max_length is not None and len(tokens) > self.max_length:
            self._cut += 1
            tokens = tokens[: self.max_length]
        return tokens

    # --- batches --------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        assert self.vocabulary is not None
        return {"num_inputs": len(self.vocabulary), "num_outputs": len(self.class_names)}

    def initial_vectors(self) -> Tensor | None:
        if self.vectors is None:
            return None
        assert self.vocabulary is not None
        return read_vectors(Path(self.vectors).expanduser(), self.vocabulary)

    def _batch(self, split: Split, rows: Array) -> SequenceBatch:
        texts = [self._ids[split][row] for row in rows]
        lengths = np.array([len(text) for text in texts])
        inputs = np.zeros((len(rows), lengths.max()), np.int64)  # any symbol will do at padding
        targets = np.full(inputs.shape, IGNORE, np.int64)
        for row, text in enumerate(texts):
            inputs[row, : len(text)] = text
        targets[np.arange(len(rows)), lengths - 1] = self._labels[split][rows]
        tensors = map(torch.from_numpy, (inputs, targets, lengths))
        return SequenceBatch(*tensors)

    def _lengths(self, split: Split) -> Array:
        return np.array([len(text) for text in self._ids[split]])

    # --- record ---------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        assert self.vocabulary is not None
        settings = [self.class_names, self.batch_size, self.seed]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for split in SPLITS:
            digest.update(self._labels[split].tobytes())
            for text in self._ids[split]:
                digest.update(text.tobytes())
        counts = {split: len(self._ids[split]) for split in SPLITS}
        lengths = [len(text) for texts in self._ids.values() for text in texts]
        shares = Counter(self._labels["train"].tolist())
        classes = ", ".join(f"{n} ({shares[i]:,})" for i, n in enumerate(self.class_names[:8]))
        more = f" and {len(self.class_names) - 8} more" if len(self.class_names) > 8 else ""
        remarks = list(self._remarks[:3])
        if self._cut:
            remarks.append(f"{self._cut:,} of {len(lengths):,} cut after {self.max_length} tokens")
        return {
            "summary": f"{self.shown}: "
            + ", ".join(f"{n:,} {s}" for s, n in counts.items())
            + f" texts of {min(lengths)} to {max(lengths)} tokens, {np.median(lengths):.0f} in the "
            f"median; {len(self.vocabulary):,} symbols; classes {classes}{more}"
            + "".join(f"; {remark}" for remark in remarks),
            "digest": digest.hexdigest(),
            "texts": counts,
            "classes": self.class_names,
            "cut": self._cut,
        }

    def baselines(self) -> dict[str, float]:
        """Cross-entropy of the classes' shares in training, and of logistic regression on words.

        The regression reads which words a text has, and nothing of their order; its penalty is
        scikit-learn's usual one.
        """
        assert self.vocabulary is not None
        return baselines(self._ids, self._labels, len(self.vocabulary), len(self.class_names))
