"""What `seqmodels bench` measures, writes and says; nothing here depends on how long it takes."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import faulty_cells
from cell_cases import CASES, Case
from seqmodels.analysis import bench_table
from seqmodels.analysis.bench import Plan, bench, nearest, slope
from seqmodels.analysis.bench_worker import Job, measure
from seqmodels.analysis.memory import peak_rise
from seqmodels.analysis.timing import Pairs, interleave
from seqmodels.cells import GRUCell, LSTMCell, RNNCell
from seqmodels.cli import main

SIGMOID = partial(RNNCell, nonlinearity="sigmoid")


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(before)


def plan(cells: dict[str, Any], **settings: Any) -> Plan:
    given: dict[str, Any] = {
        "engines": ["native", "eager"],
        "shapes": [(3, 2, 2, 4), (2, 3, 1, 2)],
        "pairs": 1,
        "memory": False,
        "cold": False,
        "separate": False,
    }
    return Plan(cells=cells, **(given | settings))


def rows(of: Plan) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"rows": [], "linear": []}
    for kind, row in bench(of):
        found[kind].append(row)
    return found


def content(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "machine": {"processor": "an abacus", "cpu_count": 2, "platform": "Linux"},
        "versions": {"torch": "2"},
        "threads": 1,
        "dtype": "float32",
        "seed": 0,
        "date": "today",
        "interrupted": False,
        **found,
    }


# ------------------------------------------------------------------------------- measuring


def test_a_row_for_each_cell_engine_and_shape() -> None:
    names: list[str] = []
    cells = {"lstm": LSTMCell, "sigmoid": SIGMOID}
    found = [row for _, row in bench(plan(cells), starting=names.append)]
    assert [(r["cell"], r["engine"], r["shape"]) for r in found] == [
        (cell, engine, shape)
        for cell in cells
        for engine in ("native", "eager")
        for shape in ([3, 2, 2, 4], [2, 3, 1, 2])
    ]
    assert len(names) == len(found)
    for row in found:
        if (row["cell"], row["engine"]) == ("sigmoid", "native"):
            assert row["reason"] == "torch has no kernel for an RNN with nonlinearity='sigmoid'"
            continue
        assert row["reason"] is None
        assert row["engine_used"] == row["engine"]
        for part in (row["forward"], row["step"]):
            assert part["pairs"] == 1
            assert part["ratio"] == part["seconds"] / part["reference_seconds"]
            assert len(part["quartiles"]) == 2
    json.dumps(found, allow_nan=False)


def test_the_cost_against_length() -> None:
    of = plan({"gru": GRUCell}, engines=["eager"], shapes=[])
    found = rows(Plan(**{**vars(of), "linear_shape": (2, 1, 3), "linear_steps": [4, 2]}))
    (row,) = found["linear"]
    assert row["steps"] == [2, 4]
    assert row["shape"] == [2, 1, 3]
    assert row["slope"] == slope(row["steps"], row["seconds"])


def test_slope_of_powers() -> None:
    lengths = [10.0, 20.0, 50.0]
    assert slope(lengths, [3 * t for t in lengths]) == pytest.approx(1)
    assert slope(lengths, [t**2 for t in lengths]) == pytest.approx(2)


def test_a_cell_that_raises_is_a_row_with_its_words() -> None:
    (row,) = rows(plan({"odd": faulty_cells.Raises}, engines=["eager"]))["rows"]
    assert "the projector" in row["reason"]
    assert bench_table.tables(content({"rows": [row], "linear": []})).count("the projector") == 1
    told = rows(plan({"odd": faulty_cells.WrongShapes}, engines=["eager"]))["rows"]
    assert all("RuntimeError" in row["reason"] for row in told)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_cell_has_a_nearest_kind(case: Case) -> None:
    assert nearest(case.make) in ("lstm", "gru", "rnn")


def test_the_nearest_kind() -> None:
    kinds = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}
    assert {nearest(cell) for cell in kinds.values()} == set(kinds)
    for name, cell in kinds.items():
        assert nearest(cell) == name
    (row,) = rows(plan({"rnn": RNNCell}, reference="gru", shapes=[(1, 1, 1, 1)],
                       engines=["auto"]))["rows"]  # fmt: skip
    assert row["reference"] == "gru"
    assert row["engine_used"] == "native"
    with pytest.raises(ValueError, match="reference: expected one of lstm, gru, rnn, got 'x'"):
        plan({"rnn": RNNCell}, reference="x")


def test_what_needs_a_process_of_its_own_says_so() -> None:
    with pytest.raises(ValueError, match="separate=True"):
        plan({"rnn": RNNCell}, memory=True)


def test_pairs_alternate_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    found = interleave(lambda: calls.append("a"), lambda: calls.append("b"), seconds=9.0, pairs=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert len(found.ours) == len(found.theirs) == 3
    few = interleave(lambda: None, lambda: None, seconds=1e-12)
    assert len(few.ours) == 3  # the least, whatever the time


def test_the_ratio_is_that_of_the_medians() -> None:
    pairs = Pairs((1.0, 9.0, 2.0), (4.0, 4.0, 8.0))
    assert pairs.ratio == 2.0 / 4.0
    assert pairs.quartiles() == (0.25, 1.25)
    assert Pairs((1.0,), (4.0,)).quartiles() == (0.25, 0.25)


needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs /proc/self/clear_refs"
)


@needs_linux
def test_the_peak_counts_what_is_freed_again() -> None:
    size = 64 * 2**20

    def call() -> None:
        torch.ones(size, dtype=torch.uint8).sum()

    assert size <= peak_rise(call) + 2**20
    assert peak_rise(lambda: None) < size / 4


@needs_linux
def test_memory_grows_with_the_length() -> None:
    def job(steps: int, factory: Any) -> Job:
        shape = (steps, 32, 8, 64)
        return Job("memory", factory, "eager", "lstm", shape, "float32", 1, 1.0, 1)

    # A gate of every step is kept: at least T·B·4H numbers of 4 bytes.
    for factory in (LSTMCell, None):
        answer = measure(job(300, factory))
        assert answer["bytes"] > 300 * 32 * 4 * 64 * 4


# ------------------------------------------------------------------------------------ table


def test_the_table_has_every_row_and_the_geometric_means() -> None:
    found = rows(plan({"lstm": LSTMCell, "sigmoid": SIGMOID}, linear_shape=(1, 1, 2),
                      linear_steps=[1, 2]))  # fmt: skip
    for row, ratio in zip(found["rows"][:2], (2.0, 0.5), strict=True):
        row["step"]["ratio"] = ratio
        row["memory"] = {
            "reason": None, "ratio": ratio, "bytes": 2**20, "reference_bytes": 2**19,
            "later_first_call_s": 0.1,
        }  # fmt: skip
    text = bench_table.tables(content(found))
    lines = text.splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == 3 * 2 + 3 + 8 + 4  # heads; means, rows, lengths
    mean = next(line for line in tables if line.startswith("| lstm | native | nn.LSTM"))
    cells = [cell.strip() for cell in mean.strip("|").split("|")]
    assert cells[5:8] == ["1.00", "2.00", "1.00"]
    assert text.count("torch has no kernel for an RNN") == 3
    widths = {line.count("|") for line in tables}
    assert widths == {11, 6}
    assert "an abacus, 2 cores" in lines[0]
    assert "Interrupted" not in text
    cut = bench_table.tables({**content(found), "interrupted": True})
    assert "Interrupted" in cut


def test_geometric_mean() -> None:
    assert bench_table.geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert math.isnan(bench_table.geometric_mean([]))


def test_a_page_keeps_its_text() -> None:
    empty = content({"rows": [], "linear": []})
    page = bench_table.document(empty, None)
    assert page.startswith("# ")
    written = f"before\n{bench_table.BEGIN}\nold\n{bench_table.END}\nafter\n"
    found = bench_table.document(empty, written)
    assert found.startswith("before\n")
    assert found.endswith("\nafter\n")
    assert "old" not in found
    assert bench_table.document(empty, page) == page
    with pytest.raises(ValueError, match="no place for the tables"):
        bench_table.document(empty, "my notes")


# -------------------------------------------------------------------------------- the command

TINY = [
    "cells=[gru,'rnn nonlinearity=relu']", "engines=[eager]", "shapes=[[2,2,2,2]]", "pairs=1",
    "num_threads=1", "memory=false", "cold=false", "linear_shape=null",
]  # fmt: skip


@pytest.mark.slow
def test_the_command_in_processes_of_its_own(tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "deep" / "bench.json"
    words = [w for w in TINY if not w.startswith(("cells", "memory"))]
    assert main(["bench", *words, "cells=['rnn nonlinearity=relu']", f"output={output}"]) == 0
    told = json.loads(output.read_text())
    assert {"format", "date", "machine", "versions", "threads", "dtype", "seed", "rows"} <= set(
        told
    )
    (row,) = told["rows"]
    assert (row["cell"], row["engine"], row["reason"]) == ("rnn nonlinearity=relu", "eager", None)
    assert {"bytes", "reference_bytes", "ratio"} <= set(row["memory"]) or row["memory"]["reason"]
    table = output.with_suffix(".md")
    assert "| rnn nonlinearity=relu | eager | 2,2,2,2 |" in table.read_text()
    assert "training step ×" in capsys.readouterr().err
    page = tmp_path / "page.md"
    again = ["bench", "measure=false", f"output={output}", f"table={page}"]
    assert main(again) == 0
    assert page.read_text() == table.read_text()


def test_an_interrupt_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(of: Plan, starting: Any) -> Any:
        yield from list(bench(Plan(**{**vars(of), "separate": False})))[:1]
        raise KeyboardInterrupt

    monkeypatch.setattr("seqmodels.analysis.bench.bench", interrupted)
    output = tmp_path / "bench.json"
    assert main(["bench", *TINY, f"output={output}"]) == 130
    told = json.loads(output.read_text())
    assert told["interrupted"] is True
    assert [row["cell"] for row in told["rows"]] == ["gru"]
    assert "Interrupted" in output.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cells=[lstmm]"], "did you mean"),
        (["cells=['lstm peepholes=true']"], "peepholes"),
        (["engines=[egaer]"], "did you mean 'eager'"),
        (["shapes=[[1,2,3]]"], "shapes.0: expected [T,B,I,H]"),
        (["shapes=3"], "shapes: expected a list"),
        (["linear_shape=[0,1,1]"], "linear_shape: expected [B,I,H]"),
        (["dtype=int8"], "dtype: expected one of"),
        (["reference=mamba"], "reference: expected one of"),
        (["seconds=-1", "pairs=0"], "2 problems"),
        (["measure=false", "output=nowhere.json"], "output=nowhere.json: No such file"),
        (["table=notes.md"], "table=notes.md: it exists and has no place"),
    ],
)
def test_a_wrong_setting_is_status_2_before_anything_is_measured(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("mine\n")
    given = [w for w in TINY if w.split("=")[0] not in {v.split("=")[0] for v in words}]
    assert main(["bench", *given, *words]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""
    assert (tmp_path / "notes.md").read_text() == "mine\n"
