"""Images read pixel by pixel, with their class asked for at the end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from seqmodels.data.base import IGNORE, SPLITS, DataModule, SequenceBatch, Split
from seqmodels.data.images.files import Array, Images, read_images
from seqmodels.data.images.hub import read_hub
from seqmodels.data.synthetic.loaders import DrawnLoader
from seqmodels.data.vocabulary import Vocabulary

Order = Literal["pixels", "permuted", "rows"]


class PixelSequences(DataModule):
    """Image classification as a test of memory: pixel after pixel, and then: what was it?

        x_t: the pixel at step t, in [0, 1] (its 3 channels in colour); H · W steps
        target at the last step: the class

    Args:
        path: files; see `seqmodels.data.images.read_images`; None: scikit-learn's digits.
        name, config, image_column, label_column, cache_dir: a set of the hub instead; see
            `seqmodels.data.images.read_hub`.
        order: "pixels": one a step, row by row from the top; "permuted": the same in one random
            order for all images; "rows": a row a step, far easier and good as a first try.
        permutation_seed: of that order.
        valid, test: in (0, 1), shares of the training images that are kept for validation and the
            test where there are no such sets apart.
        batch_size: B of training; the last batch of an epoch may be smaller. Every epoch has a new
            order.
        eval_batch_size: does not change the results.
        limit: train on this many images only; None: on all.
        seed: of the order of the images. Which ones are kept apart does not depend on it.

    Raises:
        ValueError: a setting out of its range; by `setup`, also OSError: the images are not what
            they should be.

    Reference: Le, Jaitly & Hinton, "A simple way to initialize recurrent networks of rectified
    linear units", 2015, https://arxiv.org/abs/1504.00941, section 4.2 (sequential and permuted
    MNIST). Their permutation is not known; this one is a function of its seed.
    """

    targets = "classes"

    def __init__(
        self,
        path: str | None = None,
        *,
        name: str | None = None,
        config: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        cache_dir: str | None = None,
        order: Order = "pixels",
        permutation_seed: int = 92916,
        valid: float = 0.1,
        test: float = 0.1,
        batch_size: int = 50,
        eval_batch_size: int = 250,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        if order not in ("pixels", "permuted", "rows"):
            raise ValueError(f"data.order: expected pixels, permuted or rows, got {order!r}")
        if not (0 < valid < 1 and 0 < test < 1 and valid + test < 1):
            raise ValueError(
                "data.valid, data.test: expected shares in (0, 1) that leave something for "
                f"training, got {valid} and {test}"
            )
        for setting, value, least in (
            ("batch_size", batch_size, 1), ("eval_batch_size", eval_batch_size, 1),
            ("limit", 1 if limit is None else limit, 1), ("seed", seed, 0),
            ("permutation_seed", permutation_seed, 0),
        ):  # fmt: skip
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
        self.path, self.name = path, name
        self.config, self.cache_dir = config, cache_dir
        self.image_column, self.label_column = image_column, label_column
        self.order: Order = order
        self.permutation_seed = permutation_seed
        self.shares: dict[Split, float] = {"valid": valid, "test": test}
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.limit, self.seed = limit, seed
        self.shown = path or name or "scikit-learn's digits"
        self._pixels: dict[Split, Array] = {}  # (N, H, W, C) uint8
        self._labels: dict[Split, Array] = {}  # (N) int64
        self._mixed: tuple[int, Array] = (-1, np.empty(0, np.int64))

    def setup(self, vocabulary: Vocabulary | None = None) -> None:
        if vocabulary is not None:
            raise ValueError(
                f"the model reads text with a vocabulary of {len(vocabulary)} symbols, and these "
                "are images: they are not the data of that model"
            )
        read = self._read()
        labels = {split: self._classes(split, images) for split, images in read.items()}
        whole = read["train"]
        self.shape: tuple[int, ...] = whole.pixels.shape[1:]
        for split, images in read.items():
            if images.pixels.shape[1:] != self.shape:
                raise ValueError(
                    f"{self.shown}: the {split} images are {images.pixels.shape[1:]} and those of "
                    f"training {self.shape} (height, width, channels): expected one size"
                )
        self.top = max(images.top for images in read.values())
        # Those of training are mixed, and what has no set apart is cut from their start.
        rest = np.random.default_rng(0).permutation(len(whole.pixels))
        for split, share in self.shares.items():
            if split in read:
                self._pixels[split], self._labels[split] = read[split].pixels, labels[split]
                continue
            count = max(1, round(share * len(whole.pixels)))
            kept, rest = rest[:count], rest[count:]
            self._pixels[split], self._labels[split] = whole.pixels[kept], labels["train"][kept]
        if len(rest) == 0:
            raise ValueError(
                f"{self.shown}: {len(whole.pixels)} images are too few for training, validation "
                "and test"
            )
        rest = rest[: self.limit]
        self._pixels["train"], self._labels["train"] = whole.pixels[rest], labels["train"][rest]
        self.classes = int(max(each.max() for each in labels.values())) + 1
        if self.classes < 2 or len(np.unique(labels["train"])) < 2:
            raise ValueError(f"{self.shown}: all training images have the same class")
        self.class_names = [str(number) for number in range(self.classes)]
        height, width, _ = self.shape
        self._permutation = np.random.default_rng(self.permutation_seed).permutation(height * width)

    def _read(self) -> dict[Split, Images]:
        if self.name is None:
            return read_images(self.path)
        return read_hub(
            self.name,
            self.config,
            image_column=self.image_column,
            label_column=self.label_column,
            cache_dir=self.cache_dir,
        )

    def _classes(self, split: Split, images: Images) -> Array:
        if images.labels is None:
            raise ValueError(
                f"{self.shown}: the {split} images have no labels, and their class is asked for"
            )
        return images.labels

    def sizes(self) -> dict[str, int]:
        _, width, channels = self.shape
        per_step = width * channels if self.order == "rows" else channels
        return {"num_inputs": per_step, "num_outputs": self.classes}

    def _batch(self, split: Split, rows: Array) -> SequenceBatch:
        height, width, channels = self.shape
        values = self._pixels[split][rows].astype(np.float32) / self.top  # (B, H, W, C)
        if self.order == "rows":
            values = values.reshape(len(rows), height, width * channels)
        else:
            values = values.reshape(len(rows), height * width, channels)
        if self.order == "permuted":
            values = values[:, self._permutation]
        targets = np.full(values.shape[:2], IGNORE, np.int64)
        targets[:, -1] = self._labels[split][rows]
        return SequenceBatch(torch.from_numpy(values), torch.from_numpy(targets))

    def draw(self, number: int) -> SequenceBatch:
        """The training batch of this number."""
        epoch, place = divmod(number, self._count("train", self.batch_size))
        if self._mixed[0] != epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._mixed = (epoch, random.permutation(len(self._labels["train"])))
        rows = self._mixed[1][place * self.batch_size : (place + 1) * self.batch_size]
        return self._batch("train", rows)

    def _count(self, split: Split, batch_size: int) -> int:
        return -(-len(self._labels[split]) // batch_size)

    def train_loader(self) -> DrawnLoader:
        return DrawnLoader(self.draw, self.batch_size, self._count("train", self.batch_size))

    def valid_loader(self) -> InOrder:
        return self._in_order("valid")

    def test_loader(self) -> InOrder:
        return self._in_order("test")

    def _in_order(self, split: Split) -> InOrder:
        return InOrder(partial(self._batch, split), len(self._labels[split]), self.eval_batch_size)

    def describe(self) -> dict[str, Any]:
        settings = [self.order, self.permutation_seed, self.batch_size, self.seed]
        digest = hashlib.sha256(json.dumps(settings).encode())
        for split in SPLITS:
            digest.update(self._pixels[split].tobytes())
            digest.update(self._labels[split].tobytes())
        counts = {split: len(self._labels[split]) for split in SPLITS}
        height, width, channels = self.shape
        steps = height if self.order == "rows" else height * width
        size = f"{height} × {width}" + (" in colour" if channels == 3 else "")
        return {
            "summary": f"{self.shown}: {size}, {self.order}, {steps} steps, {self.classes} "
            "classes; " + ", ".join(f"{n:,} {s}" for s, n in counts.items()),
            "digest": digest.hexdigest(),
            "images": counts,
            "shape": list(self.shape),
            "classes": self.classes,
        }

    def baselines(self) -> dict[str, float]:
        """Cross-entropy of the classes' shares in training (each counted once more)."""
        counts = np.bincount(self._labels["train"], minlength=self.classes) + 1
        losses = -np.log(counts / counts.sum())
        return {"the classes' shares": float(losses[self._labels["valid"]].mean())}


class InOrder:
    """Batches of items 0, 1, 2, … N − 1, the same at every pass; each is made when it is due.

    Args:
        make: called with the numbers of the items of a batch.
        count: N ≥ 1.
        batch_size: B; the last batch may have fewer.
    """

    def __init__(self, make: Callable[[Array], SequenceBatch], count: int, batch_size: int) -> None:
        self.make, self.count, self.batch_size = make, count, batch_size

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def __iter__(self) -> Iterator[SequenceBatch]:
        for start in range(0, self.count, self.batch_size):
            yield self.make(np.arange(start, min(start + self.batch_size, self.count)))
