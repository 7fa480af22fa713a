"""Images of few or many levels, in batches, for models that say how probable an image is."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import numpy as np
import torch

from seqmodels.data.base import IGNORE, SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.images.files import Array, Images, read_images
from seqmodels.data.pixels.baselines import (
    first_order_markov,
    logistic_regression,
    per_pixel_histogram,
)
from seqmodels.data.pixels.built_in import BuiltIn, read_built_in
from seqmodels.data.synthetic.loaders import DrawnLoader, FixedLoader
from seqmodels.data.vocabulary import Vocabulary

Binarisation = Literal["none", "threshold", "static", "dynamic"]
BINARISATIONS = ("none", "threshold", "static", "dynamic")
FOR_BASELINES = 20_000  # images at most


class PixelImages(DataModule):
    """Images whose probability is asked for.

    A batch holds the images (B, C, R, W) int64 as `inputs`, levels from 0 to L − 1, and their
    classes (B,) int64 as `targets`, IGNORE where there are none.

    Args:
        path: files; see `seqmodels.data.images.read_images`.
        name, config, image_column, label_column, cache_dir: a set of the hub instead; see
            `seqmodels.data.images.read_hub`.
        built_in: where neither is given; see `seqmodels.data.pixels.built_in.read_built_in`.
        patch: side of the squares of built_in=photographs.
        levels: L, 2 to 256, to which the levels of the images are taken together, a whole number at
            a time; None: as many as they have.
        binarisation: "none"; "threshold": 1 above half of the greatest value; "static": every
            pixel is drawn once, 1 with its brightness as probability; "dynamic": the training
            images are drawn anew in each epoch, those of validation and test once. These are three
            different problems, whose likelihoods cannot be compared.
        binarisation_seed: of the pixels that are drawn once.
        valid, test: in (0, 1), shares of the training images that are kept for validation and the
            test where there are no such sets apart.
        batch_size: B of training; the last batch of an epoch may be smaller. Every epoch has a new
            order.
        eval_batch_size: does not change the results.
        limit: train on this many images only; None: on all.
        seed: of the order of the images, and of dynamic binarisation.

    Raises:
        ValueError: a setting out of its range; by `setup`, also OSError: the images are not what
            they should be.

    References: static binarisation: Salakhutdinov & Murray, "On the quantitative analysis of deep
    belief networks", ICML 2008; with another draw than theirs, which is not a function of a seed.
    """

    loss_unit = "nats per value"

    def __init__(
        self,
        path: str | None = None,
        *,
        name: str | None = None,
        config: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        cache_dir: str | None = None,
        built_in: BuiltIn = "digits",
        patch: int = 8,
        levels: int | None = None,
        binarisation: Binarisation = "none",
        binarisation_seed: int = 0,
        valid: float = 0.1,
        test: float = 0.1,
        batch_size: int = 16,
        eval_batch_size: int = 100,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        if binarisation not in BINARISATIONS:
            raise ValueError(
                f"data.binarisation: expected one of {', '.join(BINARISATIONS)}, "
                f"got {binarisation!r}"
            )
        if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
            raise ValueError(
                "data.valid, data.test: expected shares in (0, 1) that leave something for "
                f"training, got {valid} and {test}"
            )
        for setting, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("limit", 1 if limit is None else limit, 1),
            ("levels", 2 if levels is None else levels, 2),
            ("seed", seed, 0),
            ("binarisation_seed", binarisation_seed, 0),
        ):
            if value < least:
                raise ValueError(f"data.{setting} must be >= {least}, got {value}")
        if path is not None and name is not None:
            raise ValueError(
                f"data.path={path} and data.name={name}: give one of them, files or a set of the "
                "hub"
            )
        of_hub = {"config": config, "image_column": image_column, "label_column": label_column}
        for setting, given in of_hub.items():
            if name is None and given is not None:
                raise ValueError(f"data.{setting} is of a set of the hub, which data.name=NAME is")
        if binarisation != "none" and levels not in (None, 2):
            raise ValueError(
                f"data.binarisation={binarisation} leaves 2 levels, and data.levels is {levels}"
            )
        self.path, self.name, self.config = path, name, config
        self.image_column, self.label_column = image_column, label_column
        self.cache_dir = cache_dir
        self.built_in, self.patch = built_in, patch
        self.wanted_levels = levels
        self.binarisation: Binarisation = binarisation
        self.binarisation_seed = binarisation_seed
        self.shares: dict[Split, float] = {"valid": valid, "test": test}
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.limit, self.seed = limit, seed
        self.shown = path or name or built_in
        self._images: dict[Split, Array] = {}  # (N, C, R, W) uint8
        self._labels: dict[Split, Array] = {}  # (N,) int64
        self._epoch: tuple[int, Array, Array] | None = None

    # --- reading ------------------------------------------------------------------------------

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None:
            raise ValueError(
                f"the model reads text with a vocabulary of {len(vocabulary)} symbols, and these "
                "are images: they are not the data of that model"
            )
        read = self._read()
        whole = read["train"]
        for split, images in read.items():
            if images.pixels.shape[1:] != whole.pixels.shape[1:]:
                raise ValueError(
                    f"{self.shown}: the {split} images are {images.pixels.shape[1:]} and those of "
                    f"training {whole.pixels.shape[1:]} (height, width, channels): expected one "
                    "size"
                )
        self.top = max(images.top for images in read.values())
        self.classes = 0
        if all(images.labels is not None for images in read.values()):
            self.classes = 1 + max(int(_labels(images).max()) for images in read.values())
        rest = np.random.default_rng(0).permutation(len(whole.pixels))
        for split, share in self.shares.items():
            if split in read:
                kept, source = np.arange(len(read[split].pixels)), read[split]
            else:
                count = max(1, round(share * len(whole.pixels)))
                kept, rest = rest[:count], rest[count:]
                source = whole
            self._take(split, source, kept)
        if len(rest) == 0:
            raise ValueError(
                f"{self.shown}: {len(whole.pixels)} images are too few for training, validation "
                "and test"
            )
        self._take("train", whole, rest[: self.limit])

    def _read(self) -> dict[Split, Images]:
        if self.path is not None:
            return read_images(self.path)
        if self.name is None:
            return {"train": read_built_in(self.built_in, self.patch)}
        from seqmodels.data.images.hub import read_hub

        return read_hub(
            self.name,
            self.config,
            image_column=self.image_column,
            label_column=self.label_column,
            cache_dir=self.cache_dir,
            classes=False,
        )

    def _take(self, split: Split, source: Images, rows: Array) -> None:
        images = np.moveaxis(source.pixels[rows], -1, 1)  # (N, C, R, W)
        self._labels[split] = (
            np.full(len(rows), IGNORE, np.int64) if not self.classes else _labels(source)[rows]
        )
        if self.binarisation == "dynamic" and split == "train":
            self._images[split] = np.ascontiguousarray(images)  # drawn when they are due
            return
        random = np.random.default_rng([self.binarisation_seed, SPLITS.index(split)])
        self._images[split] = self.to_levels(images, random)

    def to_levels(self, pixels: Array, random: np.random.Generator) -> Array:
        """Pixels from 0 to `top` as levels of this data, uint8."""
        if self.binarisation == "threshold":
            return (2 * pixels.astype(np.int64) > self.top).astype(np.uint8)
        if self.binarisation != "none":
            # In pieces: as many random numbers as all pixels would take much memory.
            parts = [
                (random.random(part.shape, np.float32) * self.top < part).astype(np.uint8)
                for part in np.array_split(pixels, 1 + len(pixels) // 5000)
            ]
            return np.concatenate(parts)
        levels, own = self.levels, self.top + 1
        if own % levels:
            raise ValueError(
                f"data.levels={levels}: the images have {own} levels, which cannot be taken "
                f"together to {levels}; choose a divisor of {own}"
            )
        joined: Array = pixels // np.uint8(own // levels) if levels < own else pixels
        return np.ascontiguousarray(joined)

    @property
    def levels(self) -> int:
        """L."""
        if self.binarisation != "none":
            return 2
        return self.top + 1 if self.wanted_levels is None else self.wanted_levels

    @property
    def levels_shown(self) -> str:
        """How the levels came about: numbers of images binarised otherwise cannot be compared."""
        if self.binarisation == "none":
            return f"{self.levels} levels"
        if self.binarisation == "threshold":
            return f"black and white at {self.top / 2:g} of {self.top}"
        return f"{self.binarisation} binarisation, seed {self.binarisation_seed}"

    # --- what a data module offers ------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, R, W."""
        channels, height, width = self._images["train"].shape[1:]
        return channels, height, width

    def sizes(self) -> dict[str, int]:
        channels, height, width = self.shape
        return {
            "channels": channels,
            "height": height,
            "width": width,
            "levels": self.levels,
            "num_classes": self.classes,
        }

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        epoch, place = divmod(number, self._batches())
        if self._epoch is None or self._epoch[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(len(self._images["train"]))
            images = self._images["train"]
            if self.binarisation == "dynamic":
                images = self.to_levels(images, random)
            self._epoch = (epoch, order, images)
        _, order, images = self._epoch
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return _batch(images[rows], self._labels["train"][rows])

    def _batches(self) -> int:
        return -(-len(self._images["train"]) // self.batch_size)

    def train_loader(self) -> DrawnLoader:
        return DrawnLoader(self.draw, self.batch_size, self._batches())

    def valid_loader(self) -> FixedLoader:
        return self._fixed("valid")

    def test_loader(self) -> FixedLoader:
        return self._fixed("test")

    def _fixed(self, split: Split) -> FixedLoader:
        whole = _batch(self._images[split], self._labels[split])
        return FixedLoader([whole], self.eval_batch_size)

    def describe(self) -> dict[str, Any]:
        digest = hashlib.sha256(
            json.dumps([self.binarisation, self.batch_size, self.seed]).encode()
        )
        for split in SPLITS:
            digest.update(self._images[split].tobytes())
            digest.update(self._labels[split].tobytes())
        counts = {split: len(self._images[split]) for split in SPLITS}
        channels, height, width = self.shape
        kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        return {
            "summary": f"{self.shown}: {height} × {width}, {kind}, {self.levels_shown}; "
            + ", ".join(f"{n:,} {s}" for s, n in counts.items()),
            "digest": digest.hexdigest(),
            "images": counts,
            "sizes": self.sizes(),
            "top": self.top,
            "binarisation": self.levels_shown,
        }

    def baselines(self) -> dict[str, float]:
        """Nats per value on the validation images."""
        train, valid = self._images["train"][:FOR_BASELINES], self._images["valid"]
        if self.binarisation == "dynamic":
            train = self.to_levels(train, np.random.default_rng(self.seed))
        found = {
            "per-pixel histogram": per_pixel_histogram(train, valid, self.levels),
            "first-order Markov": first_order_markov(train, valid, self.levels),
        }
        regression = logistic_regression(train, valid, self.levels)
        if regression is not None:
            found["logistic regression on earlier pixels"] = regression
        return found


def _labels(images: Images) -> Array:
    assert images.labels is not None
    return images.labels


def _batch(images: Array, labels: Array) -> SequenceBatch:
    return SequenceBatch(
        torch.from_numpy(images.astype(np.int64)), torch.from_numpy(labels.astype(np.int64))
    )
