"""Where text comes from: files, folders, archives, the running Python's own library."""

from __future__ import annotations

import glob
import gzip
import hashlib
import re
import sysconfig
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqmodels.data.base import SPLITS, Split

SPLIT_NAMES: dict[Split, str] = {"train": "train", "valid": "valid|val|dev", "test": "test"}


@dataclass(frozen=True)
class Source:
    """Text as it was read: one whole to be cut ("all"), or one text for each split."""

    texts: dict[str, str]
    files: list[str]
    digest: str  # SHA-256 of the bytes of all files, in order


def read_source(path: str | None, *, max_chars: int | None = None) -> Source:
    """Reads a file, all files of a glob pattern, or a folder with a file for each split.

    Args:
        path: None: the source code of the Python standard library that is running.
        max_chars: only so many characters from the start of each text.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: empty, not UTF-8, a damaged archive, an unclear folder.
    """
    groups = _locate(path)
    digest = hashlib.sha256()
    texts: dict[str, str] = {}
    for name, files in groups.items():
        parts = []
        for file in files:
            raw = _read_bytes(file)
            digest.update(raw)
            parts.append(_decode(raw, file))
        text = "".join(parts)
        if not text:
            raise ValueError(f"{files[0]} is empty: give a file with text")
        texts[name] = text if max_chars is None else text[:max_chars]
    names = [str(file) for files in groups.values() for file in files]
    if path is None:
        names = [f"Python {sysconfig.get_python_version()} standard library, {len(names)} modules"]
    return Source(texts, names, digest.hexdigest())


def _locate(path: str | None) -> dict[str, list[Path]]:
    if path is None:
        return {"all": standard_library()}
    place = Path(path).expanduser()
    if place.is_dir():
        return {split: [file] for split, file in split_files(place).items()}
    if place.exists():
        return {"all": [place]}
    if any(sign in path for sign in "*?["):
        found = [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]  # noqa: PTH207
        files = [file for file in found if file.is_file()]
        if not files:
            raise FileNotFoundError(f"data.path={path}: no file matches this pattern")
        return {"all": files}
    raise FileNotFoundError(f"data.path={path}: there is no such file or folder")


def standard_library() -> list[Path]:
    """The modules at the top of the standard library, in the order of their names."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    if not files:
        raise FileNotFoundError(
            f"the standard library has no source files in {folder}: give a text with data.path=FILE"
        )
    return files


def split_files(folder: Path) -> dict[Split, Path]:
    """The files of a folder that are named after the splits, such as ptb.train.txt or valid.gz."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    found: dict[Split, Path] = {}
    for split in SPLITS:
        pattern = rf"(?:^|[._-])(?:{SPLIT_NAMES[split]})(?:[._-]|$)"
        matching = [file for file in files if re.search(pattern, file.name, re.IGNORECASE)]
        if len(matching) > 1:
            names = ", ".join(file.name for file in matching)
            raise ValueError(f"data.path={folder}: several files for the {split} split: {names}")
        if matching:
            found[split] = matching[0]
    if "train" not in found:
        shown = ", ".join(file.name for file in files[:5]) or "nothing"
        raise ValueError(
            f"data.path={folder}: expected files named after their split, such as train.txt, "
            f"valid.txt and test.txt (also .gz); the folder holds {shown}. To read every file as "
            f"one text write data.path='{folder}/*.txt'"
        )
    return found


def _read_bytes(file: Path) -> bytes:
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as archive:
                return archive.read()
        return file.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is not a whole gzip archive: {error}") from None


def _decode(raw: bytes, file: Path) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x} ({error.reason}); "
            "convert it, for instance with iconv -t UTF-8"
        ) from None
    # As Python's text mode reads it: one kind of line break.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def cut(length: int, fractions: Sequence[float]) -> list[slice]:
    """Slices of `length` tokens at exact fractions: train first, the rest after it."""
    if len(fractions) != 3 or min(fractions) < 0 or not abs(sum(fractions) - 1.0) < 1e-6:
        raise ValueError(
            "data.split: expected three fractions (train, valid, test) >= 0 that add up to 1, "
            f"got {list(fractions)}"
        )
    if fractions[0] == 0:
        raise ValueError("data.split: the training fraction must be above 0")
    # Rounded first, or 0.9 * 10 would be 8 on account of binary fractions.
    first = int(round(fractions[0] * length, 6))
    second = length if fractions[2] == 0 else int(round((fractions[0] + fractions[1]) * length, 6))
    return [slice(0, first), slice(first, second), slice(second, length)]
