"""Texts with classes: every way they come, batches by length, pooling, metrics, and bad input."""

from __future__ import annotations

import csv
import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from seqmodels.cells import GRUCell
from seqmodels.cli import main
from seqmodels.data import Vocabulary
from seqmodels.data.labelled import TextClassification, read_examples
from seqmodels.layers import Bidirectional, Recurrent, Stacked
from seqmodels.models import LinearHead, OneHot, Pool, PredictionModel
from seqmodels.training.activation import ActivationPenalty
from seqmodels.training.prediction import macro_f1

GOOD = ["a fine film, warm and true", "truly fine !", "it's a joy to watch", "warm fun for all"]
BAD = ["a dull film .", "dull, cold and far too long", "no joy here", "cold and sad"]
ROWS = [(text, label) for pair in zip(GOOD, BAD, strict=True) for text, label in
        zip(pair, ("pos", "neg"), strict=True)]  # fmt: skip


def write_rows(path: Path, rows: list[tuple[str, str]], text: str = "text") -> Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        texts, labels = zip(*rows, strict=True)
        parquet.write_table(pyarrow.table({text: texts, "label": labels}), path)
        return path
    if name.endswith(".jsonl"):
        content = "".join(json.dumps({"label": b, text: a, "more": 1}) + "\n" for a, b in rows)
    elif name.endswith(".tsv"):
        content = f"{text}\tlabel\n" + "".join(f"{a}\t{b}\n" for a, b in rows)
    else:
        import io

        lines = io.StringIO()
        csv.writer(lines).writerows([("label", text), *((b, a) for a, b in rows)])
        content = lines.getvalue()
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def classes_as_folders(folder: Path, rows: list[tuple[str, str]] = ROWS) -> Path:
    for number, (text, label) in enumerate(rows):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


def classes_as_files(folder: Path, pattern: str = "film.{}") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for label in ("pos", "neg"):
        lines = "".join(text + "\n" for text, each in ROWS if each == label)
        (folder / pattern.format(label)).write_text(lines, encoding="utf-8")
    return folder


def data_of(path: Path, **settings: Any) -> TextClassification:
    settings = {"valid": 0.25, "test": 0.25, "min_count": 1, **settings}
    data = TextClassification(str(path), **settings)
    data.setup()
    return data


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz"])
def test_every_kind_of_table_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    path = write_rows(tmp_path / f"films{ending}", ROWS)
    found, remarks = read_examples(str(path), text_column="text", label_column="label")
    assert [(e.text, e.label) for e in found["train"]] == ROWS
    assert remarks == [] and list(found) == ["train"]


@pytest.mark.parametrize("make", [classes_as_folders, classes_as_files])
def test_classes_as_folders_and_as_files(tmp_path: Path, make: Any) -> None:
    found, _ = read_examples(str(make(tmp_path / "a")), text_column="", label_column="")
    assert sorted((e.text.strip(), e.label) for e in found["train"]) == sorted(ROWS)


def test_bare_files_and_splits_by_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        classes_as_files(tmp_path / split, "{}.txt")
    (tmp_path / "README").write_text("about", encoding="utf-8")
    classes_as_folders(tmp_path / "x")
    (tmp_path / "x").rename(tmp_path / "valid")
    data = data_of(tmp_path)
    assert data.describe()["texts"] == {"train": 8, "valid": 8, "test": 8}


def test_folders_of_other_classes_are_left_out_and_said(tmp_path: Path) -> None:
    for split in ("train", "test"):
        classes_as_folders(tmp_path / split)
    classes_as_folders(tmp_path / "train", [("what is this", "unsup")])
    data = data_of(tmp_path, classes=["pos", "neg"])
    assert data.class_names == ["pos", "neg"]
    assert data.describe()["texts"] == {"train": 6, "valid": 2, "test": 8}
    assert "unsup in train left out" in data.describe()["summary"]
    classes_as_files(tmp_path / "files", "{}.txt")
    with pytest.raises(ValueError, match=r"files: expected the classes a, b \(data.classes\), and"):
        data_of(tmp_path / "files", classes=["a", "b"])


def test_a_file_that_is_not_utf8_is_read_as_latin1_and_says_so(tmp_path: Path) -> None:
    folder = classes_as_files(tmp_path / "a")
    (folder / "film.pos").write_bytes("très fine\n".encode("latin-1") * 4)
    data = data_of(folder)
    assert "film.pos read as Latin-1" in data.describe()["summary"]
    assert data.vocabulary is not None and "très" in data.vocabulary.numbers


def test_splits_keep_the_classes_shares_and_folds_part_all_texts(tmp_path: Path) -> None:
    rows = [(f"word{i}", "a" if i % 4 else "b") for i in range(80)]
    path = write_rows(tmp_path / "x.csv", rows)
    data = data_of(path, valid=0.1, test=0.1)
    assert data.describe()["texts"] == {"train": 65, "valid": 7, "test": 8}
    assert [int((data._labels["test"] == c).sum()) for c in (0, 1)] == [6, 2]

    def tests_of(fold: int) -> set[str]:
        each = TextClassification(str(path), fold=fold, folds=5, valid=0.125)
        words = [*sorted(text for text, _ in rows), "<unk>"]
        each.setup(Vocabulary(words, "word", lowercase=True))
        assert each.describe()["texts"] == {"train": 56, "valid": 8, "test": 16}
        assert [int((each._labels["valid"] == c).sum()) for c in (0, 1)] == [6, 2]
        vocabulary = each.vocabulary
        assert vocabulary is not None
        seen = {vocabulary.symbols[t[0]] for s in ("train", "valid") for t in each._ids[s]}
        return {text for text, _ in rows} - seen

    parts = [tests_of(fold) for fold in range(5)]
    assert set.union(*parts) == {text for text, _ in rows}
    assert sum(map(len, parts)) == 80


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_every_fold_has_the_classes_shares(tmp_path: Path, classes: int) -> None:
    rows = [(f"word{i}", str(i % classes)) for i in range(60 * classes)]
    path = write_rows(tmp_path / "x.csv", rows)
    for fold in range(3):
        data = data_of(path, fold=fold, folds=6, valid=0.1)
        for split, count in (("test", 10), ("valid", 5), ("train", 45)):
            assert np.bincount(data._labels[split]).tolist() == [count] * classes


def test_an_epoch_has_every_text_once_in_batches_of_like_lengths(tmp_path: Path) -> None:
    rows = [("x " * (1 + 7 * i % 40), "ab"[i % 2]) for i in range(200)]
    data = data_of(write_rows(tmp_path / "x.csv", rows), batch_size=8)
    counts = data.describe()["texts"]
    loader = data.train_loader()
    lengths: list[int] = []
    for batch in loader:
        assert batch.lengths is not None
        assert batch.inputs.shape[1] == int(batch.lengths.max())
        ends = batch.targets[torch.arange(len(batch.targets)), batch.lengths - 1]
        assert (ends >= 0).all() and int((batch.targets >= 0).sum()) == len(ends)
        lengths += batch.lengths.tolist()
        assert int(batch.lengths.max() - batch.lengths.min()) <= 8
    assert sorted(lengths) == sorted(len(t) for t in data._ids["train"])
    assert len(lengths) == counts["train"]
    again = next(iter(loader))  # the second epoch
    other = data.train_loader()
    other.load_state_dict({"position": len(other)})
    assert torch.equal(next(iter(other)).inputs, again.inputs)


def test_long_texts_are_cut_and_counted(tmp_path: Path) -> None:
    data = data_of(write_rows(tmp_path / "x.csv", ROWS), max_length=3)
    assert data.describe()["cut"] == 5
    assert sorted(len(text) for texts in data._ids.values() for text in texts) == [3] * 8
    assert "5 of 8 cut after 3 tokens" in data.describe()["summary"]


def test_a_text_longer_than_the_csv_module_reads_is_cut_too(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    rows = [("so " * 50_000 + "fine", "pos"), *ROWS]
    data = data_of(write_rows(tmp_path / "x.csv", rows), max_length=9)
    assert data.describe()["cut"] == 1
    assert max(len(text) for texts in data._ids.values() for text in texts) == 9
    assert csv.field_size_limit() == usual


def test_word_vectors_start_the_embedding(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.csv", ROWS)
    (tmp_path / "v.txt").write_text("2 3\nfine 1 2 3\n. . . 4 5 6\n", encoding="utf-8")
    data = data_of(path, vectors=str(tmp_path / "v.txt"))
    vectors, vocabulary = data.initial_vectors(), data.vocabulary
    assert vectors is not None and vocabulary is not None
    assert vectors[vocabulary.numbers["fine"]].tolist() == [1, 2, 3]
    assert int(vectors.isnan().all(1).sum()) == len(vocabulary) - 1
    (tmp_path / "v.txt").write_text("fine 1 2 3\ndull 1 2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"v\.txt, line 2: expected a word and 3 numbers, got 2"):
        data.initial_vectors()


BROKEN: list[tuple[str, str, dict[str, Any], str]] = [
    ("x.csv", "text,label\nfine,1\n ,0\n", {}, r"x\.csv, line 3: the text is empty"),
    ("x.csv", "text,label\nfine,1\ndull\n", {}, "line 3: expected 2 columns, .* got 1"),
    ("x.csv", "text,label\nfine,1\ndull,\n", {}, "line 3: expected a label"),
    ("x.csv", "words,label\nfine,1\n", {}, "no column 'text'; it has 'words', 'label'"),
    ("x.csv", "text,label\n" + "fine,1\n" * 9, {}, "all examples have the label '1'"),
    ("x.csv", "text,label\n" + "fine,1\ndull,0\n" * 9, {"classes": ["1", "2"]}, "'0' is none of"),
    (
        "x.csv", "text,label\n" + "fine,1\ndull,0\n" * 9, {"classes": ["1", "2", "0"]},
        "class '2' has no example",
    ),
    ("x.csv", "text,label\nfine,1\n", {}, "the label '1'"),
    ("x.csv", "text,label\nfine,1\ndull,0\n", {}, "2 examples leave none for"),
    ("x.csv", 'text,label\n"fine,1\n', {}, "line 2: unexpected end of data"),
    ("x.csv", 'text,label\n"fine,1\ndull,0\n', {}, "line 2: .* is a quote left open"),
    ("x.csv", 'text,label\nfine,1\n"two\nlines",0,3\n', {}, "line 3: expected 2 columns"),
    ("x.csv", "text,label,text\nfine,1,dull\n", {}, "2 columns are called 'text'"),
    ("x.jsonl", '{"text": "fine", "label": 1}\nnonsense\n', {}, r"x\.jsonl, line 2: not JSON"),
    ("x.jsonl", '["fine", 1]\n', {}, "line 1: expected an object"),
    ("x.jsonl", '{"text": 3, "label": 1}\n', {}, "line 1: expected a text, got int 3"),
    ("x.parquet", "PAR1 nonsense", {}, r"x\.parquet: "),
    ("x.csv.gz", "no gzip", {}, r"x\.csv\.gz: cannot be decompressed"),
    ("x.doc", "fine", {}, r"expected \.csv, \.tsv"),
    ("x.csv", "", {}, "nothing in its first line, expected names of columns"),
    ("x.csv", "text,label\n", {}, "there is no example in it"),
    ("x.csv", "text,label\n…,1\n", {"level": "char", "fold": 11}, "data.fold must lie in 0 … 9"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "settings", "said"), BROKEN)
def test_broken_tables_are_named(
    tmp_path: Path, name: str, content: str, settings: dict[str, Any], said: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        data_of(tmp_path / name, **settings)


def test_broken_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        data_of(tmp_path / "none")
    with pytest.raises(ValueError, match="it holds nothing"):
        data_of(tmp_path)
    classes_as_folders(tmp_path / "a")
    (tmp_path / "a" / "mixed").mkdir()
    with pytest.raises(ValueError, match="the class 'mixed' has no example"):
        data_of(tmp_path / "a")
    classes_as_files(tmp_path / "b")
    (tmp_path / "b" / "film.pos").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match=r"film\.pos: the class 'pos' has no example"):
        data_of(tmp_path / "b")
    (tmp_path / "b" / "film.pos").write_text("fine\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"film\.pos, line 2: the text is empty"):
        data_of(tmp_path / "b")
    write_rows(tmp_path / "train.csv", ROWS)
    write_rows(tmp_path / "test.csv", [("fine", "maybe")])
    with pytest.raises(ValueError, match=r"test\.csv, line 2: the label 'maybe' is none of neg"):
        data_of(tmp_path)


# --- pooling ------------------------------------------------------------------------------------


LENGTHS = torch.tensor([5, 2, 1])


def reversed_by_hand(layer: Any, x: Tensor) -> Tensor:
    """What the backward layer says last, for one sequence without padding: (1, T, I) -> (1, H)."""
    y: Tensor = layer(x.flip(1))[0][:, -1]
    return y


@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_pooling_of_padded_sequences_is_that_of_each_alone(kind: Any) -> None:
    torch.manual_seed(0)
    stack = Stacked(3, cell=GRUCell, hidden_size=4, num_layers=2, layer=Bidirectional).double()
    pool = Pool(kind, stack)
    x = torch.randn(3, 5, 3).double()
    together = pool(stack(x, None, LENGTHS)[0], LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = pool(stack(x[row : row + 1, :length])[0], None)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-12, atol=1e-12)


def test_last_is_the_end_of_each_directions_own_reading() -> None:
    torch.manual_seed(0)
    both = Bidirectional(lambda: GRUCell(3, 4)).double()
    x = torch.randn(1, 5, 3).double()
    found = Pool("last", both)(both(x)[0], None)
    expected = torch.cat((both.forwards(x)[0][:, -1], reversed_by_hand(both.backwards, x)), 1)
    torch.testing.assert_close(found, expected)
    backwards = Recurrent(GRUCell(3, 4), reverse=True).double()
    torch.testing.assert_close(
        Pool("last", backwards)(backwards(x)[0], None), backwards(x)[0][:, 0]
    )
    with pytest.raises(ValueError, match="choose mean or max"):
        Pool("last", Stacked(3, cell=GRUCell, hidden_size=4, num_layers=2, skip="dense",
                             layer=Bidirectional))  # fmt: skip


def test_macro_f1_is_the_mean_over_the_classes_that_there_are() -> None:
    confusion = torch.tensor([[3, 1, 0], [2, 4, 0], [0, 0, 0]])
    assert macro_f1(confusion) == pytest.approx((2 * 3 / (4 + 5) + 2 * 4 / (6 + 5)) / 2)


def test_the_penalty_on_activations_of_a_pooled_text_is_a_mean_over_its_one_vector() -> None:
    torch.manual_seed(0)
    model = PredictionModel(
        5, 2, inputs=OneHot, cell=GRUCell, layers=partial(Stacked, hidden_size=3),
        head=LinearHead, pooling="mean",
    )  # fmt: skip
    penalty = ActivationPenalty(model, 2.0, 0.0)
    ids = torch.randint(0, 5, (3, 5))
    model(ids, None, LENGTHS)
    hidden = model.backbone(model.inputs(ids), None, LENGTHS)[0]
    pooled = Pool("mean", model.backbone)(hidden, LENGTHS)
    torch.testing.assert_close(penalty.terms()["ar"], 2.0 * pooled.square().mean())


# --- the whole command --------------------------------------------------------------------------


def tiny_run(path: Path, run: Path, experiment: str, *overrides: str) -> int:
    return main([
        "train", f"experiment={experiment}", f"data.path={path}", "data.min_count=1",
        "data.batch_size=3", "data.eval_batch_size=2", "data.valid=0.25", "data.test=0.25",
        "model.inputs.size=4", "model.layers.hidden_size=3", "trainer.max_epochs=null",
        "trainer.max_steps=2", "trainer.val_check_interval=1", "trainer.log_every_n_steps=1",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false",
        "callbacks.analysis.steps=3", f"run_dir={run}", *overrides,
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("experiment", "make"),
    [("sentiment_lstm", classes_as_files), ("sentiment_bilstm", classes_as_folders)],
)
def test_sentiment_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], experiment: str, make: Any
) -> None:
    run = tmp_path / "run"
    assert tiny_run(make(tmp_path / "films"), run, experiment) == 0
    said = capsys.readouterr().out
    assert "logistic regression on words" in said and "macro_f1" in said
    record = tiny.record(run)
    assert record["status"] == "finished"
    assert (run / "confusion.png").stat().st_size > 5000
    assert main(["eval", f"run={run}"]) == 0
    said = capsys.readouterr().out
    assert "test/macro_f1" in said and "batches of 2" in said
    assert main(["sample", f"run={run}"]) == 2
    assert "does not predict the next token" in capsys.readouterr().err
    assert main(["eval", f"run={run}", "data.lowercase=false"]) == 2
    assert "made with lowercase=true: set data.lowercase=true" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", ["imdb_bilstm", "sst2_bilstm"])
def test_sets_of_the_hub_run_from_a_folder_that_looks_like_one(
    tmp_path: Path, experiment: str
) -> None:
    column = "sentence" if experiment == "sst2_bilstm" else "text"
    splits = ["train", "validation"] if experiment == "sst2_bilstm" else ["train", "test"]
    folder = tmp_path / "hub"
    folder.mkdir()
    for split in splits:
        write_rows(folder / f"{split}.parquet", ROWS, column)
    run = tmp_path / "run"
    hub = [f"data.name={folder}", "data.path=null", f"data.cache_dir={tmp_path / 'cache'}"]
    assert tiny_run(folder, run, experiment, *hub) == 0
    texts = tiny.record(run)["data"]["texts"]
    assert texts["test"] == 8 and texts["train"] + texts["valid"] == 8


def test_a_set_that_cannot_be_reached_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmodels.data.hub_text.reachable", lambda url: False)
    run = tmp_path / "run"
    extra = ["data.name=stanfordnlp/none-such", "data.path=null", f"data.cache_dir={tmp_path}"]
    assert tiny_run(tmp_path, run, "imdb_bilstm", *extra) == 2
    assert "the hub cannot be reached" in capsys.readouterr().err
    assert not run.exists()


def test_texts_with_a_class_are_no_language_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "x.csv", ROWS)
    wrong = ["task=language_model"]
    assert tiny_run(path, tmp_path / "run", "sentiment_lstm", *wrong) == 2
    assert "task=classification" in capsys.readouterr().err
    assert np.array(list(tmp_path.iterdir())).size == 1
