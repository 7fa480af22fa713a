"""Word vectors from a text file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqmodels.data.vocabulary import Vocabulary


def read_vectors(file: Path, vocabulary: Vocabulary) -> Tensor:
    """(V, E) float32: the vectors of the vocabulary's words; NaN in rows of words without one.

    Args:
        file: a word and E numbers on each line, blanks between them, as of GloVe, some of whose
            words have blanks in them; a first line of two whole numbers (how many, how long), as of
            word2vec, is passed over.
        vocabulary: of words.

    Raises:
        ValueError: a line that is none, with its number; or no word of the vocabulary is in it.
        OSError: it cannot be read.
    """
    found: np.ndarray | None = None
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2:
                continue
            if found is None:
                found = np.full((len(vocabulary), len(parts) - 1), np.nan, np.float32)
            size = found.shape[1]
            if len(parts) <= size:
                raise ValueError(
                    f"{file}, line {number}: expected a word and {size} numbers, got "
                    f"{len(parts) - 1}"
                )
            cells = parts[-size:]
            word = " ".join(parts[:-size])
            place = vocabulary.numbers.get(word)
            if place is None:
                continue
            try:
                found[place] = [float(cell) for cell in cells]
            except ValueError:
                raise ValueError(f"{file}, line {number}: {word!r} has no numbers") from None
    if found is None or np.isnan(found).all():
        raise ValueError(f"{file}: no word of the texts has a vector in it")
    return torch.from_numpy(found)
