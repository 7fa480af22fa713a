"""A user's text in two languages, or any other pairs of lines."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import numpy as np

from seqmodels.data.base import SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.labelled.batches import Listed, mixed_batches, sorted_batches
from seqmodels.data.pairs.files import Pair, read_pairs
from seqmodels.data.pairs.vocabulary import PairVocabulary, padded, symbols_of
from seqmodels.data.synthetic.loaders import DrawnLoader
from seqmodels.data.vocabulary import Level, Vocabulary, check_limits

Array = np.ndarray
Known = tuple[list[str], list[str]]  # the symbols of a source and of its target


class ParallelText(DataModule):
    """Pairs of lines: read the one, write the other.

    Batches are padded, and hold sources of like lengths (`mixed_batches`).

    Args:
        path: a file with a pair in each line, source and target with a tab between them; or a
            folder with such a file for each split (train.tsv, valid.tsv and perhaps test.tsv).
            `.gz` too.
        source_path, target_path: two files (or folders) instead, the lines of one beside those of
            the other.
        source_level, target_level: "word", between white space; "char".
        lowercase: turn both sides to lower case.
        max_vocab: most symbols of each side, <unk> included; None: no limit.
        min_count: symbols that are rarer in training become <unk>.
        max_length: lines are cut after so many symbols, which is counted and reported; None: never.
        valid, test: shares kept apart, where there is one file; 0: none.
        split_seed: of what is kept for which.
        batch_size: B in training.
        eval_batch_size: does not change the results.
        seed: of the order in training.

    Raises:
        ValueError: a setting out of its range.
    """

    targets = "sequences"
    vocabulary: PairVocabulary

    def __init__(
        self,
        *,
        path: str | None = None,
        source_path: str | None = None,
        target_path: str | None = None,
        source_level: Level = "word",
        target_level: Level = "word",
        lowercase: bool = False,
        max_vocab: int | None = None,
        min_count: int = 1,
        max_length: int | None = 100,
        valid: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 100,
        seed: int = 0,
    ) -> None:
        if (path is None) == (source_path is None) or (source_path is None) != (
            target_path is None
        ):
            raise ValueError(
                "data: give either path, a file with two columns, or both source_path and "
                f"target_path; got path={path}, source_path={source_path}, "
                f"target_path={target_path}"
            )
        for name, level in (("source_level", source_level), ("target_level", target_level)):
            if level not in ("char", "word"):
                raise ValueError(f"data.{name}: expected 'char' or 'word', got {level!r}")
        check_limits(max_vocab, min_count)
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("max_length", 1 if max_length is None else max_length, 1),
            ("split_seed", split_seed, 0),
            ("seed", seed, 0),
        ):
            if value < least:
                raise ValueError(f"data.{name} must be >= {least}, got {value}")
        if not (valid >= 0.0 and test >= 0.0 and valid + test < 1.0):
            raise ValueError(
                f"data.valid and data.test must be shares that leave some, got {valid} and {test}"
            )
        self.path = path
        self.source_path, self.target_path = source_path, target_path
        self.source_level: Level = source_level
        self.target_level: Level = target_level
        self.lowercase = lowercase
        self.max_vocab, self.min_count, self.max_length = max_vocab, min_count, max_length
        self.shares: dict[Split, float] = {"valid": valid, "test": test}
        self.split_seed = split_seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.seed = seed
        self.pairs: dict[Split, tuple[list[Array], list[Array]]] = {}
        self.cut = {"source": 0, "target": 0}
        self._batches: tuple[int, list[Array]] = (-1, [])

    # --- reading --------------------------------------------------------------------------------

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        pairs, self.files = read_pairs(self.path, self.source_path, self.target_path)
        self.cut = {"source": 0, "target": 0}
        known = {
            name: [(self._symbols(p, "source"), self._symbols(p, "target")) for p in own]
            for name, own in pairs.items()
        }
        sides = {
            split: ([source for source, _ in own], [target for _, target in own])
            for split, own in self._split(known).items()
        }
        self.vocabulary = self._vocabulary(vocabulary, *sides["train"])
        read, written = self.vocabulary.source, self.vocabulary
        self.pairs = {
            split: ([read.encode(own) for own in sources], [written.encode(own) for own in targets])
            for split, (sources, targets) in sides.items()
        }

    def _vocabulary(
        self, given: Vocabulary | None, sources: list[list[str]], targets: list[list[str]]
    ) -> PairVocabulary:
        if given is not None:
            if not isinstance(given, PairVocabulary):
                raise ValueError("the model is one of text, not of pairs of lines (model=seq2seq)")
            theirs = (given.source.level, given.level, given.lowercase)
            if theirs != (self.source_level, self.target_level, self.lowercase):
                raise ValueError(
                    "the model was trained with data.source_level={} data.target_level={} "
                    "data.lowercase={}: set the same".format(*theirs)
                )
            return given
        limits: dict[str, Any] = {"max_size": self.max_vocab, "min_count": self.min_count}
        source = Vocabulary.build(
            [s for line in sources for s in line], self.source_level, lowercase=self.lowercase,
            **limits,
        )  # fmt: skip
        target = Vocabulary.build(
            [s for line in targets for s in line], self.target_level, **limits
        )
        return PairVocabulary(
            target.symbols, self.target_level, source=source, lowercase=self.lowercase
        )

    def _symbols(self, pair: Pair, side: str) -> list[str]:
        level = self.source_level if side == "source" else self.target_level
        symbols = symbols_of(getattr(pair, side), level, lowercase=self.lowercase)
        if not symbols:
            raise ValueError(
                f"{pair.place}: the {side} is empty: remove the line, from both files if there are "
                "two"
            )
        if self.max_length is not None and len(symbols) > self.max_length:
            self.cut[side] += 1
            symbols = symbols[: self.max_length]
        return symbols

    def _split(self, pairs: dict[str, list[Known]]) -> dict[Split, list[Known]]:
        if "all" not in pairs:
            return {split: pairs[split] for split in SPLITS if split in pairs}
        whole = pairs["all"]
        order = np.random.default_rng([self.split_seed, 11]).permutation(len(whole))
        found: dict[Split, list[Known]] = {}
        for split, share in self.shares.items():
            if share:
                count = max(1, round(share * len(whole)))
                found[split] = [whole[i] for i in order[:count]]
                order = order[count:]
        if not len(order):
            raise ValueError(f"{self.files[0]}: {len(whole)} pairs leave none for training")
        return {"train": [whole[i] for i in order], **found}

    # --- batches --------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        return self.vocabulary.sizes()

    def _batch(self, split: Split, rows: Array) -> SequenceBatch:
        sources, targets = self.pairs[split]
        return padded(
            [sources[row] for row in rows], [targets[row] for row in rows], self.vocabulary.end
        )

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        epoch, place = divmod(number, self._count)
        if self._batches[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._batches = (epoch, mixed_batches(self._lengths("train"), self.batch_size, random))
        return self._batch("train", self._batches[1][place])

    @property
    def _count(self) -> int:
        return -(-len(self.pairs["train"][0]) // self.batch_size)

    def _lengths(self, split: Split) -> Array:
        return np.array([len(source) for source in self.pairs[split][0]])

    def train_loader(self) -> DrawnLoader:
        return DrawnLoader(self.draw, self.batch_size, self._count)

    def valid_loader(self) -> Listed | None:
        return self._listed("valid")

    def test_loader(self) -> Listed | None:
        return self._listed("test")

    def _listed(self, split: Split) -> Listed | None:
        if split not in self.pairs:
            return None
        batches = sorted_batches(self._lengths(split), self.eval_batch_size)
        return Listed(partial(self._batch, split), batches, self.eval_batch_size)

    # --- record ---------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256(repr((self.batch_size, self.seed)).encode())
        for split in SPLITS:
            for side in self.pairs.get(split, ()):
                for line in side:
                    digest.update(line.tobytes() + b"|")
        counts = {split: len(self.pairs[split][0]) for split in SPLITS if split in self.pairs}
        shown = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        read, written = self.vocabulary.source, self.vocabulary
        total = sum(counts.values())
        cut = [
            f"; {count:,} of {total:,} {side}s cut after {self.max_length} symbols"
            for side, count in self.cut.items()
            if count
        ]
        return {
            "summary": f"{' and '.join(self.files[:2])}: {shown} pairs; {len(read):,} symbols to "
            f"be read, {len(written):,} to be written" + "".join(cut),
            "digest": digest.hexdigest(),
            "files": self.files,
            "pairs": counts,
            "cut": dict(self.cut),
            "unknown": {split: self._unknown(split) for split in counts},
            "sizes": self.sizes(),
        }

    def _unknown(self, split: Split) -> dict[str, int]:
        """How many symbols of either side are not in the vocabulary."""
        sources, targets = self.pairs[split]
        return {
            "source": sum(int(np.equal(s, self.vocabulary.source.unk_id).sum()) for s in sources),
            "target": sum(int(np.equal(t, self.vocabulary.unk_id).sum()) for t in targets),
        }

    def baselines(self) -> dict[str, float]:
        """Nats per symbol of the validation targets by the frequencies of symbols in training.

        The end counts as a symbol; to each count one is added.
        """
        if "valid" not in self.pairs:
            return {}
        size = self.vocabulary.end + 1
        counts = {split: _counts(self.pairs[split][1], size) for split in ("train", "valid")}
        chances = (counts["train"] + 1) / (counts["train"] + 1).sum()
        share = counts["valid"] / counts["valid"].sum()
        return {"unigram": float(-(share * np.log(chances)).sum())}


def _counts(targets: list[Array], size: int) -> Array:
    """(size,) how often each symbol comes; the last is the end, once in each target."""
    counts = np.bincount(np.concatenate(targets), minlength=size).astype(np.float64)
    counts[-1] += len(targets)
    return counts
