"""Pairs drawn from a definition: splits, lengths, seeds, batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqmodels.data.base import SequenceBatch
from seqmodels.data.pairs.problems import PairProblem
from seqmodels.data.pairs.vocabulary import PairVocabulary
from seqmodels.data.synthetic.base import SyntheticData
from seqmodels.data.vocabulary import Vocabulary


class GeneratedPairs(SyntheticData):
    """Pairs of sequences, a function of (seed, split, number) alone.

    In training every pair has a length of its own, in validation and test the pairs of a set have
    one and the same; longer ones than in training may be asked for.

    Args:
        problem: the definition.
        length: of the training sources; [least, greatest]: each is uniform between them.
        others: see `seqmodels.data.synthetic.SyntheticData`.

    Raises:
        ValueError: a setting out of its range.
    """

    problem: PairProblem

    def __init__(
        self,
        problem: PairProblem,
        *,
        length: int | Sequence[int] = 10,
        valid_lengths: Sequence[int] | None = None,
        test_lengths: Sequence[int] | None = None,
        batch_size: int = 64,
        batches: int = 500,
        repeat: bool = False,
        valid_sequences: int = 500,
        test_sequences: int = 500,
        eval_batch_size: int = 250,
        seed: int = 0,
        eval_seed: int = 0,
    ) -> None:
        super().__init__(
            problem,
            length=length,
            valid_lengths=valid_lengths,
            test_lengths=test_lengths,
            batch_size=batch_size,
            batches=batches,
            repeat=repeat,
            valid_sequences=valid_sequences,
            test_sequences=test_sequences,
            eval_batch_size=eval_batch_size,
            seed=seed,
            eval_seed=eval_seed,
        )
        longest = max(max(lengths) for lengths in self.lengths.values())
        if problem.longest is not None and longest > problem.longest:
            raise ValueError(
                f"data.length: {problem.name} has lengths of at most {problem.longest}, "
                f"got {longest}"
            )
        self.pairs = problem.vocabulary

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None and vocabulary.to_dict() != self.pairs.to_dict():
            raise ValueError(
                f"the model's symbols are not those of {self.problem.name}: it is not the data of "
                "that model"
            )
        self.vocabulary: PairVocabulary = self.pairs

    def sizes(self) -> dict[str, int]:
        return self.pairs.sizes()

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        random = self._generator("train", number)
        least, greatest = self.length
        lengths = random.integers(least, greatest + 1, self.batch_size)
        return self.problem.draw_each(random, lengths)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "sizes": self.sizes()}

    def baselines(self) -> dict[str, float]:
        """Nats per symbol of the validation data, knowing of each source its length alone."""
        each = [self.problem.unread(length) for length in self.lengths["valid"]]
        return {"length alone": sum(nats for nats, _ in each) / sum(count for _, count in each)}
