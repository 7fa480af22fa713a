"""Symbols and their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

Level = Literal["char", "word"]
UNK = "<unk>"
EOS = "<eos>"  # the end of a line, at word level


def tokenise(text: str, level: Level) -> Sequence[str]:
    """Characters; or words between white space, with EOS after every line, empty ones too."""
    if level == "char":
        return text
    words: list[str] = []
    for line in text.splitlines():
        words += line.split()
        words.append(EOS)
    return words


class Vocabulary:
    """A list of symbols; a symbol's number is its place. UNK stands for what is not in it.

    Args:
        symbols: without repetition, UNK among them.
        level: "char": texts are the symbols joined; "word": joined by spaces, EOS a line break.
    """

    def __init__(self, symbols: Sequence[str], level: Level) -> None:
        self.symbols = list(symbols)
        self.level: Level = level
        self.numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        if len(self.numbers) != len(self.symbols):
            raise ValueError("a vocabulary must not hold a symbol twice")
        if UNK not in self.numbers:
            raise ValueError(f"a vocabulary must hold {UNK}")
        self.unk_id = self.numbers[UNK]

    @classmethod
    def build(
        cls,
        tokens: Iterable[str],
        level: Level,
        *,
        max_size: int | None = None,
        min_count: int = 1,
    ) -> Vocabulary:
        """The most frequent symbols first, ties in the order of their characters.

        Args:
            tokens: of the training text.
            max_size: at most so many symbols, UNK included; ≥ 2.
            min_count: symbols that come less often become UNK; ≥ 1.
        """
        if max_size is not None and max_size < 2:
            raise ValueError(f"max_vocab must be >= 2 or null, got {max_size}")
        if min_count < 1:
            raise ValueError(f"min_count must be >= 1, got {min_count}")
        counts = Counter(tokens)
        # Texts such as WikiText-2 hold the word <unk> themselves: it is the same symbol.
        counts.setdefault(UNK, 0)
        ordered = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
        kept = [s for s in ordered if s == UNK or counts[s] >= min_count]
        if max_size is not None and len(kept) > max_size:
            kept = [s for s in kept if s != UNK][: max_size - 1] + [UNK]
        return cls(kept, level)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """(N,) int64."""
        if self.level == "char" and isinstance(tokens, str):
            return self._encode_characters(tokens)
        unk = self.unk_id
        numbers = (self.numbers.get(token, unk) for token in tokens)
        return np.fromiter(numbers, dtype=np.int64, count=len(tokens))

    def _encode_characters(self, text: str) -> np.ndarray:
        # By a table over code points: a hundred times faster than symbol by symbol.
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        table = np.full(0x110000, self.unk_id, dtype=np.int64)
        for symbol, number in self.numbers.items():
            if len(symbol) == 1:
                table[ord(symbol)] = number
        return np.asarray(table[points])

    def decode(self, numbers: Iterable[int]) -> str:
        """The text that these symbols make."""
        return "".join(map(self.decode_next, numbers))

    def decode_next(self, number: int) -> str:
        """What one more symbol adds to a text."""
        symbol = self.symbols[number]
        if self.level == "char":
            return symbol
        return "\n" if symbol == EOS else symbol + " "

    def encode_prompt(self, prompt: str | None) -> list[int]:
        """The numbers of a text to be continued; None or nothing: a line break."""
        if not prompt:
            start = "\n" if self.level == "char" else EOS
            return [self.numbers.get(start, self.unk_id)]
        tokens: Sequence[str] = prompt
        if self.level == "word":
            # A prompt goes on in its line unless it ends with a line break.
            tokens = tokenise(prompt, "word")
            tokens = tokens if prompt.endswith("\n") else tokens[:-1]
        return [int(number) for number in self.encode(tokens)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"level": self.level, "symbols": self.symbols}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Vocabulary:
        return cls(plain["symbols"], plain["level"])
