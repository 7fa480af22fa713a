"""Damage data files at random, and see that a training either reads them or refuses them.

    python benchmarks/fuzz_data.py 600 [--seed 0] [--format idx] [--show]

Files of every kind that data can come from (text, CSV, TSV, JSON lines, Parquet, idx, NPY, NPZ,
MAT, PNG, JPEG, BMP, GIF, word vectors; packed with gzip too) are cut off, have bits turned, bytes
put in, taken out or repeated, headers overwritten with other magic numbers and sizes, or get
content of another kind: NUL bytes, invalid UTF-8, ragged rows, numbers that are none, pickled
objects that write a file when they are loaded. Each goes to `seqmodels train` in a forked process
with bounded memory, as far as the first training step. Right is: it is read (status 0), or status 2
with one message and nothing left behind; never a traceback, never a pickle's code. Status 0: all
were right.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import pickle
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forked import Case, Outcome, report, run_forked
from seqmodels.cli import main as seqmodels

WORDS = "the quick brown fox jumps over a lazy dog and sleeps on"
LINES = [f"{WORDS} {n % 7}" for n in range(80)]
NOTE = "opened"  # what a pickle writes when it is loaded


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (NOTE, "w")


def saved(write: Callable[..., Any], *arguments: Any, **more: Any) -> bytes:
    """What `write` puts into a file."""
    buffer = io.BytesIO()
    write(buffer, *arguments, **more)
    return buffer.getvalue()


def picture(ending: str, number: int) -> bytes:
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return saved(Image.fromarray(pixels).save, format=ending)


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


@cache
def formats() -> dict[str, tuple[dict[str, bytes], tuple[str, ...]]]:
    """By name: the whole files, and the words that train on them."""
    import pyarrow
    from pyarrow import parquet
    from scipy.io import savemat

    draw = np.random.default_rng(0)
    text = "\n".join(LINES).encode()
    rows = [(line, "ab"[n % 2]) for n, line in enumerate(LINES)]
    csv = "text,label\n" + "".join(f'"{a}",{b}\n' for a, b in rows)
    table = pyarrow.table({"text": [a for a, _ in rows], "label": [b for _, b in rows]})
    numbers = draw.normal(size=(400, 2))
    images, labels = draw.integers(0, 255, (60, 8, 8)), np.arange(60) % 3
    rolls = {
        s: [draw.integers(0, 2, (9, 88)) for _ in range(3)] for s in ("train", "valid", "test")
    }
    cells = {
        f"{name}data": np.array([*own, None], dtype=object)[:-1] for name, own in rolls.items()
    }
    notes = {s: [[[60, 64], [62]] * 5] * 3 for s in rolls}
    series = "".join(f"{n % 2}\t" + "\t".join(f"{v:.3f}" for v in numbers[n : n + 12, 0]) + "\n"
                     for n in range(60))  # fmt: skip
    lm = ("data.batch_size=4", "data.seq_len=8", "data.eval_batch_size=2")
    real = ("model=prediction_real",)
    own_series = (*real, "data=series", "task=regression", "data.window=20", "data.washout=5")
    classes = (*real, "data=series_classification", "task=classification")
    texts = ("model=classifier", "data=text_classification", "task=classification")
    pixels = (*real, "data=images", "task=classification")
    probable = ("experiment=pixelrnn_digits", "model.layers.num_layers=1")
    pairs = ("model=seq2seq", "data=parallel_text", "task=seq2seq")
    notes_task = (*real, "data=piano_roll", "task=notes")
    folder = "data.path=."
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    return {
        "text": ({"a.txt": text}, (*lm, "data.path=a.txt")),
        "words": ({"a.txt.gz": gzip.compress(text)},
                  (*lm, "data.level=word", "data.path=a.txt.gz")),
        "csv": ({"a.csv": csv.encode()}, (*texts, "data.path=a.csv")),
        "tsv.gz": ({"a.tsv.gz": gzip.compress(csv.replace('"', "").replace(",", "\t").encode())},
                   (*texts, "data.path=a.tsv.gz")),
        "jsonl": ({"a.jsonl": "".join(json.dumps({"text": a, "label": b}) + "\n"
                                      for a, b in rows).encode()},
                  (*texts, "data.path=a.jsonl")),
        "parquet": ({"a.parquet": saved(lambda f: parquet.write_table(table, f))},
                    (*texts, "data.path=a.parquet")),
        "hub_jsonl": ({"a.jsonl": "".join(json.dumps({"text": a}) + "\n" for a in LINES).encode()},
                      (*lm, "data=hub_text", "data.data_files=a.jsonl", "data.cache_dir=cache")),
        "vectors": ({"a.csv": csv.encode(),
                     "v.txt": "".join(f"{w} 0.1 0.2 -0.3 1\n" for w in WORDS.split()).encode()},
                    (*texts, "data.path=a.csv", "data.vectors=v.txt", "model.inputs.size=4")),
        "series.csv": ({"a.csv": saved(np.savetxt, numbers, delimiter=",")},
                       (*own_series, "data.path=a.csv")),
        "series.npy": ({"a.npy": saved(np.save, numbers)}, (*own_series, "data.path=a.npy")),
        "series.npz": ({"a.npz": saved(np.savez, a=numbers)}, (*own_series, "data.path=a.npz")),
        "ucr": ({"a.tsv": series.encode()}, (*classes, "data.path=a.tsv")),
        "ucr.npz": ({"a.npz": saved(np.savez, x=numbers[:60], y=labels)},
                    (*classes, "data.path=a.npz")),
        "idx": ({"train-images-idx3-ubyte": idx(images), "train-labels-idx1-ubyte": idx(labels)},
                (*pixels, folder)),
        "idx.gz": ({"train-images-idx3-ubyte.gz": gzip.compress(idx(images)),
                    "train-labels-idx1-ubyte.gz": gzip.compress(idx(labels))}, (*pixels, folder)),
        "images.npz": ({"a.npz": saved(np.savez_compressed, **arrays)},
                       (*pixels, "data.path=a.npz")),
        "images.npy": ({"a.npy": saved(np.save, images // 128)}, (*probable, "data.path=a.npy")),
        "pairs": ({"a.tsv": b"".join(b"a b %d\tb a %d\n" % (n % 9, n % 9) for n in range(60))},
                  (*pairs, "data.path=a.tsv")),
        "mat": ({"a.mat": saved(savemat, cells)}, (*notes_task, "data.path=a.mat")),
        "rolls.npz": ({"a.npz": saved(np.savez, **{
                          f"{s}_{n}": r for s, own in rolls.items() for n, r in enumerate(own)})},
                      (*notes_task, "data.path=a.npz")),
        "rolls.json": ({"a.json": json.dumps(notes).encode()}, (*notes_task, "data.path=a.json")),
        **{
            ending: ({f"{'ab'[n % 2]}/{n}.{ending}": picture(ending, n) for n in range(20)},
                     (*pixels, folder))
            for ending in ("png", "jpeg", "bmp", "gif")
        },
    }  # fmt: skip


SMALL = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none",
         "num_threads=1")  # fmt: skip
STRANGE = (
    b"", b"\x00", b"\x00" * 5000, b"\xff\xfe" * 40, b"\xef\xbb\xbf", b"\n" * 50, b" \t \n" * 9,
    b"[", b"[" * 100_000, b"{}", b"null", b"1,2\n3\n4,5,6\n", b'"', b'text,label\n"a,b\n',
    b"a\tb\tc", b"\x89HDF\r\n\x1a\n" + b"\x00" * 99,
    b"nan,inf\n-inf,nan\n" * 40, b"1e400,2\n" * 40, b"1,2\n" * 3, b"9" * 5000, b"-" * 300,
    "text,label\n\ud7ff\U0010ffff,\u2028\n".encode() * 20, b"text,label\n,\n", b"text,text\na,b\n",
    b'{"text": 3, "label": []}\n' * 20, b'{"train": [[[1e9]]], "test": 3}', b'{"train": [[[]]]}',
    b'{"train": [[[-5, 300, 60.5]]], "valid": [], "test": [[]]}', b"PK\x03\x04" + b"\x00" * 60,
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }",
    b"\x93NUMPY\x09\x09", b"\x1f\x8b\x08\x00", b"\x00\x00\x08\x03\xff\xff\xff\xff" * 3,
    b"\x00\x00\x0d\x01\x00\x00\x00\x01\x00\x00\x00\x00", b"MATLAB 5.0 MAT-file" + b" " * 200,
    b"PAR1\x00\x00\x00\x00PAR1", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0",
    b"GIF89a\xff\xff\xff\xff", b"BM" + b"\xff" * 60,
)  # fmt: skip


def pickled(name: str) -> bytes | None:
    """A file of this name with an object that must not be made; None where there is no such way."""
    trap = np.array([Trap()], dtype=object)
    if ".npz" in name:
        return saved(np.savez, x=trap, y=trap, images=trap, x_train=trap, train_0=trap)
    if ".npy" in name:
        return saved(np.save, trap, allow_pickle=True)
    return pickle.dumps(Trap()) if "json" in name or ".mat" in name else None


def damage(draw: random.Random, raw: bytes, name: str) -> tuple[str, bytes]:
    """One way to damage it, and the content."""
    kind = draw.choice(("cut", "bits", "bits", "put in", "taken out", "repeated", "head", "head",
                        "strange", "strange", "packed", "pickled", "numbers"))  # fmt: skip
    at = draw.randrange(len(raw))
    some = draw.randbytes(draw.choice((1, 2, 7, 64)))
    if kind == "cut":
        return kind, raw[: draw.choice((at, 1, 3, len(raw) - 1, len(raw) // 2))]
    if kind == "bits":
        changed = bytearray(raw)
        for _ in range(draw.choice((1, 3, 20))):
            changed[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        return kind, bytes(changed)
    if kind == "put in":
        odd = draw.choice((some, b"\x00", b"\xff\xfe", b"\n", b",", b"\t", b'"', b"\r", b"nan"))
        return kind, raw[:at] + odd + raw[at:]
    if kind == "taken out":
        return kind, raw[:at] + raw[at + draw.choice((1, 5, 200)) :]
    if kind == "repeated":
        return kind, raw[: at + 20] + raw[at:]
    if kind == "head":  # magic numbers and sizes
        size = min(len(raw), draw.choice((4, 8, 30, 128)))
        spot = draw.randrange(size)
        value = draw.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff", some))
        return kind, raw[:spot] + value + raw[spot + len(value) :]
    if kind == "packed":  # a damaged archive, or one where a plain file should be
        whole = gzip.compress(raw)
        return kind, whole[: draw.randrange(len(whole))] if draw.random() < 0.5 else whole
    if kind == "numbers":
        return kind, raw.replace(
            draw.choice((b"1", b"0", b"a", b".")),
            draw.choice((b"nan", b"1e999", b"", b"-", b"\x00")),
        )
    made = pickled(name) if kind == "pickled" else None
    return ("strange", draw.choice(STRANGE)) if made is None else (kind, made)


def generate(seed: int, count: int, only: Sequence[str] = ()) -> Iterator[Case]:
    """So many damaged inputs, the formats in turn; a function of the seed."""
    draw = random.Random(seed)
    names = list(only) or list(formats())
    for number in range(count):
        name = names[number % len(names)]
        files, _ = formats()[name]
        damaged = draw.choice(sorted(files))
        kind, content = damage(draw, files[damaged], damaged)
        argv = ("train", *words_of(name))
        yield Case(f"{name}, {damaged}: {kind}", argv, {**files, damaged: content})


def until_the_first_step(argv: list[str]) -> int:
    """As the command, without training."""
    from seqmodels.commands.one_run import Run

    Run.execute = lambda self: 0  # type: ignore[method-assign]
    return seqmodels(argv)


def compose_once() -> None:
    """Each command line is composed and checked here, not in every process that is forked."""
    from seqmodels.commands import train
    from seqmodels.config import check

    known = {words: train.compose("train", words) for words in map(words_of, formats())}
    for cfg in known.values():
        check(cfg)
    train.compose = lambda name, words, folders: known[tuple(words)]


def words_of(name: str) -> tuple[str, ...]:
    """What is said to train on this format."""
    return (*formats()[name][1], *SMALL)


def whole(only: Sequence[str]) -> Iterator[Case]:
    """The files as they are, which must be read."""
    for name in only or formats():
        yield Case(name, ("train", *words_of(name)), formats()[name][0])


def complaints(outcome: Outcome) -> list[str]:
    """Why this was neither reading nor refusing; empty where it was one."""
    if outcome.status == 0 and "Traceback" not in outcome.err:
        return [f"left {each}" for each in outcome.left if each == NOTE]
    left = [each for each in outcome.left if not each.startswith("cache")]
    return Outcome(outcome.status, outcome.out, outcome.err, left, outcome.seconds).complaints()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", type=int, nargs="?", default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=tuple(formats()), action="append", default=[])
    parser.add_argument("--show", action="store_true", help="every message")
    options = parser.parse_args()
    torch.set_num_threads(1)
    import datasets  # noqa: F401 - before the forks
    import sklearn.linear_model  # noqa: F401

    from seqmodels.commands import building  # noqa: F401

    compose_once()
    bad = read = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seqmodels-fuzz-") as place:
        for number, case in enumerate(whole(options.format)):
            outcome = run_forked(case, Path(place) / f"whole{number}", call=until_the_first_step)
            if outcome.status != 0:
                print(f"{case.kind} is not read as it is: {outcome.err}")
                return 1
        for number, case in enumerate(generate(options.seed, options.cases, options.format)):
            outcome = run_forked(case, Path(place) / f"case{number}", call=until_the_first_step)
            read += outcome.status == 0
            bad += report([(case, outcome)], options.show, complaints)
    print(
        f"{options.cases} damaged inputs of {len(options.format or formats())} formats: {read} "
        f"were read, {options.cases - read - bad} refused properly, {bad} neither; "
        f"{time.monotonic() - began:.0f} s"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
