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

SPLIT_NAMES: dict[Split, str] = {
    "train": "train",
    "valid": "valid|validation|val|dev",
    "test": "test",
}
WILDCARDS = "*?["


@dataclass(frozen=True)
class Source:
    """Text as it was read.

    Attributes:
        texts: one text for each split, "train" among them; or "all", one to be cut into the three;
            or "train+valid", one to be cut into those two, beside "test".
        places: what to call each of the texts when something is wrong with it.
        files: where it comes from, for the record.
        digest: SHA-256 of all of it, in order.
    """

    texts: dict[str, str]
    places: dict[str, str]
    files: list[str]
    digest: str


def read_source(path: str | None, *, max_chars: int | None = None) -> Source:
    """Reads a file, all files of a glob pattern, or a folder with a file for each split.

    The digest is that of the files' bytes, of `.gz` files unpacked: packing a file changes nothing.

    Args:
        path: None: the source code of the Python standard library that is running.
        max_chars: only so many characters from the start of each text.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: nothing but white space, not UTF-8, a damaged archive, an unclear folder.
    """
    groups = _locate(path)
    digest = hashlib.sha256()
    texts: dict[str, str] = {}
    places: dict[str, str] = {}
    for name, files in groups.items():
        parts = []
        for file in files:
            raw = _read_bytes(file)
            digest.update(raw)
            parts.append(_decode(raw, file))
        text = join_texts(parts)
        if not text or text.isspace():
            what = f"{files[0]} is" if len(files) == 1 else f"the {len(files)} files of {path} are"
            how = "empty" if not text else "nothing but white space"
            raise ValueError(f"{what} {how}: give a file with text")
        texts[name] = text if max_chars is None else text[:max_chars]
        places[name] = shown_files([str(file) for file in files])
    names = [str(file) for files in groups.values() for file in files]
    if path is None:
        names = [f"Python {sysconfig.get_python_version()} standard library, {len(names)} modules"]
        places = {"all": names[0]}
    return Source(texts, places, names, digest.hexdigest())


def shown_files(files: Sequence[str]) -> str:
    """One file, or how many and the first of them."""
    return files[0] if len(files) == 1 else f"{len(files)} files from {files[0]} on"


def join_texts(parts: Sequence[str]) -> str:
    """One text of several: where one does not end its last line, a line break comes between."""
    last = len(parts) - 1
    ends = ["\n" if i < last and part and part[-1] != "\n" else "" for i, part in enumerate(parts)]
    return "".join(piece for pair in zip(parts, ends, strict=True) for piece in pair)


def _locate(path: str | None) -> dict[str, list[Path]]:
    if path is None:
        return {"all": standard_library()}
    if not path:
        raise ValueError("data.path is empty: give a file, a pattern, a folder, or null")
    place = Path(path).expanduser()
    if place.is_dir():
        return {split: [file] for split, file in split_files(place).items()}
    if place.exists():
        return {"all": [place]}
    if has_wildcard(path):
        files = [file for file in matching_paths(path) if file.is_file()]
        if not files:
            raise FileNotFoundError(f"data.path={path}: no file matches this pattern")
        return {"all": files}
    raise FileNotFoundError(f"data.path={path}: there is no such file or folder")


def has_wildcard(path: str) -> bool:
    return any(sign in path for sign in WILDCARDS)


def matching_paths(pattern: str) -> list[Path]:
    """What a glob pattern finds, in the order of the names; `**` crosses folders."""
    place = str(Path(pattern).expanduser())
    return [Path(name) for name in sorted(glob.glob(place, recursive=True))]  # noqa: PTH207


def standard_library() -> list[Path]:
    """The modules at the top of the standard library, in the order of their names.

    Without `_sysconfigdata*`, which says how this very Python was built, and what a site adds.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    foreign = re.compile(r"_sysconfigdata|sitecustomize|usercustomize")
    files = sorted(file for file in folder.glob("*.py") if not foreign.match(file.name))
    if not files:
        raise FileNotFoundError(
            f"the standard library has no source files in {folder}: give a text with data.path=FILE"
        )
    return files


def split_files(folder: Path) -> dict[Split, Path]:
    """The files of a folder that are named after the splits, such as ptb.train.txt or valid.gz.

    Raises:
        ValueError: none, or more than one, for a split. The test split alone may be missing.
    """
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    shown = ", ".join(file.name for file in files[:8]) or "no file"
    shown += f" and {len(files) - 8} more" if len(files) > 8 else ""
    advice = (
        f"To read all its files as one text write data.path='{folder}/*', quotes included; to read "
        f"one, data.path={folder}/NAME"
    )
    found: dict[Split, Path] = {}
    for split in SPLITS:
        pattern = rf"(?:^|[._-])(?:{SPLIT_NAMES[split]})(?:[._-]|$)"
        matching = [file for file in files if re.search(pattern, file.name, re.IGNORECASE)]
        if len(matching) > 1 or (matching and matching[0] in found.values()):
            names = ", ".join(file.name for file in matching)
            raise ValueError(
                f"data.path={folder}: it is not clear which file is the {split} split: {names}. "
                + advice
            )
        if matching:
            found[split] = matching[0]
    for split in ("train", "valid"):
        if split not in found:
            raise ValueError(
                f"data.path={folder}: expected a file for each split, such as train.txt, valid.txt "
                f"and test.txt (also .gz); there is none for {split}; the folder holds {shown}. "
                + advice
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
            f"{file} is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x} "
            f"({error.reason}); convert it, for instance with iconv -t UTF-8"
        ) from None
    # As Python's text mode reads it: one kind of line break; and no mark of the byte order, which
    # is part of the encoding.
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def cut(length: int, fractions: Sequence[float]) -> list[slice]:
    """Slices of `length` tokens at exact fractions, the first int(f · length): train, valid, test.

    Raises:
        ValueError: not three fractions that add up to 1, or none for training.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not abs(sum(fractions) - 1.0) < 1e-6:
        raise ValueError(
            "data.split: expected three fractions (train, valid, test) >= 0 that add up to 1, "
            f"got {list(fractions)}"
        )
    if fractions[0] == 0:
        raise ValueError("data.split: the training fraction must be above 0")
    # Rounded first, or 0.9 · 10 could be 8 on account of binary fractions.
    first = int(round(fractions[0] * length, 6))
    second = length if fractions[2] == 0 else int(round((fractions[0] + fractions[1]) * length, 6))
    return [slice(0, first), slice(first, second), slice(second, length)]
