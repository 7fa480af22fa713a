"""Loaders of sequences that are made as they are needed, and of sets that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from seqmodels.data.streams import SequenceBatch


class DrawnLoader:
    """Batches that are a function of their number alone; sized, and resumable anywhere.

    Args:
        draw: called with a batch's number, 0 for the first that was ever handed out.
        batch_size: B.
        batches: of an epoch, ≥ 1.
        repeat: every epoch has the batches of the first; else no batch comes twice.

    Iterating goes on from the loader's position, which moves on before a batch is handed out, and
    stops at the end of an epoch.
    """

    def __init__(
        self,
        draw: Callable[[int], SequenceBatch],
        batch_size: int,
        batches: int,
        *,
        repeat: bool = False,
    ) -> None:
        self.draw = draw
        self.batch_size = batch_size
        self.batches = batches
        self.repeat = repeat
        self.position = 0  # batches handed out since the first epoch began

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[SequenceBatch]:
        ended = False
        while not ended:
            number = self.position % self.batches if self.repeat else self.position
            self.position += 1
            ended = self.position % self.batches == 0
            yield self.draw(number)

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["position"] < 0:
            raise ValueError(f"a position is a number of batches >= 0, got {state['position']}")
        self.position = state["position"]


class FixedLoader:
    """The same batches at every pass, always from the first.

    Args:
        sets: whole sets, each of sequences of one length.
        batch_size: B; the last batch of each set may have fewer.
    """

    def __init__(self, sets: Sequence[SequenceBatch], batch_size: int) -> None:
        self.sets = list(sets)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return sum(-(-len(whole.inputs) // self.batch_size) for whole in self.sets)

    def __iter__(self) -> Iterator[SequenceBatch]:
        for whole in self.sets:
            for start in range(0, len(whole.inputs), self.batch_size):
                rows = slice(start, start + self.batch_size)
                lengths = None if whole.lengths is None else whole.lengths[rows].clone()
                # Copies: who changes a batch must not change the set.
                yield SequenceBatch(
                    whole.inputs[rows].clone(), whole.targets[rows].clone(), lengths
                )
