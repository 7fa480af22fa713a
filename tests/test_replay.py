"""Replay: the same run again, and what is told where it is not the same."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import tiny
from seqmodels.cli import main
from seqmodels.commands.replay import Difference, differences


def test_differences_are_of_values_and_not_of_the_clock() -> None:
    was = [{"step": 1, "a": 1.0, "time/x": 3.0}, {"step": 2, "a": 2.0}, {"step": 2, "b": None}]
    assert differences(was, [{"step": 1, "a": 1.0, "time/x": 9.0}, {"step": 2, "a": 2.0}]) == []
    found = differences(was, [{"step": 1, "a": 1.0}, {"step": 2, "a": 2.5}, {"step": 3, "a": 1.0}])
    assert found == [
        Difference(2, "a", 2.0, 2.5), Difference(3, "step", None, 3), Difference(3, "a", None, 1.0)
    ]  # fmt: skip
    assert found[0].relative == pytest.approx(0.2) and found[2].relative == math.inf


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    settings = ("trainer.max_steps=4", "trainer.log_every_n_steps=1", "num_threads=1")
    assert tiny.train(tiny.write_text(folder), folder / "run", *settings) == 0
    return folder / "run"


def test_a_run_again_is_the_same_bit_for_bit(run: Path, capsys: Any, tmp_path: Path) -> None:
    assert main(["replay", f"run={run}", f"run_dir={tmp_path / 'again'}"]) == 0
    said = capsys.readouterr().out
    assert "4 logged steps, 1 to 4" in said and "the same, bit for bit" in said
    assert "differs" not in said
    assert tiny.rows(run) == tiny.rows(tmp_path / "again")


def test_what_changed_is_named_first_and_then_where_it_shows(
    run: Path, capsys: Any, tmp_path: Path
) -> None:
    text = run.parent / "text.txt"
    before = text.read_text(encoding="utf-8")
    record_path = run / "run.json"
    record = record_path.read_text(encoding="utf-8")
    try:
        text.write_text(before.replace("fox", "cat"), encoding="utf-8")
        plain = json.loads(record)
        plain["versions"]["torch"] = "1.0"
        record_path.write_text(json.dumps(plain), encoding="utf-8")
        assert main(["replay", f"run={run}", f"run_dir={tmp_path / 'again'}"]) == 1
        said = capsys.readouterr().out
        assert said.index("differs: torch: 1.0 -> ") < said.index("differs: the data: digest")
        assert "first difference: step 1, train/loss" in said
        # The same numbers pass where so much is allowed.
        words = [f"run={run}", f"run_dir={tmp_path / 'more'}", "tolerance=10"]
        assert main(["replay", *words]) == 0
    finally:
        text.write_text(before, encoding="utf-8")
        record_path.write_text(record, encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "run"),
        (["run=none"], "there is no such directory"),
        (["run={run}", "tolerance=-1"], "tolerance: expected"),
        (["run={run}", "run_dir={run}"], "already holds a run"),
    ],
)
def test_mistakes_are_said(run: Path, words: list[str], said: str, capsys: Any) -> None:
    assert main(["replay", *(word.format(run=run) for word in words)]) == 2
    assert said in capsys.readouterr().err
