"""Budgets: the widest layers that keep to them, for any cell; and what cannot be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from seqmodels.cli import main
from seqmodels.commands import building
from seqmodels.commands.budget import _measured, with_width, within_budget
from seqmodels.config import check, compose
from seqmodels.errors import UserError

CELLS = ("rnn", "lstm", "gru", "min_gru", "lru", "reservoir model.cell.density=1.0")


def composed(path: Path, *overrides: str) -> Any:
    words = [w for w in tiny.tiny(path, path.parent / "run", *overrides)[1:] if "run_dir" not in w]
    cfg = compose("train", words)
    check(cfg)
    return cfg


@pytest.mark.parametrize(("budget", "most"), [("parameters", 5000), ("state", 50), ("flops", 9000)])
@pytest.mark.parametrize("cell", CELLS)
def test_the_width_is_the_largest_within_the_budget(
    tmp_path: Path, cell: str, budget: str, most: int
) -> None:
    path = tiny.write_text(tmp_path)
    cfg = composed(path, *f"model/cell={cell}".split(), f"budget.{budget}={most}")
    found = within_budget(cfg)
    width = found.model.layers.hidden_size
    data = building.build_data(cfg)

    def cost(width: int) -> int:
        return _measured(budget, building.build_model(with_width(cfg, width), data), data)

    assert cost(width) <= most < cost(width + 1)
    assert cfg.model.layers.hidden_size == 8  # the given configuration is as it was


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (["model/cell=clockwork", "model.cell.periods=[1,2,4,8,16]"], 1),
        (["model/cell=slstm", "model.cell.num_heads=3"], 3),
        (["model/cell=delay"], 1),
    ],
)
def test_widths_that_a_cell_refuses_are_passed_over(
    tmp_path: Path, words: list[str], step: int
) -> None:
    cfg = composed(tiny.write_text(tmp_path), *words, "budget.parameters=6000")
    width = within_budget(cfg).model.layers.hidden_size
    data = building.build_data(cfg)

    def cost(width: int) -> int:
        return _measured("parameters", building.build_model(with_width(cfg, width), data), data)

    assert width % step == 0
    assert cost(width) <= 6000 < cost(width + step)


def test_the_fewest_units_that_a_cell_admits_may_cost_too_much(tmp_path: Path) -> None:
    path = tiny.write_text(tmp_path)
    with pytest.raises(UserError, match="with 4 units, the fewest that it admits, a layer"):
        within_budget(composed(path, "model/cell=clockwork", "budget.state=3"))
    with pytest.raises(UserError, match="distinct whole numbers"):
        words = ("model/cell=clockwork", "model.cell.periods=[4,2]", "budget.state=300")
        within_budget(composed(path, *words))


def test_flops_of_the_products_are_counted(tmp_path: Path) -> None:
    cfg = composed(tiny.write_text(tmp_path), "model/cell=rnn", "budget.flops=1000000")
    data = building.build_data(cfg)
    symbols = len(data.vocabulary or ())
    found = _measured("flops", building.build_model(with_width(cfg, 10), data), data)
    # Two operations a weight: U (10 × 6), W (10 × 10), V (symbols × 10); biases are no products.
    assert found == pytest.approx(2 * (60 + 100 + 10 * symbols), rel=0.05)


def test_a_run_keeps_its_width_and_says_it(tmp_path: Path, capsys: Any) -> None:
    path, run = tiny.write_text(tmp_path), tmp_path / "run"
    extra = ("budget.parameters=3000", "model.head.tie_weights=true", "trainer.max_steps=2")
    assert tiny.train(path, run, *extra) == 0
    assert "budget: model.layers.hidden_size=" in capsys.readouterr().out
    stored = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    width = stored["model"]["layers"]["hidden_size"]
    assert stored["model"]["embedding"]["size"] == width and stored["budget"]["parameters"] == 3000
    assert 2000 < tiny.record(run)["parameters"] <= 3000
    assert main(["eval", f"run={run}"]) == 0
    more = ("budget.parameters=3000", "model.head.tie_weights=true", "trainer.max_steps=4")
    assert tiny.train(path, run, *more, "resume=true") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["budget.parameters=20"], "with one unit a layer this model already has"),
        (["budget.parameters=0"], "budget.parameters: expected at least 1 or null, got 0"),
        (["budget.parameters=9", "budget.state=9"], "expected one of parameters, state, flops"),
        (["budget.parameter=9"], "did you mean"),
        (["budget.state=1000000000000"], "65,536 units, the widest that are tried, have only"),
    ],
)
def test_budgets_that_cannot_be_kept(
    tmp_path: Path, words: list[str], said: str, capsys: Any
) -> None:
    assert tiny.train(tiny.write_text(tmp_path), tmp_path / "run", *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
