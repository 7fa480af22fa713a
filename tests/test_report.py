"""Reports: the statistics, the grouping, what is told of lost runs, and the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from seqmodels.analysis.statistics import holm, mean_interval, paired
from seqmodels.cli import main
from seqmodels.runs import higher_is_better

# --- statistics ---------------------------------------------------------------------------------


def test_intervals_are_those_of_scipy() -> None:
    few = [1.0, 2.0, 6.0]
    low, high = stats.t.interval(0.95, 2, np.mean(few), stats.sem(few))
    assert mean_interval(few) == pytest.approx((3.0, low, high))
    many = list(np.random.default_rng(0).exponential(size=40))
    found = mean_interval(many)
    half = stats.t.ppf(0.975, 39) * stats.sem(many)
    assert found.low < found.mean < found.high
    # The bootstrap sees that the values lean to one side.
    assert found.high - found.mean > found.mean - found.low
    assert found.high - found.low == pytest.approx(2 * half, rel=0.2)
    assert math.isnan(mean_interval([1.0]).low) and math.isnan(mean_interval([]).mean)


def test_pairs_are_of_common_seeds() -> None:
    found = paired({1: 1.0, 2: 2.5, 3: 2.0, 9: 50.0}, {1: 2.0, 2: 3.0, 3: 4.0, 4: 0.0})
    expected = stats.ttest_rel([1.0, 2.5, 2.0], [2.0, 3.0, 4.0])
    assert found.pairs == 3 and found.difference.mean == pytest.approx(-3.5 / 3)
    assert found.p == pytest.approx(expected.pvalue)
    assert math.isnan(paired({1: 1.0}, {1: 2.0}).p)


def test_holm_is_stepwise_and_keeps_its_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)


# --- runs ---------------------------------------------------------------------------------------


def write_run(
    folder: Path,
    *,
    cell: str = "LSTM",
    seed: int = 1,
    losses: tuple[float, ...] = (2.0, 1.0, 1.2),
    status: str = "finished",
    reason: str | None = None,
    test: float | None = None,
    versions: str = "2.13",
    **settings: Any,
) -> Path:
    folder.mkdir(parents=True)
    config: dict[str, Any] = {
        "seed": seed, "run_dir": str(folder), "optimizer": {"lr": 0.1},
        "data": {"_target_": "seqmodels.data.TextData", "path": "book.txt", "seed": seed},
        "task": {"_target_": "seqmodels.training.LanguageModelling"},
        "model": {"cell": {"_target_": f"seqmodels.cells.{cell}Cell"}},
    }  # fmt: skip
    if cell == "LRU":
        config["model"]["cell"]["r_min"] = 0.9
    for key, value in settings.items():
        head, _, last = key.partition("__")
        config[head][last] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    rows = [{"step": 100 * (i + 1), "val/loss": v, "val/accuracy": 1 / v}
            for i, v in enumerate(losses)]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines + '{"step": 4', encoding="utf-8")
    metrics = {"val/loss": losses[-1], "val/accuracy": 1 / losses[-1]}
    if test is not None:
        metrics["test/loss"] = test
    record = {
        "status": status, "reason": reason, "seed": seed, "metrics": metrics, "parameters": 1234,
        "best": {}, "tested_step": 100 * (1 + losses.index(min(losses))),
        "wall_time_seconds": 12.5, "peak_memory_mib": 300.0,
        "command": ["seqmodels", "train", "a=b"], "versions": {"torch": versions},
        "data": {"summary": "a book", "digest": "abc"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    for cell, base in (("LSTM", 1.0), ("LRU", 1.4)):
        for seed in (1, 2, 3):
            low = base + 0.01 * seed
            write_run(
                folder / f"{cell}{seed}", cell=cell, seed=seed, losses=(2.0, low, 1.9),
                test=low + 0.1,
            )  # fmt: skip
    write_run(
        folder / "RNN1", cell="RNN", status="failed", losses=(3.0,),
        reason="the loss became nan at step 7",
    )  # fmt: skip
    write_run(folder / "RNN2", cell="RNN", seed=2, status="running", losses=(1.5,))
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "report.csv").read_text(encoding="utf-8"))))


def table_of(folder: Path) -> dict[str, list[str]]:
    """Cells of the Markdown table, by group."""
    text = (folder / "report.md").read_text(encoding="utf-8")
    lines = [
        re.split(r"(?<!\\) \| ", line.strip("| ")) for line in text.splitlines() if "|" in line
    ]
    return {line[0]: line[1:] for line in lines}


def test_groups_differ_in_all_but_the_seed_and_nothing_is_dropped(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(sweep)]) == 0
    capsys.readouterr()
    table = table_of(sweep)
    assert table["group"][:3] == ["n", "val/loss", "test/loss"]
    assert list(table)[2:5] == ["cell=LSTM", "cell=LRU", "cell=RNN"]  # the best first
    low, high = stats.t.interval(0.95, 2, 1.02, stats.sem([1.01, 1.02, 1.03]))
    assert table["cell=LSTM"][:2] == ["3", f"1.020 [{low:.3f}, {high:.3f}]"]
    assert table["cell=RNN"][0] == "0"
    assert table["cell=RNN"][-1] == "1 diverged, 1 running of 2"
    rows = rows_of(sweep)
    assert len(rows) == 8
    lost = [row for row in rows if row["status"] != "finished"]
    assert {row["status"] for row in lost} == {"diverged", "running"}
    assert all(row["value"] == "" for row in lost)
    best = next(row for row in rows if row["run"] == "LSTM2")
    assert (best["value"], best["step"], best["test"]) == ("1.02", "200", "1.12")


def test_the_baseline_is_compared_seed_by_seed(sweep: Path) -> None:
    assert main(["report", str(sweep), "baseline=LRU", f"output={sweep.parent / 'out'}"]) == 0
    table = table_of(sweep.parent / "out")
    assert table["cell=LRU"][3] == "baseline"
    assert table["cell=LSTM"][3].startswith("-0.4") and table["cell=LSTM"][4] == "< 0.001"
    assert not (sweep / "report.html").exists()


def test_more_is_better_of_some_metrics(sweep: Path) -> None:
    assert main(["report", str(sweep), "metric=val/accuracy"]) == 0
    rows = {row["run"]: row for row in rows_of(sweep)}
    assert float(rows["LSTM1"]["value"]) == pytest.approx(1 / 1.01)
    assert next(iter(list(table_of(sweep))[2:])) == "cell=LSTM"


class Page(HTMLParser):
    """Text of a page, what it refers to, and whether its elements close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "hr", "img", "link", "path", "use", "rect", "defs"):
            self.open.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag or tag in ("defs", "path", "use", "rect")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_stands_alone_and_tells_all(sweep: Path) -> None:
    write_run(sweep / "odd", cell="<b>Odd</b>", versions="2.6", test=1.0)
    assert main(["report", str(sweep), "title='Cells & seeds'"]) == 0
    page = Page((sweep / "report.html").read_text(encoding="utf-8"))
    text = " ".join(page.words)
    assert page.open == [] and all(r.startswith("#") for r in page.references)
    assert "Cells & seeds" in text and "cell=<b>Odd</b>" in text
    assert "the loss became nan at step 7" in text
    assert "the runs differ in torch: 2.13, 2.6" in text
    assert text.count("seqmodels train a=b") == 9  # the command of every run
    assert text.count("data digest") == 9


def test_other_tasks_and_data_stand_apart(sweep: Path) -> None:
    write_run(sweep / "other", data__path="other.txt")
    assert main(["report", str(sweep)]) == 0
    text = (sweep / "report.md").read_text(encoding="utf-8")
    assert "## LanguageModelling, TextData, book.txt" in text
    assert "## LanguageModelling, TextData, other.txt" in text


def test_one_seed_twice_and_a_test_of_another_step_are_remarked(tmp_path: Path) -> None:
    write_run(tmp_path / "a", test=1.0)
    other = write_run(tmp_path / "b", test=1.5)
    record = json.loads((other / "run.json").read_text(encoding="utf-8"))
    (other / "run.json").write_text(json.dumps({**record, "tested_step": 300}), encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "b: another run of the same configuration has its seed 1" in text
    assert "b: its test/loss is of step 300" in text


def test_the_words_of_a_sweep_are_its_labels(sweep: Path) -> None:
    jobs = [
        {"run": p.name, "choice": {"model/cell": p.name[:-1].lower(), "seed": p.name[-1]}}
        for p in sorted(sweep.iterdir())
    ]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs}), encoding="utf-8")
    assert main(["report", str(sweep)]) == 0
    assert "cell=lstm" in table_of(sweep)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs directories"),
        (["none"], "none: there is no such directory"),
        (["empty"], "there is no run in it"),
        (["sweep", "metric=val/los"], "did you mean 'val/loss'"),
        (["sweep", "baseline=gru"], "baseline=gru: no group of that name; there are 'cell=L"),
        (["sweep", "baseline=cell"], "baseline=cell: 3 groups of that name"),
        (["sweep", "metrics=val/loss"], "did you mean 'metric'"),
        (["broken"], "run.json cannot be read"),
        (["noconfig"], "config.yaml cannot be read"),
    ],
)
def test_mistakes_are_said_and_nothing_is_written(
    sweep: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(sweep.parent)
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/run.json").write_text("{", encoding="utf-8")
    (write_run(Path("noconfig")) / "config.yaml").unlink()
    assert main(["report", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().rglob("report.*"))


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        ("val/accuracy", True),
        ("val/exact_match_12_steps", True),
        ("test/macro_f1", True),
        ("val/loss", False),
        ("val/mse_100_steps", False),
    ],
)
def test_what_is_better_is_told_by_the_name(metric: str, higher: bool) -> None:
    assert higher_is_better(metric) is higher
