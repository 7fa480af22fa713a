"""Where text comes from, and what is said when it does not come."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqmodels.data.sources import cut, read_source, split_files, standard_library

TEXT = "naïve text: 😀\nsecond line\n"


def write(path: Path, text: str | bytes = TEXT) -> Path:
    """A file, packed where its name says so."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def refusal(path: Path | str, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        read_source(str(path))
    return str(caught.value)


# --------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.txt.gz", "[a].txt", "a b*?"])
def test_one_file(tmp_path: Path, name: str) -> None:
    source = read_source(str(write(tmp_path / name)))
    assert source.texts == {"all": TEXT}
    assert source.files == [str(tmp_path / name)]
    assert source.digest == hashlib.sha256(TEXT.encode()).hexdigest()


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.txt")
    assert read_source("~/a.txt").texts == read_source("~/a*").texts == {"all": TEXT}


def test_a_pattern_joins_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "b")
    write(tmp_path / "a.txt", "a\n")
    write(tmp_path / "c.txt.gz", "c")
    write(tmp_path / "deep" / "d.txt", "d")
    write(tmp_path / "other.md", "x")
    # A line break where a file lacks it, or its last word and the next file's first would be one.
    source = read_source(f"{tmp_path}/*.txt*")
    assert source.texts == {"all": "a\nb\nc"}
    assert source.files == [str(tmp_path / name) for name in ("a.txt", "b.txt", "c.txt.gz")]
    assert source.digest == hashlib.sha256(b"a\nbc").hexdigest()
    assert read_source(f"{tmp_path}/**/*.txt").texts == {"all": "a\nb\nd"}
    assert read_source(f"{tmp_path}/[ab].txt").texts == {"all": "a\nb"}
    assert read_source(f"{tmp_path}/*").files[-1] == str(tmp_path / "other.md")  # folders left out


def test_an_empty_file_among_others_is_no_harm(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "")
    write(tmp_path / "b.txt", "b")
    assert read_source(f"{tmp_path}/*.txt").texts == {"all": "b"}


# ------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("wiki.train.tokens.gz", "wiki.valid.tokens.gz", "wiki.test.tokens.gz"),
        ("Train.TXT", "Val.txt", "TEST.txt"),
        ("train", "dev", "test"),
        ("x-train.gz", "x-validation.gz", "x-test.gz"),
        ("train_a.txt", "val_a.txt"),
    ],
    ids=" ".join,
)
def test_a_folder_with_a_file_for_each_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path / name, f"text of {name}")
    write(tmp_path / "README.md", "not this")
    write(tmp_path / "training.log", "not this")
    write(tmp_path / ".train.txt.swp", "not this")
    write(tmp_path / "deep" / "train.txt", "not this")
    splits = ("train", "valid", "test")[: len(names)]
    source = read_source(str(tmp_path))
    assert source.texts == {s: f"text of {n}" for s, n in zip(splits, names, strict=True)}
    assert source.files == [str(tmp_path / name) for name in names]
    joined = "".join(f"text of {name}" for name in names)
    assert source.digest == hashlib.sha256(joined.encode()).hexdigest()


def test_the_advice_for_a_folder_works(tmp_path: Path) -> None:
    write(tmp_path / "one.txt", "one")
    write(tmp_path / "two.txt", "two")
    advice = refusal(tmp_path).split("data.path='")[1].split("'")[0]
    assert read_source(advice).texts == {"all": "one\ntwo"}


# ------------------------------------------------------------------------------------ bad input


def test_an_empty_file_that_is_called_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.gz").touch()
    assert f"{tmp_path}/a.gz is empty" in refusal(tmp_path / "a.gz")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    ("raw", "byte", "value"),
    [
        (b"abc\xff\xfe", 3, "0xff"),
        ("über".encode("latin-1"), 0, "0xfc"),
        ("text".encode("utf-16"), 0, "0xff"),
        ("é".encode()[:1], 0, "0xc3"),
        (b"\x80" * 3, 0, "0x80"),
    ],
)
def test_a_file_that_is_not_utf8(
    tmp_path: Path, name: str, raw: bytes, byte: int, value: str
) -> None:
    path = write(tmp_path / name, raw)
    message = refusal(path)
    assert message.startswith(f"{path} is not UTF-8: byte {byte} is {value} ")
    assert "convert it" in message


@pytest.fixture
def locked() -> Iterator[Path]:
    """A file that must not be read, and a user whom this binds, as it does not the superuser."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = write(folder / "a.txt")
    path.chmod(0)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield path
    finally:
        if superuser:
            os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")
@pytest.mark.parametrize("pattern", [False, True])
def test_a_file_that_must_not_be_read(locked: Path, pattern: bool) -> None:
    with pytest.raises(PermissionError) as caught:
        read_source(f"{locked.parent}/*" if pattern else str(locked))
    # The command line shows both.
    assert str(caught.value.filename) == str(locked)
    assert caught.value.strerror == "Permission denied"


# ------------------------------------------------------------------- the standard library's text


def test_the_default_is_the_standard_library() -> None:
    source = read_source(None)
    files = standard_library()
    raw = b"".join(file.read_bytes() for file in files)
    assert len(raw) > 1_000_000
    assert source.digest == hashlib.sha256(raw).hexdigest()
    assert "class ArgumentParser(" in source.texts["all"]
    assert source.files == [source.files[0]]
    assert f"standard library, {len(files)} modules" in source.files[0]


def test_what_a_site_adds_to_the_library_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r"give a text with data\.path=FILE"):
        standard_library()
    for name in ("b.py", "a.py", "_sysconfigdata__linux_.py", "sitecustomize.py", "x.pyc"):
        write(tmp_path / name)
    write(tmp_path / "site-packages" / "c.py")
    assert [file.name for file in standard_library()] == ["a.py", "b.py"]


# ------------------------------------------------------------------------------------- cutting


@pytest.mark.parametrize("length", [0, 1, 7, 10, 99, 1_115_394, 10**9 + 7])
@pytest.mark.parametrize(
    "fractions", [(0.9, 0.1, 0.0), (0.9, 0.05, 0.05), (1.0, 0.0, 0.0), (0.7, 0.1, 0.2)], ids=str
)
def test_the_parts_are_exact_and_leave_nothing_out(
    length: int, fractions: tuple[float, float, float]
) -> None:
    hundredths = [round(100 * f) for f in fractions]
    train, valid, test = cut(length, fractions)
    assert train == slice(0, length * hundredths[0] // 100)
    assert valid == slice(train.stop, length * (hundredths[0] + hundredths[1]) // 100)
    assert test == slice(valid.stop, length)


@pytest.mark.parametrize("fractions", [(0.9, 0.1, 0.0), (0.9, 0.05, 0.05)])
def test_the_training_part_is_the_usual_nine_tenths(fractions: tuple[float, ...]) -> None:
    for length in range(2000):
        assert cut(length, fractions)[0].stop == int(0.9 * length)


def test_split_files_are_found_without_reading(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", b"\xff")
    write(tmp_path / "dev.txt", b"\xff")
    assert split_files(tmp_path) == {"train": tmp_path / "train.txt", "valid": tmp_path / "dev.txt"}
