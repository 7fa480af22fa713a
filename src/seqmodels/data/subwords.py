"""Pieces of words, learned from the text: byte-pair encoding over characters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from seqmodels.data.vocabulary import UNK, Vocabulary, check_limits

# What merges stay within: a word or a run of other signs with the space before it, a line break, a
# run of other white space.
UNITS = r"\n| ?\w+| ?[^\w\s]+|[^\S\n]+(?!\S)|[^\S\n]"
NEEDS_SIZE = "data.level=subword needs data.max_vocab, the number of symbols, such as 8000"
BLOCK = 1 << 16  # characters handed over at a time


class SubwordVocabulary(Vocabulary):
    """Characters and what frequent neighbours were merged into, as Sennrich et al. 2016 do.

    Starting from characters, the most frequent pair of neighbouring symbols becomes a symbol, until
    there are enough. A word carries the space before it, so that symbols joined are the text.
    Learned and applied by the library `tokenizers`; https://arxiv.org/abs/1508.07909.

    Args:
        symbols: without repetition, UNK among them.
        merges: pairs of symbols whose join is a symbol too, in the order in which they are applied.
        lowercase: see `Vocabulary`.

    Raises:
        ValueError: an impossible list of symbols or merges; `tokenizers` is not installed.
    """

    def __init__(
        self, symbols: Sequence[str], merges: Sequence[Sequence[str]], *, lowercase: bool = False
    ) -> None:
        super().__init__(symbols, "subword", lowercase=lowercase)
        for pair in merges:
            if len(pair) != 2 or not {*pair, "".join(pair)} <= self.numbers.keys():
                raise ValueError(f"the merge {pair!r} of a vocabulary is not one of its symbols")
        self.merges = [(first, second) for first, second in merges]
        self._tokenizer = _tokenizer(self.numbers, self.merges)

    @classmethod
    def learn(
        cls, text: str, size: int | None, *, min_count: int = 1, lowercase: bool = False
    ) -> SubwordVocabulary:
        """Symbols for a text, the most frequent first.

        Args:
            text: of the training part.
            size: number of symbols, UNK and the characters included.
            min_count: pairs that come less often are not merged; >= 1.
            lowercase: see the class.

        Raises:
            ValueError: there are more characters than symbols, or no size is given.
        """
        check_limits(size, min_count)
        if size is None:
            raise ValueError(NEEDS_SIZE)
        characters = sorted(set(text))
        if len(characters) + 1 > size:
            raise ValueError(
                f"data.max_vocab={size} is too small: the text has {len(characters)} different "
                f"characters, each of which is a symbol beside {UNK}"
            )
        from tokenizers import trainers

        learner = _tokenizer({UNK: 0}, [])
        learner.train_from_iterator(
            _blocks(text),
            trainers.BpeTrainer(
                vocab_size=size,
                min_frequency=min_count,
                special_tokens=[UNK],
                initial_alphabet=characters,
                show_progress=False,
            ),
        )
        merges = json.loads(learner.to_str())["model"]["merges"]
        plain = cls(list(learner.get_vocab()), merges, lowercase=lowercase)
        counts = np.bincount(plain.encode(text), minlength=len(plain))
        order = sorted(zip(-counts, plain.symbols, strict=True))
        return cls([symbol for _, symbol in order], merges, lowercase=lowercase)

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """(N,) int64 of a text, or of texts that are one."""
        text = tokens if isinstance(tokens, str) else "".join(tokens)
        found = [
            np.asarray(each.ids, dtype=np.int64)
            for each in self._tokenizer.encode_batch_fast(list(_blocks(text)))
        ]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "merges": [list(pair) for pair in self.merges]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SubwordVocabulary:
        lowercase = bool(plain.get("lowercase", False))
        return cls(plain["symbols"], plain["merges"], lowercase=lowercase)


def _tokenizer(numbers: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Any:
    try:
        from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    except ImportError:
        raise ValueError(
            "data.level=subword needs the package tokenizers: pip install tokenizers"
        ) from None
    made = Tokenizer(models.BPE(vocab=dict(numbers), merges=list(merges), unk_token=UNK))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(UNITS), "isolated")
    made.add_special_tokens([UNK])
    return made


def _blocks(text: str) -> Iterator[str]:
    """The text in pieces that end with a line break, so that none cuts a unit."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + BLOCK) + 1 or len(text)
        yield text[start:end]
        start = end
