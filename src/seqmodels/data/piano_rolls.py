"""Polyphonic music: which of 88 notes sound at each step."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqmodels.data.arrays import read_arrays
from seqmodels.data.base import SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.labelled.batches import Listed, mixed_batches, sorted_batches
from seqmodels.data.synthetic.loaders import DrawnLoader
from seqmodels.data.vocabulary import Vocabulary

Array = np.ndarray
LOWEST = 21  # the MIDI number of a piano's lowest key
ENDINGS = (".mat", ".npz", ".json")
NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "traindata"),
    "valid": ("valid", "validdata", "validation"),
    "test": ("test", "testdata"),
}


class PianoRolls(DataModule):
    """Pieces of music as binary vectors; each step's notes are predicted from those before.

        x_t ∈ {0, 1}^N: the notes that sound at step t
        target at step t: x_{t+1}; a piece of T steps has T − 1 of them

    Args:
        path: .mat with cell arrays `traindata`, `validdata`, `testdata` of matrices (T, N), as of
            Boulanger-Lewandowski et al.; .npz with arrays (T, N) named `train_0`, `train_1`, …,
            `valid_0`, …, `test_0`, …; or .json of lists {"train": [piece, …], …}, a piece a list of
            steps, a step the list of its notes as MIDI numbers (21 is the lowest of 88).
        max_steps: training pieces are cut into parts of at most so many steps; None: they stay
            whole. Validation and test pieces always do.
        batch_size: pieces of a batch; padded to the longest, of like lengths.
        eval_batch_size: does not change the results.
        seed: of the order of training.

    Raises:
        ValueError: a setting out of its range; by `setup`, also OSError: the file is not what it
            should be.

    References: Boulanger-Lewandowski, Bengio & Vincent, "Modeling temporal dependencies in
    high-dimensional sequences", ICML 2012, https://arxiv.org/abs/1206.6392.
    """

    targets = "notes"

    def __init__(
        self,
        path: str,
        *,
        max_steps: int | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 50,
        seed: int = 0,
    ) -> None:
        for setting, value, least in (
            ("max_steps", 2 if max_steps is None else max_steps, 2), ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1), ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"data.{setting} must be >= {least}, got {value}")
        self.path, self.max_steps = str(path), max_steps
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self._pieces: dict[Split, list[Array]] = {}
        self._batches: tuple[int, list[Array]] = (-1, [])

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None:
            raise ValueError("the model reads text, and these are piano rolls: they do not fit it")
        self._pieces = read_piano_rolls(Path(self.path).expanduser())
        self.notes = self._pieces["train"][0].shape[1]
        if self.max_steps is not None:
            parts = [
                piece[start : start + self.max_steps + 1]
                for piece in self._pieces["train"]
                for start in range(0, len(piece) - 1, self.max_steps)
            ]
            self._pieces["train"] = [part for part in parts if len(part) > 1]

    def sizes(self) -> dict[str, int]:
        return {"num_inputs": self.notes, "num_outputs": self.notes}

    def _batch(self, split: Split, rows: Array) -> SequenceBatch:
        pieces = [self._pieces[split][row] for row in rows]
        lengths = torch.tensor([len(piece) - 1 for piece in pieces])
        shape = (len(pieces), int(lengths.max()), self.notes)
        inputs, targets = torch.zeros(shape), torch.full(shape, torch.nan)
        for row, piece in enumerate(pieces):
            inputs[row, : len(piece) - 1] = torch.from_numpy(piece[:-1])
            targets[row, : len(piece) - 1] = torch.from_numpy(piece[1:])
        return SequenceBatch(inputs, targets, lengths)

    def _lengths(self, split: Split) -> Array:
        return np.array([len(piece) for piece in self._pieces[split]])

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        epoch, place = divmod(number, self._count())
        if self._batches[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._batches = (
                epoch, mixed_batches(self._lengths("train"), self.batch_size, random)
            )  # fmt: skip
        return self._batch("train", self._batches[1][place])

    def _count(self) -> int:
        # Each stretch of batches but the last is whole, and so is their number.
        return -(-len(self._pieces["train"]) // self.batch_size)

    def train_loader(self) -> DrawnLoader:
        return DrawnLoader(self.draw, self.batch_size, self._count())

    def valid_loader(self) -> Listed | None:
        return self._listed("valid")

    def test_loader(self) -> Listed | None:
        return self._listed("test")

    def _listed(self, split: Split) -> Listed | None:
        if not self._pieces.get(split):
            return None
        batches = sorted_batches(self._lengths(split), self.eval_batch_size)
        return Listed(partial(self._batch, split), batches, self.eval_batch_size)

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256(json.dumps([self.batch_size, self.seed, self.max_steps]).encode())
        for split in SPLITS:
            for piece in self._pieces.get(split, []):
                digest.update(np.int64(len(piece)).tobytes() + piece.astype(np.uint8).tobytes())
        lengths = [len(piece) for pieces in self._pieces.values() for piece in pieces]
        counts = {split: len(pieces) for split, pieces in self._pieces.items()}
        return {
            "summary": f"{self.path}: "
            + ", ".join(f"{n} {s}" for s, n in counts.items())
            + f" pieces of {min(lengths)} to {max(lengths)} steps, {self.notes} notes",
            "digest": digest.hexdigest(),
            "pieces": counts,
        }

    def baselines(self) -> dict[str, float]:
        """Validation loss of each note's frequency in training, and of each note after itself.

        Notes are independent in both: the second knows whether the same note sounded before.
        Counts begin at one half.
        """
        train, valid = self._pieces["train"], self._pieces.get("valid") or self._pieces["test"]
        after = np.concatenate([piece[1:] for piece in train])
        before = np.concatenate([piece[:-1] for piece in train]) > 0
        truth = np.concatenate([piece[1:] for piece in valid])
        known = np.concatenate([piece[:-1] for piece in valid]) > 0

        def share(counted: Array) -> Array:
            hits = np.where(counted, after, 0.0).sum(0) + 0.5
            chances: Array = hits / (counted.sum(0) + 1.0)
            return chances

        alone = np.broadcast_to(share(np.ones_like(before)), truth.shape)
        following = np.where(known, share(before), share(~before))
        return {
            "each note's frequency": _loss(alone, truth),
            "each note after itself": _loss(following, truth),
        }


def _loss(chances: Array, truth: Array) -> float:
    found = np.where(truth > 0, np.log(chances), np.log1p(-chances))
    return float(-found.sum(1).mean())


def read_piano_rolls(file: Path) -> dict[Split, list[Array]]:
    """Pieces (T, N) float32 of zeros and ones by split, "train" and one more at least.

    Raises:
        ValueError: what is wrong, and in which piece. OSError: the file cannot be read.
    """
    ending = file.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"{file}: expected {', '.join(ENDINGS)}, got {ending or 'no ending'}")
    if not file.is_file():
        raise FileNotFoundError(f"data.path={file}: there is no such file")
    found = {".mat": _of_mat, ".npz": _of_npz, ".json": _of_json}[ending](file)
    splits = {split: pieces for split, pieces in found.items() if pieces}
    if "train" not in splits or len(splits) < 2:
        raise ValueError(
            f"{file}: expected pieces for training and for validation or test, got "
            f"{', '.join(splits) or 'none'}"
        )
    notes = splits["train"][0][1].shape[-1] if splits["train"][0][1].ndim else 0
    return {
        split: [_checked(piece, notes, f"{file}, {place}") for place, piece in pieces]
        for split, pieces in splits.items()
    }


_Named = dict[Split, list[tuple[str, Array]]]


def _of_mat(file: Path) -> _Named:
    from scipy.io import loadmat

    with file.open("rb") as raw:
        try:
            content = loadmat(raw)
        except OSError as error:
            if error.strerror:
                raise
            raise ValueError(f"{file}: {error}") from None
        except Exception as error:  # a broken file shows in many ways
            raise ValueError(f"{file}: not a MATLAB file (up to version 7): {error}") from None
    found: _Named = {}
    for split, names in NAMES.items():
        for name in names:
            cells = content.get(name)
            if isinstance(cells, np.ndarray):
                found[split] = [(f"{name} {i}", np.asarray(p)) for i, p in enumerate(cells.flat)]
    return found


def _of_npz(file: Path) -> _Named:
    found: _Named = {}
    content = read_arrays(file)
    keys = sorted(content, key=lambda key: (len(key), key))
    for split, names in NAMES.items():
        own = [key for key in keys if key.rpartition("_")[0] in names or key in names]
        found[split] = [(key, content[key]) for key in own]
    return found


def _of_json(file: Path) -> _Named:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: expected an object with train, valid and test")
    found: _Named = {}
    for split, names in NAMES.items():
        for name in names:
            pieces = content.get(name) or []
            if not isinstance(pieces, list):
                raise ValueError(f"{file}, {name}: expected a list of pieces, got {pieces!r:.40}")
            for index, steps in enumerate(pieces):
                found.setdefault(split, []).append(
                    (f"{name} {index}", _roll(steps, f"{file}, {name} {index}"))
                )
    return found


def _roll(steps: Any, place: str) -> Array:
    """(T, 88) from lists of MIDI numbers."""
    if not isinstance(steps, list):
        raise ValueError(f"{place}: expected a list of steps, got {type(steps).__name__}")
    roll = np.zeros((len(steps), 88))
    for number, notes in enumerate(steps):
        for note in notes if isinstance(notes, list) else [notes]:
            whole = isinstance(note, int | float) and float(note).is_integer()
            if not whole or not LOWEST <= note < LOWEST + 88:
                raise ValueError(
                    f"{place}, step {number}: expected MIDI numbers from 21 to 108, got {note!r}"
                )
            roll[number, int(note) - LOWEST] = 1.0
    return roll


def _checked(piece: Array, notes: int, place: str) -> Array:
    if piece.ndim != 2 or piece.dtype.kind not in "fiub":
        raise ValueError(f"{place}: expected numbers (T, N), got {piece.shape} of {piece.dtype}")
    if piece.shape[1] != notes:
        raise ValueError(f"{place}: expected {notes} notes as in the first, got {piece.shape[1]}")
    if len(piece) < 2:
        raise ValueError(f"{place}: {len(piece)} step(s): there is nothing to predict")
    if not np.isin(piece, (0, 1)).all():
        raise ValueError(f"{place}: expected zeros and ones (a note sounds or not)")
    return np.ascontiguousarray(piece, np.float32)
