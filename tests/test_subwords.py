"""Subwords: learned from the training part, applied, stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from seqmodels.cli import main
from seqmodels.data import UNK, SubwordVocabulary, TextData

TEXT = "low lower lowest\nnew newer newest  wide\n\tlow, low: lower!\n\n" * 40


def test_frequent_neighbours_are_merged_first() -> None:
    # a b come together most often, then ab c: Sennrich's algorithm by hand.
    found = SubwordVocabulary.learn("abc abc abc abd\n", 9)
    assert found.merges[0] in [("a", "b"), ("b", "c")]
    assert {"ab", "abc"} & set(found.symbols) and len(found) == 9
    assert set(found.symbols) >= {"a", "b", "c", "d", " ", "\n", UNK}


@pytest.mark.parametrize("size", [25, 40, 200])
def test_symbols_joined_are_the_text(size: int) -> None:
    found = SubwordVocabulary.learn(TEXT, size)
    ids = found.encode(TEXT)
    assert found.decode(ids) == TEXT
    assert "".join(map(found.decode_next, ids)) == TEXT
    assert len(found) <= size and ids.max() < len(found) and found.unk_id not in ids


def test_symbols_are_numbered_by_how_often_they_come() -> None:
    found = SubwordVocabulary.learn(TEXT, 60)
    counts = np.bincount(found.encode(TEXT), minlength=len(found))
    assert (np.diff(counts) <= 0).all()


def test_what_was_not_in_the_training_text_is_unknown_and_storing_changes_nothing() -> None:
    found = SubwordVocabulary.learn(TEXT, 60)
    ids = found.encode("low\u00e9 <unk>r")
    assert list(ids).count(found.unk_id) == 2
    again = SubwordVocabulary.from_dict(json.loads(json.dumps(found.to_dict())))
    assert (again.encode(TEXT) == found.encode(TEXT)).all() and again.symbols == found.symbols
    for bad in ([["l"]], [["l", "q"]], [["l", "\n"]]):
        with pytest.raises(ValueError, match="the merge"):
            SubwordVocabulary.from_dict({**found.to_dict(), "merges": bad})


def test_limits_are_said() -> None:
    with pytest.raises(ValueError, match=r"needs data\.max_vocab"):
        TextData(level="subword")
    with pytest.raises(ValueError, match="max_vocab=5 is too small: the text has"):
        SubwordVocabulary.learn(TEXT, 5)
    with pytest.raises(ValueError, match="expected one of 'char', 'word', 'subword'"):
        TextData(level="sentence")  # type: ignore[arg-type]


def test_the_validation_text_teaches_nothing(tmp_path: Path) -> None:
    for split, text in (("train", TEXT), ("valid", "zebra zebra\n" * 50), ("test", TEXT)):
        (tmp_path / f"{split}.txt").write_text(text, encoding="utf-8")
    data = TextData(path=str(tmp_path), level="subword", max_vocab=50, batch_size=2, seq_len=5)
    data.setup()
    assert not any("z" in symbol for symbol in data.vocabulary.symbols)
    assert data.describe()["unknown"]["valid"] >= 100
    assert data.characters["train"] == len(TEXT)


def test_a_run_is_trained_measured_and_sampled(tmp_path: Path, capsys: Any) -> None:
    text, run = tiny.write_text(tmp_path), tmp_path / "run"
    assert tiny.train(text, run, "data.level=subword", "data.max_vocab=60", "data.ngrams=3") == 0
    assert set(tiny.record(run)["baselines"]) == {"unigram", "bigram", "trigram"}
    assert main(["eval", f"run={run}"]) == 0
    capsys.readouterr()
    assert main(["sample", f"run={run}", "length=5", "prompt=the qu"]) == 0
    assert capsys.readouterr().out.startswith("the qu")
