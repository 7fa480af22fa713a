"""Text from local files as streams of characters or words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqmodels.data.base import SPLITS, DataModule, Split
from seqmodels.data.ngram import ngram_cross_entropy
from seqmodels.data.sources import Source, cut, read_source
from seqmodels.data.streams import StreamLoader
from seqmodels.data.vocabulary import Level, Vocabulary, tokenise


class TextStreams(DataModule):
    """What text from any place becomes: tokens, a vocabulary, streams, statistics.

    Args:
        read: gives the texts; called by `setup`.
        level: "char" or "word" (split at white space, `<eos>` after each line).
        split: shares of train, valid and test, where there is one text to be cut.
        batch_size: B, the number of parallel streams in training.
        seq_len: T, the length of a chunk: gradients go back so far (truncated BPTT).
        eval_batch_size: streams in evaluation; the fewer, the less context is lost, the slower.
        eval_seq_len: chunk length in evaluation, which does not change the result; None: seq_len.
        drop_remainder: leave out tokens that do not fill streams and chunks evenly (in training).
        max_vocab: most symbols, `<unk>` included; None: no limit.
        min_count: rarer symbols of the training text become `<unk>`.
        lowercase: before anything else.
    """

    def __init__(
        self,
        *,
        level: Level = "char",
        split: Sequence[float] = (0.9, 0.05, 0.05),
        batch_size: int = 64,
        seq_len: int = 64,
        eval_batch_size: int = 16,
        eval_seq_len: int | None = 256,
        drop_remainder: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
    ) -> None:
        if level not in ("char", "word"):
            raise ValueError(f"data.level: expected 'char' or 'word', got {level!r}")
        cut(0, split)  # refuses bad fractions before any text is read
        for name, value in (
            ("batch_size", batch_size),
            ("seq_len", seq_len),
            ("eval_batch_size", eval_batch_size),
            ("eval_seq_len", 1 if eval_seq_len is None else eval_seq_len),
        ):
            if value < 1:
                raise ValueError(f"data.{name} must be >= 1, got {value}")
        self.level: Level = level
        self.split = tuple(split)
        self.batch_size = batch_size
        self.seq_len = seq_len
        self.eval_batch_size = eval_batch_size
        self.eval_seq_len = seq_len if eval_seq_len is None else eval_seq_len
        self.drop_remainder = drop_remainder
        self.max_vocab = max_vocab
        self.min_count = min_count
        self.lowercase = lowercase
        self.tokens: dict[Split, np.ndarray] = {}
        self.characters: dict[Split, int] = {}

    def read(self) -> Source:
        """The texts; each kind of data says where they come from."""
        raise NotImplementedError

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        source = self.read()
        self.source = source
        parts = self._parts(source)
        if vocabulary is None:
            vocabulary = Vocabulary.build(
                parts["train"], self.level, max_size=self.max_vocab, min_count=self.min_count
            )
        self.vocabulary = vocabulary
        self.tokens = {split: vocabulary.encode(part) for split, part in parts.items() if len(part)}
        self._check_lengths()

    def _parts(self, source: Source) -> dict[Split, Sequence[str]]:
        """Tokens of each split, and how many characters of the original text they stand for."""
        texts = source.texts
        if self.lowercase:
            texts = {name: text.lower() for name, text in texts.items()}
        if "all" not in texts:
            self.characters = {s: len(texts[s]) for s in SPLITS if s in texts}
            return {s: tokenise(texts[s], self.level) for s in SPLITS if s in texts}
        tokens = tokenise(texts["all"], self.level)
        slices = cut(len(tokens), self.split)
        parts = {split: tokens[where] for split, where in zip(SPLITS, slices, strict=True)}
        per_token = len(texts["all"]) / max(1, len(tokens))
        self.characters = {s: round(len(part) * per_token) for s, part in parts.items()}
        return parts

    def _check_lengths(self) -> None:
        files = ", ".join(self.source.files[:3])
        for split, tokens in self.tokens.items():
            streams = self.batch_size if split == "train" else self.eval_batch_size
            setting = "data.batch_size" if split == "train" else "data.eval_batch_size"
            # One chunk: a training step as it was asked for; evaluation takes what there is.
            least = streams * (self.seq_len + 1 if split == "train" else 2)
            if len(tokens) < least:
                raise ValueError(
                    f"the {split} split of {files} has {len(tokens)} tokens, fewer than the {least} "
                    f"that {streams} streams need: give more text, or lower {setting}"
                    + (" or data.seq_len" if split == "train" else " or change data.split")
                )

    def sizes(self) -> dict[str, int]:
        return {"num_tokens": len(self.vocabulary)}

    def characters_per_token(self, split: Split) -> float:
        """Mean length of a token of this split in characters of the original text."""
        return self.characters[split] / len(self.tokens[split])

    def train_loader(self) -> StreamLoader:
        return StreamLoader(
            self.tokens["train"],
            self.batch_size,
            self.seq_len,
            drop_remainder=self.drop_remainder,
        )

    def valid_loader(self) -> StreamLoader | None:
        return self._evaluation("valid")

    def test_loader(self) -> StreamLoader | None:
        return self._evaluation("test")

    def _evaluation(self, split: Split) -> StreamLoader | None:
        if split not in self.tokens:
            return None
        return StreamLoader(self.tokens[split], self.eval_batch_size, self.eval_seq_len)

    def describe(self) -> dict[str, Any]:
        counts = {split: len(tokens) for split, tokens in self.tokens.items()}
        unknown = {
            split: int((tokens == self.vocabulary.unk_id).sum())
            for split, tokens in self.tokens.items()
        }
        sizes = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        kind = "characters" if self.level == "char" else "words"
        files = self.source.files
        shown = files[0] if len(files) == 1 else f"{len(files)} files from {files[0]} on"
        return {
            "summary": f"{shown}: {sizes} {kind}, {len(self.vocabulary):,} symbols",
            "digest": self.source.digest,
            "files": files,
            "level": self.level,
            "tokens": counts,
            "characters": {split: self.characters[split] for split in counts},
            "unknown": unknown,
            "vocabulary": len(self.vocabulary),
        }

    def baselines(self) -> dict[str, float]:
        """Validation loss in nats per token of n-gram models of order 1 and 2."""
        if "valid" not in self.tokens:
            return {}
        train, valid = self.tokens["train"], self.tokens["valid"]
        return {
            name: ngram_cross_entropy(train, valid, order, len(self.vocabulary))
            for order, name in ((1, "unigram"), (2, "bigram"))
        }


class TextData(TextStreams):
    """Local text.

    Args:
        path: a file, a glob pattern (all its files, in the order of their names, are one text), or
            a folder with a file for each split, such as ptb.train.txt; `.gz` too. None: the source
            code of the Python standard library that is running, real text on every machine.
        max_chars: only so many characters from the start of each text; None: all.
        others: see `TextStreams`.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        max_chars: int | None = None,
        level: Level = "char",
        split: Sequence[float] = (0.9, 0.05, 0.05),
        batch_size: int = 64,
        seq_len: int = 64,
        eval_batch_size: int = 16,
        eval_seq_len: int | None = 256,
        drop_remainder: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
    ) -> None:
        super().__init__(
            level=level,
            split=split,
            batch_size=batch_size,
            seq_len=seq_len,
            eval_batch_size=eval_batch_size,
            eval_seq_len=eval_seq_len,
            drop_remainder=drop_remainder,
            max_vocab=max_vocab,
            min_count=min_count,
            lowercase=lowercase,
        )
        if max_chars is not None and max_chars < 1:
            raise ValueError(f"data.max_chars must be >= 1 or null, got {max_chars}")
        self.path = path
        self.max_chars = max_chars

    def read(self) -> Source:
        return read_source(self.path, max_chars=self.max_chars)
