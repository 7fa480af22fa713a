"""Pairs of sequences: the definitions, a user's files, bad input, and runs on them."""

from __future__ import annotations

import gzip
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmodels.cli import main
from seqmodels.data import Vocabulary
from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.pairs import (
    Copy,
    GeneratedPairs,
    NumberToWords,
    PairProblem,
    PairVocabulary,
    ParallelText,
    Reverse,
    Sort,
)
from seqmodels.data.pairs.problems import number_in_words
from tiny import checkpoint, record, rows

LINES = [
    ("ein haus", "a house"), ("das rote haus", "the red house"), ("ein hund", "a dog"),
    ("der hund schläft", "the dog sleeps"), ("rot", "red"), ("das haus", "the house"),
    ("der rote hund", "the red dog"), ("ein roter hund schläft", "a red dog sleeps"),
    ("haus", "house"), ("hund", "dog"),
]  # fmt: skip


def read(batch: SequenceBatch, vocabulary: PairVocabulary) -> list[tuple[str, str]]:
    """The pairs of a batch as text; checks their padding."""
    found = []
    width = batch.inputs.shape[1]
    lengths = [width] * len(batch.inputs) if batch.lengths is None else batch.lengths.tolist()
    assert max(lengths) == width
    for source, target, length in zip(batch.inputs, batch.targets, lengths, strict=True):
        asked = target[target != IGNORE].tolist()
        assert target[: len(asked)].tolist() == asked and asked[-1] == vocabulary.end
        assert vocabulary.end not in asked[:-1]
        symbols = source[:length].tolist()
        found.append((vocabulary.source.decode(symbols).strip(), vocabulary.decode(asked[:-1])))
    return found


# --- the definitions -----------------------------------------------------------------------------

ANSWERS: list[tuple[PairProblem, Any]] = [
    (Copy(), lambda text: text),
    (Reverse(alphabet=4), lambda text: text[::-1]),
    (Sort(alphabet=26), lambda text: "".join(sorted(text))),
    (NumberToWords(), lambda text: " ".join(number_in_words(int(text)))),
]
each_problem = pytest.mark.parametrize(
    ("problem", "right"), ANSWERS, ids=["copy", "reverse", "sort", "numbers"]
)


@each_problem
def test_pairs_are_as_defined(problem: PairProblem, right: Any) -> None:
    data = GeneratedPairs(problem, length=[1, 9], batch_size=300, valid_sequences=20)
    data.setup()
    pairs = read(data.draw(0), data.pairs)
    assert [target for _, target in pairs] == [right(source) for source, _ in pairs]
    lengths = Counter(len(source) for source, _ in pairs)
    assert set(lengths) == set(range(1, 10)) and max(lengths.values()) < 70
    sets = list(data.valid_loader())
    assert [(b.inputs.shape, b.lengths) for b in sets] == [((20, 1), None), ((20, 9), None)]
    assert data.sizes() == {
        "num_sources": len(data.pairs.source),
        "num_targets": len(data.pairs) + 1,
    }


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"), (7, "seven"), (10, "ten"), (19, "nineteen"), (20, "twenty"),
        (42, "forty two"), (100, "one hundred"), (815, "eight hundred fifteen"),
        (4071, "four thousand seventy one"), (1_000_000, "one million"),
        (12_000_345, "twelve million three hundred forty five"),
        (900_000_000_001, "nine hundred billion one"),
    ],
)  # fmt: skip
def test_numbers_in_words(number: int, words: str) -> None:
    assert " ".join(number_in_words(number)) == words


@pytest.mark.parametrize("length", [1, 3, 5])
def test_the_baseline_of_sorting_is_the_entropy_of_its_answers(length: int) -> None:
    answers = Counter("".join(sorted(s)) for s in itertools.product("abc", repeat=length))
    total = 3**length
    entropy = -sum(n / total * math.log(n / total) for n in answers.values())
    nats, symbols = Sort(alphabet=3).unread(length)
    assert nats == pytest.approx(entropy) and symbols == length + 1


@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_the_baseline_of_numbers_is_exact(length: int) -> None:
    numbers = range(0 if length == 1 else 10 ** (length - 1), 10**length)
    nats, symbols = NumberToWords().unread(length)
    assert nats == pytest.approx(math.log(len(numbers)))
    mean = sum(len(number_in_words(n)) + 1 for n in numbers) / len(numbers)
    assert symbols == pytest.approx(mean)


def test_batches_depend_on_seed_and_number_alone() -> None:
    def data(**settings: Any) -> GeneratedPairs:
        return GeneratedPairs(Reverse(), **{"length": [2, 6], "batches": 3, **settings})

    one, again, other = data(seed=1), data(seed=1), data(seed=2)
    loader = one.train_loader()
    first = [*loader, *loader]
    resumed = again.train_loader()
    resumed.load_state_dict({"position": 4})
    rest = [*resumed]
    for a, b in zip(first[4:], rest, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if x is not None)
    assert not torch.equal(first[0].targets, first[1].targets)
    assert not torch.equal(first[0].inputs, other.draw(0).inputs)
    same = zip(one.valid_loader(), other.valid_loader(), strict=True)
    assert all(torch.equal(a.inputs, b.inputs) for a, b in same)
    assert one.describe()["digest"] == again.describe()["digest"] != other.describe()["digest"]


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Reverse(alphabet=27), "alphabet must lie in 2 … 26"),
        (lambda: GeneratedPairs(Copy(), length=[0, 3]), "lengths of at least 1"),
        (lambda: GeneratedPairs(NumberToWords(), length=13), "at most 12, got 13"),
        (lambda: GeneratedPairs(NumberToWords(), length=3, test_lengths=[14]), "got 14"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        make()


def test_the_vocabulary_of_both_sides_is_kept() -> None:
    own = PairVocabulary(["x", "y", "<unk>"], "word", source=Vocabulary(["a", "<unk>"], "char"))
    again = PairVocabulary.from_dict(own.to_dict())
    assert again.to_dict() == own.to_dict() and again.end == 3 and again.source.level == "char"
    data = GeneratedPairs(Copy(alphabet=3))
    with pytest.raises(ValueError, match="symbols are not those of copy"):
        data.setup(own)


# --- a user's files ------------------------------------------------------------------------------


def write_tsv(path: Path, lines: list[tuple[str, str]] = LINES, end: str = "\n") -> Path:
    content = "".join(f"{s}\t{t}{end}" for s, t in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_two(folder: Path, lines: list[tuple[str, str]] = LINES) -> dict[str, str]:
    for side, name in enumerate(("a.de", "a.en")):
        text = "".join(line[side] + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8")
    return {"source_path": str(folder / "a.de"), "target_path": str(folder / "a.en")}


def text_of(**settings: Any) -> ParallelText:
    data = ParallelText(**{"valid": 0.2, "test": 0.2, "batch_size": 4, **settings})
    data.setup()
    return data


def everything(data: ParallelText) -> list[tuple[str, str]]:
    loaders = [data.train_loader(), data.valid_loader(), data.test_loader()]
    batches = [batch for loader in loaders if loader is not None for batch in loader]
    return sorted(pair for batch in batches for pair in read(batch, data.vocabulary))


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz", "crlf.tsv"])
def test_a_file_with_two_columns_and_two_files_give_the_same(tmp_path: Path, name: str) -> None:
    path = write_tsv(tmp_path / name, end="\r\n" if name == "crlf.tsv" else "\n")
    vocabulary = PairVocabulary(
        sorted({w for _, t in LINES for w in t.split()} | {"<unk>"}),
        "word",
        source=Vocabulary(sorted({w for s, _ in LINES for w in s.split()} | {"<unk>"}), "word"),
    )
    for settings in ({"path": str(path)}, write_two(tmp_path)):
        data = ParallelText(**{"valid": 0.2, "test": 0.2, **settings})  # type: ignore[arg-type]
        data.setup(vocabulary)
        assert everything(data) == sorted(LINES)
        assert data.describe()["pairs"] == {"train": 6, "valid": 2, "test": 2}
        assert data.describe()["unknown"]["test"] == {"source": 0, "target": 0}


def test_a_folder_has_a_file_for_each_split(tmp_path: Path) -> None:
    for split, part in (("train", LINES[:7]), ("valid", LINES[7:])):
        write_tsv(tmp_path / f"{split}.tsv", part)
    data = text_of(path=str(tmp_path))
    assert data.describe()["pairs"] == {"train": 7, "valid": 3}
    assert data.test_loader() is None
    assert data.describe()["unknown"]["valid"] == {"source": 1, "target": 0}  # roter


def test_levels_vocabularies_and_cuts_of_either_side(tmp_path: Path) -> None:
    path = write_tsv(tmp_path / "x.tsv")
    data = text_of(
        path=str(path), source_level="char", target_level="word", max_length=4, valid=0.0, test=0.0
    )
    assert data.valid_loader() is None and data.baselines() == {}
    pairs = everything(data)
    assert ("ein", "a house") in pairs and ("haus", "house") in pairs  # "ein " without its end
    assert data.describe()["cut"] == {"source": 7, "target": 0}
    assert "7 of 10 sources cut after 4 symbols" in data.describe()["summary"]
    assert data.sizes()["num_targets"] == len(data.vocabulary) + 1
    few = text_of(path=str(path), max_vocab=3, valid=0.0, test=0.0)
    assert few.sizes() == {"num_sources": 3, "num_targets": 4}
    assert few.describe()["unknown"]["train"]["target"] > 0


def test_an_epoch_has_every_pair_once_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    lines = [(" ".join("ab"[i % 2] * (1 + i % 9)), f"w{i}") for i in range(41)]
    path = str(write_tsv(tmp_path / "x.tsv", lines))
    data = text_of(path=path, valid=0.0, test=0.0)
    loader = data.train_loader()
    epochs = [list(loader), list(loader)]
    for epoch in epochs:
        assert sorted(t for b in epoch for _, t in read(b, data.vocabulary)) == sorted(
            t for _, t in lines
        )
    assert not all(
        torch.equal(a.targets, b.targets) for a, b in zip(*epochs, strict=True)
        if a.targets.shape == b.targets.shape
    )  # fmt: skip
    resumed = text_of(path=path, valid=0.0, test=0.0).train_loader()
    resumed.load_state_dict({"position": 13})
    for a, b in zip(epochs[1][2:], resumed, strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def test_the_baseline_is_the_frequencies_of_training(tmp_path: Path) -> None:
    for split, part in (("train", [("x", "a a b")]), ("valid", [("x", "a"), ("x", "c")])):
        write_tsv(tmp_path / f"{split}.tsv", part)
    data = text_of(path=str(tmp_path))
    chances = {"a": 3 / 8, "b": 2 / 8, "<unk>": 1 / 8, "end": 2 / 8}
    wanted = -(math.log(chances["a"]) + math.log(chances["<unk>"]) + 2 * math.log(chances["end"]))
    assert data.baselines()["unigram"] == pytest.approx(wanted / 4)


def bad_input(folder: Path, kind: str) -> dict[str, Any]:
    if kind == "lines":
        settings = write_two(folder)
        (folder / "a.en").write_text("a\nb\n", encoding="utf-8")
        return settings
    if kind == "empty line":
        return write_two(folder, [*LINES[:2], ("  ", "x"), *LINES[3:]])
    if kind == "splits":
        settings = write_two(folder)
        (folder / "d").mkdir()
        for split in ("train", "valid"):
            write_tsv(folder / "d" / f"{split}.tsv")
        return {**settings, "source_path": str(folder / "d")}
    contents = {
        "one column": "a\tb\nc d\n", "three columns": "a\tb\tc\n", "empty target": "a\tb\nc\t\n",
        "blank": "a\tb\n\nc\td\n", "nothing": "",
    }  # fmt: skip
    (folder / "x.tsv").write_text(contents[kind], encoding="utf-8")
    return {"path": str(folder / "x.tsv")}


@pytest.mark.parametrize(
    ("kind", "fragment"),
    [
        ("lines", r"a\.de has 10 lines and .*a\.en 2: line k"),
        ("empty line", r"a\.en, line 3: the source is empty"),
        ("splits", "holds train, valid and .* all: give two files"),
        ("one column", r"x\.tsv, line 2: expected two columns.* got 1"),
        ("three columns", r"x\.tsv, line 1: expected two columns.* got 3"),
        ("empty target", r"x\.tsv, line 2: the target is empty"),
        ("blank", r"x\.tsv, line 2: expected two columns"),
        ("nothing", "empty: give a file"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, kind: str, fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        text_of(**bad_input(tmp_path, kind))


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({}, "give either path"),
        ({"path": "x", "source_path": "y", "target_path": "z"}, "give either path"),
        ({"source_path": "y"}, "both source_path and target_path"),
        ({"path": "x", "source_level": "line"}, r"data.source_level: expected 'char' or 'word'"),
        ({"path": "x", "valid": 0.5, "test": 0.5}, "shares that leave some"),
        ({"path": "x", "max_length": 0}, r"data.max_length must be >= 1"),
        ({"path": "x", "max_vocab": 1}, r"data.max_vocab must be >= 2"),
    ],
)
def test_settings_of_files_are_checked(settings: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        ParallelText(**settings)


# --- runs ----------------------------------------------------------------------------------------

SMALL = (
    "model=seq2seq", "model.source.size=4", "model.target.size=4", "task=seq2seq",
    "model.encoder.hidden_size=6", "model.decoder.hidden_size=6", "data.batch_size=4",
    "trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none", "num_threads=1",
)  # fmt: skip
FEW = ("data.valid_sequences=6", "data.test_sequences=6")


def test_the_experiment_takes_two_steps_and_shows_where_it_looked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [text for text in SMALL if not text.startswith(("model=", "task="))]
    run_dir = tmp_path / "run"
    small += ["scheduler.warmup_steps=0", "callbacks.analysis=null", "~callbacks.curves"]
    arguments = ["train", "experiment=depth_ablation", *small, *FEW, f"run_dir={run_dir}"]
    assert main(arguments) == 0
    metrics = record(run_dir)["metrics"]
    for name in ("loss", "accuracy", "exact_match", "exact_match_2_steps", "exact_match_6_steps"):
        assert f"test/{name}" in metrics
    assert metrics["train/loss"] > 0 and "train/exact_match" not in metrics
    assert (run_dir / "attention.png").stat().st_size > 1000
    capsys.readouterr()
    sample = ["sample", f"run={run_dir}", "num_threads=1"]
    picture = tmp_path / "where.png"
    assert main([*sample, "prompt=4071", "length=3", f"output={picture}"]) == 0
    words = capsys.readouterr().out.split()
    assert len(words) <= 3 and set(words) <= set(NumberToWords().vocabulary.symbols)
    assert picture.stat().st_size > 1000
    assert main([*sample, "prompt=4?"]) == 0
    assert "not in the model's vocabulary: '?'" in capsys.readouterr().err
    for override, fragment in (
        ("top_k=3", "top_k is for models that draw"),
        ("temperature=0.5", "draws nothing"),
        ("length=2", 'set prompt="…"'),
    ):
        assert main([*sample, override]) == 2
        assert fragment in capsys.readouterr().err


def test_files_train_resume_bit_for_bit_and_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tsv(tmp_path / "x.tsv")
    arguments = ["train", "data=parallel_text", f"data.path={path}", *SMALL, "~callbacks.attention"]
    arguments += ["~callbacks.analysis", "~callbacks.curves"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*arguments, "trainer.max_steps=5", f"run_dir={whole}"]) == 0
    assert main([*arguments, "trainer.max_steps=3", "scheduler=none", f"run_dir={parts}"]) == 0
    more = ["trainer.max_steps=5", "scheduler=none", "resume=true", f"run_dir={parts}"]
    assert main([*arguments, *more]) == 0
    again = tmp_path / "again"
    arguments += ["scheduler=none", "trainer.max_steps=5"]
    assert main([*arguments, f"run_dir={again}"]) == 0
    ours, theirs = (checkpoint(each)["state_dict"] for each in (parts, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert [r for r in rows(again) if "train/loss" in r] == [
        r for r in rows(parts) if "train/loss" in r
    ]
    assert main(["eval", f"run={whole}", "split=valid", "num_threads=1"]) == 0
    capsys.readouterr()
    assert main(["sample", f"run={whole}", "prompt=ein haus", "num_threads=1", "length=4"]) == 0
    assert len(capsys.readouterr().out.split()) <= 4


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["data=reverse", "task=seq2seq"], "pairs of sequences with model=seq2seq"),
        (["data=reverse", "model=seq2seq"], "choose task=seq2seq"),
        (["data=reverse", "model=seq2seq", "task=classification"], "choose task=seq2seq"),
        (["data=temporal_order", "model=prediction", "task=seq2seq"], "is for model=seq2seq"),
    ],
)
def test_what_does_not_go_together_is_said(
    overrides: list[str], fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert main(["train", *overrides, f"run_dir={run_dir}", "logger=none"]) == 2
    assert fragment in capsys.readouterr().err
    assert not run_dir.exists()


def test_lengths_of_a_batch_are_uniform() -> None:
    data = GeneratedPairs(Copy(), length=[3, 5], batch_size=3000)
    lengths = data.draw(0).lengths
    assert lengths is not None
    shares = np.bincount(lengths.numpy(), minlength=6)[3:] / 3000
    assert abs(shares - 1 / 3).max() < 4 * math.sqrt(2 / 9 / 3000)
