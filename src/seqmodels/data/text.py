"""Text from local files as streams of characters or words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from seqmodels.data.base import SPLITS, DataModule, Split
from seqmodels.data.ngram import NGram
from seqmodels.data.sources import Source, cut, read_source, shown_files
from seqmodels.data.streams import StreamLoader
from seqmodels.data.subwords import NEEDS_SIZE, SubwordVocabulary
from seqmodels.data.vocabulary import (
    Level,
    Vocabulary,
    characters_before,
    check_limits,
    check_vocabulary,
    tokenise,
)

NGRAM_NAMES = {1: "unigram", 2: "bigram", 3: "trigram"}


class TextStreams(DataModule):
    """What text from any place becomes: tokens, a vocabulary, streams, statistics.

    Args:
        level: "char", "word" (split at white space, `<eos>` after each line) or "subword" (learned
            from the training part; see `SubwordVocabulary`).
        split: shares of train, valid and test, where there is one text to be cut: the first
            int(f · N) of its N tokens are for training. Any but the first may be 0.
        batch_size: B, the number of parallel streams in training.
        seq_len: T, the length of a chunk: gradients go back so far (truncated BPTT).
        eval_batch_size: streams in evaluation; the fewer, the less context is lost, the slower.
        eval_seq_len: chunk length in evaluation, which does not change the result; None: seq_len.
        random_seq_len: draw the length of every training chunk around seq_len, new ones in each
            epoch (Merity et al. 2017, https://arxiv.org/abs/1708.02182); see
            `StreamLoader.lengths`.
        seed: of these.
        drop_remainder: leave out, in training, the tokens that do not fill streams and chunks
            evenly, as Zaremba et al. 2014 do, https://arxiv.org/abs/1409.2329.
        max_vocab: most symbols, `<unk>` included; None: no limit, which subwords need.
        min_count: rarer symbols of the training text become `<unk>`.
        lowercase: before anything else.
        ngrams: measure n-gram models up to this order beside the run, 0..5.

    Raises:
        ValueError: a setting out of its range.
    """

    vocabulary: Vocabulary

    def __init__(
        self,
        *,
        level: Level = "char",
        split: tuple[float, float, float] = (0.9, 0.05, 0.05),
        batch_size: int = 32,
        seq_len: int = 64,
        eval_batch_size: int = 16,
        eval_seq_len: int | None = 256,
        random_seq_len: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
        ngrams: int = 5,
    ) -> None:
        if level not in get_args(Level):
            levels = ", ".join(map(repr, get_args(Level)))
            raise ValueError(f"data.level: expected one of {levels}; got {level!r}")
        if level == "subword" and max_vocab is None:
            raise ValueError(NEEDS_SIZE)
        if not 0 <= ngrams <= 5:
            raise ValueError(f"data.ngrams must lie in 0..5, got {ngrams}")
        cut(0, split)  # refuses bad fractions before any text is read
        check_limits(max_vocab, min_count)
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
        self.random_seq_len, self.seed = random_seq_len, seed
        self.drop_remainder = drop_remainder
        self.max_vocab = max_vocab
        self.min_count = min_count
        self.lowercase = lowercase
        self.ngrams = ngrams
        self.tokens: dict[Split, np.ndarray] = {}  # (N,) int32 each
        self.characters: dict[Split, int] = {}  # of the text that the tokens stand for

    @abstractmethod
    def read(self) -> Source:
        """The texts; each kind of data says where they come from."""

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        check_vocabulary(vocabulary, self.level, self.lowercase)
        source = self.read()
        self.files, self.digest = source.files, source.digest
        parts = self._parts(source)
        if vocabulary is None:
            vocabulary = self._learn(parts["train"])
        self.vocabulary = vocabulary
        # Half the memory of int64; batches are int64 again.
        self.tokens = {s: vocabulary.encode(part).astype(np.int32) for s, part in parts.items()}
        self._check_lengths(source)

    def _learn(self, tokens: Sequence[str]) -> Vocabulary:
        """The vocabulary of the training part."""
        if self.level == "subword":
            assert isinstance(tokens, str)
            return SubwordVocabulary.learn(
                tokens, self.max_vocab, min_count=self.min_count, lowercase=self.lowercase
            )
        return Vocabulary.build(
            tokens,
            self.level,
            max_size=self.max_vocab,
            min_count=self.min_count,
            lowercase=self.lowercase,
        )

    def _parts(self, source: Source) -> dict[Split, Sequence[str]]:
        """The tokens of each split that there is."""
        self.characters = {}
        parts: dict[Split, Sequence[str]] = {}
        for name, original in source.texts.items():
            text = original.lower() if self.lowercase else original
            if name == "all":
                parts |= self._cut(text, self.split)
            elif name == "train+valid":
                train, valid, _ = self.split
                parts |= self._cut(text, (train / (train + valid), valid / (train + valid), 0.0))
            else:
                split = next(split for split in SPLITS if split == name)
                parts[split] = tokenise(text, self.level)
                self.characters[split] = len(text)
        return parts

    def _cut(self, text: str, fractions: Sequence[float]) -> dict[Split, Sequence[str]]:
        tokens = tokenise(text, self.level)
        slices = cut(len(tokens), fractions)
        # Where each part starts, in characters; and the end.
        bounds = [characters_before(text, self.level, where.start) for where in slices] + [
            len(text)
        ]
        parts: dict[Split, Sequence[str]] = {}
        for index, split in enumerate(SPLITS):
            if fractions[index] > 0:
                parts[split] = tokens[slices[index]]
                self.characters[split] = bounds[index + 1] - bounds[index]
        return parts

    def _check_lengths(self, source: Source) -> None:
        for split, tokens in self.tokens.items():
            streams = self.batch_size if split == "train" else self.eval_batch_size
            setting = "data.batch_size" if split == "train" else "data.eval_batch_size"
            # One chunk: a training step as it was asked for; evaluation takes what there is.
            least = streams * (self.seq_len + 1 if split == "train" else 2)
            if len(tokens) < least:
                text = next(t for t in (split, "train+valid", "all") if t in source.texts)
                ways = ["give more text", f"lower {setting}"]
                if split == "train":
                    ways.append("lower data.seq_len")
                elif text != split:
                    ways.append("change data.split")
                streams_need = f"{streams} streams need" if streams > 1 else "one stream needs"
                raise ValueError(
                    f"the {split} split of {source.places[text]} has {len(tokens)} tokens, fewer "
                    f"than the {least} that {streams_need}: {', or '.join(ways)}"
                )

    def sizes(self) -> dict[str, int]:
        return {"num_tokens": len(self.vocabulary)}

    def characters_per_token(self, split: Split) -> float:
        """Mean length of a token of this split in characters of the text, white space included."""
        return self.characters[split] / len(self.tokens[split])

    def train_loader(self) -> StreamLoader:
        return StreamLoader(
            self.tokens["train"],
            self.batch_size,
            self.seq_len,
            drop_remainder=self.drop_remainder,
            random_lengths=self.seed if self.random_seq_len else None,
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
        unk = self.vocabulary.unk_id
        counts = {split: len(tokens) for split, tokens in self.tokens.items()}
        sizes = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        where = shown_files(self.files)
        kind = {"char": "characters", "word": "words", "subword": "subwords"}[self.level]
        return {
            "summary": f"{where}: {sizes} {kind}, {len(self.vocabulary):,} symbols",
            "digest": self.digest,
            "files": self.files,
            "level": self.level,
            "tokens": counts,
            "characters": dict(self.characters),
            "characters_per_token": {split: self.characters_per_token(split) for split in counts},
            "unknown": {split: int((ids == unk).sum()) for split, ids in self.tokens.items()},
            "vocabulary": len(self.vocabulary),
        }

    def baselines(self) -> dict[str, float]:
        """Validation loss in nats per token of n-gram models of order 1 to `ngrams`.

        Trained on the whole training split, measured on every token of the validation split.
        """
        if "valid" not in self.tokens or self.ngrams == 0:
            return {}
        model = NGram(self.tokens["train"], self.ngrams, len(self.vocabulary))
        valid = self.tokens["valid"]
        return {
            NGRAM_NAMES.get(n, f"{n}-gram"): model.cross_entropy(valid, order=n)
            for n in range(1, self.ngrams + 1)
        }


class TextData(TextStreams):
    """Local text.

    Args:
        path: a file, a glob pattern (all its files, in the order of their names, are one text), or
            a folder with a file for each split, such as ptb.train.txt; `.gz` too. None: the source
            code of the Python standard library that is running, real text on every machine.
        max_chars: only so many characters from the start of the text, of each split's text for a
            folder; None: all. The digest is still that of the whole files.
        others: see `TextStreams`.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        max_chars: int | None = None,
        level: Level = "char",
        split: tuple[float, float, float] = (0.9, 0.05, 0.05),
        batch_size: int = 32,
        seq_len: int = 64,
        eval_batch_size: int = 16,
        eval_seq_len: int | None = 256,
        random_seq_len: bool = False,
        seed: int = 0,
        drop_remainder: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
        ngrams: int = 5,
    ) -> None:
        super().__init__(
            level=level,
            split=split,
            batch_size=batch_size,
            seq_len=seq_len,
            eval_batch_size=eval_batch_size,
            eval_seq_len=eval_seq_len,
            random_seq_len=random_seq_len,
            seed=seed,
            drop_remainder=drop_remainder,
            max_vocab=max_vocab,
            min_count=min_count,
            lowercase=lowercase,
            ngrams=ngrams,
        )
        if max_chars is not None and max_chars < 1:
            raise ValueError(f"data.max_chars must be >= 1 or null, got {max_chars}")
        self.path = path
        self.max_chars = max_chars

    def read(self) -> Source:
        return read_source(self.path, max_chars=self.max_chars)
