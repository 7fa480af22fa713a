"""Symbols and their numbers."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

Level = Literal["char", "word", "subword"]
UNK = "<unk>"  # at character level no text can hold it: it has five characters
EOS = "<eos>"  # the end of a line, at word level


def lines_of(text: str) -> list[str]:
    """The lines without their ends; the last one may lack its end.

    A line ends with a line feed and nothing else, as when reading a file: `str.splitlines` would
    cut at form feeds and other controls too.
    """
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def tokenise(text: str, level: Level) -> Sequence[str]:
    """Characters; or words between white space, with EOS after every line, empty ones too.

    Of subwords the characters, which a vocabulary of them puts together itself.
    """
    if level != "word":
        return text
    words: list[str] = []
    known: dict[str, str] = {}  # one object for all appearances of a word: a fifth of the memory
    for line in lines_of(text):
        parts = line.split()
        words += map(known.setdefault, parts, parts)
        words.append(EOS)
    return words


def characters_before(text: str, level: Level, index: int) -> int:
    """How many characters of `text` come before its token number `index`; all, if it has fewer."""
    if level != "word":
        return min(index, len(text))
    offset = 0
    for line in lines_of(text):
        count = len(line.split()) + 1
        if index < count:
            starts = [found.start() for found in re.finditer(r"\S+", line)]
            return offset + [*starts, len(line)][index]
        index -= count
        offset += len(line) + 1
    return len(text)


class Vocabulary:
    """A list of symbols; a symbol's number is its place. UNK stands for what is not in it.

    Args:
        symbols: without repetition, UNK among them; at character level single characters else.
        level: "char", "subword": texts are the symbols joined; "word": joined by spaces, EOS a line
            break.
        lowercase: the texts that it was made of were turned to lower case.

    Raises:
        ValueError: an impossible list of symbols.
    """

    def __init__(self, symbols: Sequence[str], level: Level, *, lowercase: bool = False) -> None:
        if level not in get_args(Level):
            levels = ", ".join(map(repr, get_args(Level)))
            raise ValueError(f"the level of a vocabulary is one of {levels}, got {level!r}")
        self.symbols = list(symbols)
        self.level: Level = level
        self.lowercase = lowercase
        for symbol in self.symbols:
            if not isinstance(symbol, str) or (
                level == "char" and len(symbol) != 1 and symbol != UNK
            ):
                kind = "a character" if level == "char" else "text"
                raise ValueError(f"the symbol {symbol!r} of a vocabulary is not {kind}")
        self.numbers = {symbol: number for number, symbol in enumerate(self.symbols)}
        if len(self.numbers) != len(self.symbols):
            twice = Counter(self.symbols).most_common(1)[0][0]
            raise ValueError(f"a vocabulary must not hold a symbol twice: {twice!r}")
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
        lowercase: bool = False,
    ) -> Vocabulary:
        """The most frequent symbols first, ties in the order of their characters.

        UNK stands where the count of what became it says, so that a symbol's number is its rank.

        Args:
            tokens: of the training text.
            max_size: at most so many symbols, UNK included; ≥ 2.
            min_count: symbols that come less often become UNK; ≥ 1.
            lowercase: see the class.
        """
        check_limits(max_size, min_count)
        counts = Counter(tokens)
        # Texts such as WikiText-2 hold the word <unk> themselves: it is the same symbol.
        unknown = counts.pop(UNK, 0)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        kept = [(symbol, count) for symbol, count in ordered if count >= min_count]
        if max_size is not None:
            kept = kept[: max_size - 1]
        unknown += sum(counts.values()) - sum(count for _, count in kept)
        kept.append((UNK, unknown))
        kept.sort(key=lambda item: (-item[1], item[0]))
        return cls([symbol for symbol, _ in kept], level, lowercase=lowercase)

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, tokens: Sequence[str]) -> np.ndarray:
        """(N,) int64."""
        if self.level == "char" and isinstance(tokens, str):
            return self._encode_characters(tokens)
        numbers = map(self.numbers.get, tokens, itertools.repeat(self.unk_id))
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
        """The text that these symbols make; words joined by single spaces, EOS a line break."""
        text = "".join(map(self.decode_next, numbers))
        return text.replace(" \n", "\n").removesuffix(" ") if self.level == "word" else text

    def decode_next(self, number: int) -> str:
        """What one more symbol adds to a text that is written as it comes."""
        symbol = self.symbols[number]
        if self.level != "word":
            return symbol
        return "\n" if symbol == EOS else symbol + " "

    def encode_prompt(self, prompt: str | None) -> list[int]:
        """The numbers of a text to be continued; None or nothing: a line break.

        A text that has no line break starts with its most frequent symbol instead.
        """
        tokens = self._prompt_tokens(prompt)
        if not tokens:
            tokens = [EOS] if self.level == "word" else "\n"
            if tokens[0] not in self.numbers:
                return [0 if self.unk_id != 0 else min(1, len(self) - 1)]
        return [int(number) for number in self.encode(tokens)]

    def unknown_in(self, prompt: str | None) -> list[str]:
        """The symbols of a prompt that are read as UNK, each once."""
        unknown = [t for t in self._prompt_tokens(prompt) if t not in self.numbers]
        return list(dict.fromkeys(unknown))

    def opening(self, prompt: str | None) -> str:
        """The prompt as what `decode_next` gives may follow it: a space after a last word."""
        text = prompt or ""
        return f"{text} " if self.level == "word" and text and not text[-1].isspace() else text

    def _prompt_tokens(self, prompt: str | None) -> Sequence[str]:
        text = (prompt or "").lower() if self.lowercase else prompt or ""
        tokens = tokenise(text, self.level)
        if self.level == "word" and not text.endswith("\n"):
            tokens = tokens[:-1]  # a prompt goes on in its line unless it ends with a line break
        return tokens

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"level": self.level, "lowercase": self.lowercase, "symbols": self.symbols}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Vocabulary:
        """What `to_dict` gave away.

        Raises:
            KeyError, ValueError: it is something else.
        """
        return cls(plain["symbols"], plain["level"], lowercase=bool(plain.get("lowercase", False)))


def check_limits(max_size: int | None, min_count: int) -> None:
    """Refuses sizes that no vocabulary can have."""
    if max_size is not None and max_size < 2:
        raise ValueError(f"data.max_vocab must be >= 2 or null, got {max_size}")
    if min_count < 1:
        raise ValueError(f"data.min_count must be >= 1, got {min_count}")


def check_vocabulary(vocabulary: Vocabulary | None, level: Level, lowercase: bool) -> None:
    """Refuses the vocabulary of a model that was made otherwise than the data will be read."""
    if vocabulary is None:
        return
    if vocabulary.level != level:
        raise ValueError(
            f"data.level={level}, but the model's vocabulary is one of level {vocabulary.level}"
        )
    if vocabulary.lowercase != lowercase:
        ours, theirs = str(lowercase).lower(), str(vocabulary.lowercase).lower()
        raise ValueError(
            f"data.lowercase={ours}, but the model's vocabulary was made with "
            f"lowercase={theirs}: set data.lowercase={theirs}"
        )
