"""Runs with what regularises a recurrence: they train, evaluate the same each time, and resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqmodels.cells import GRUCell
from seqmodels.cli import main
from seqmodels.layers import Stacked
from seqmodels.models.prediction import LinearHead
from seqmodels.training.activation import ActivationPenalty
from test_resume import SETTINGS, check_stop, stop_after
from tiny import record, rows, train, write_text

__all__ = ["stop_after"]  # a fixture

LAYER = "model.layers.layer."
OPTIONS = {
    "zoneout": (f"{LAYER}zoneout=0.2", f"{LAYER}learned_state=true"),
    "weight drop": (f"{LAYER}weight_drop=0.3", f"{LAYER}noise=0.1", f"{LAYER}recompute=sqrt"),
    "penalties": (
        "task.ar=0.5", "task.tar=0.5", "model.head.dropout=0.2",
        "model/cell=delay", "model.layers.dilation=[1,2]",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(extra, id=name, marks=[] if name == "penalties" else [pytest.mark.slow])
        for name, extra in OPTIONS.items()
    ],
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, stop_after: Any, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    check_stop(tmp_path, stop_after, monkeypatch, 7, (*extra, "optimizer.lr=0.02"))
    losses = [row["train/loss"] for row in rows(tmp_path / "whole") if "train/loss" in row]
    assert losses[-1] < losses[0] - 0.05
    if extra != OPTIONS["zoneout"]:
        return
    whole = tmp_path / "whole"
    for _ in range(2):
        assert main(["eval", f"run={whole}", "checkpoint=last"]) == 0
    lines = (whole / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
    first, second = (json.loads(line)["metrics"] for line in lines)
    assert first == second


def test_penalties_are_logged_and_no_part_of_the_loss(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    extra = (*SETTINGS, "trainer.max_steps=4", "trainer.val_check_interval=4")
    assert train(text, tmp_path / "plain", *extra) == 0
    assert train(text, tmp_path / "with", *extra, "task.ar=1.0", "task.tar=0.5") == 0
    with_, plain = (record(tmp_path / run)["metrics"] for run in ("with", "plain"))
    assert 0 < with_["train/tar"] < 1 and 0 < with_["train/ar"] < 1
    assert "train/ar" not in plain and "train/tar" not in plain
    # After four small steps the losses are near each other, the penalty in none of them.
    assert abs(with_["train/loss"] - plain["train/loss"]) < 0.05
    assert train(text, tmp_path / "no", *extra, "task.ar=-1.0") == 2


class Model(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.backbone = Stacked(3, cell=GRUCell, hidden_size=4)
        self.head = LinearHead(4, 2, dropout=dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.head(self.backbone(x, None, lengths)[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 1, 3])], ids=["full", "lengths"])
def test_the_penalties_are_their_formulas(lengths: Tensor | None) -> None:
    torch.manual_seed(0)
    model, x = Model(0.5).double(), torch.randn(3, 5, 3, dtype=torch.float64)
    penalty = ActivationPenalty(model, 2.0, 0.5)
    torch.manual_seed(1)
    model(x, lengths)
    found = penalty.terms()
    torch.manual_seed(1)
    hidden = model.backbone(x, None, lengths)[0]
    dropped = model.head.dropout(hidden)
    own = [5, 5, 5] if lengths is None else lengths.tolist()
    squares = [dropped[b, t].square() for b in range(3) for t in range(own[b])]
    moves = [(hidden[b, t] - hidden[b, t - 1]).square() for b in range(3) for t in range(1, own[b])]
    torch.testing.assert_close(found["ar"], 2.0 * torch.stack(squares).mean())
    torch.testing.assert_close(found["tar"], 0.5 * torch.stack(moves).mean())
    penalty.terms()
    model.eval()
    model(x, lengths)
    assert penalty._hidden is None and penalty._dropped is None


def test_weights_and_models_that_do_not_fit_are_refused() -> None:
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="tar must be a finite weight >= 0"):
            ActivationPenalty(Model(0.0), 0.0, weight)
    with pytest.raises(ValueError, match="Linear has none: set them to 0"):
        ActivationPenalty(nn.Linear(2, 2), 1.0, 0.0)
    assert ActivationPenalty(nn.Linear(2, 2), 0.0, 0.0).terms() == {}
