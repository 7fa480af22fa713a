"""A label for every word: the generated task, what can be reached in it, and task=tagging."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmodels.cli import main
from seqmodels.data.base import IGNORE, SequenceBatch
from seqmodels.data.synthetic import ContextTagging, SyntheticData
from seqmodels.training.prediction import Tagging
from tiny import record, write_text

THE, FINE, DULL, TERRIBLY, NOT = range(5)


def labels_by_definition(kinds: tuple[int, ...]) -> list[int]:
    """Word by word, each by itself."""

    def sense(place: int) -> int:
        negated = False
        for kind in reversed(kinds[:place]):
            if kind in (FINE, DULL):
                break
            negated = negated or kind == NOT
        return 2 if (kinds[place] == DULL) != negated else 1

    found = []
    for place, kind in enumerate(kinds):
        if kind == TERRIBLY:
            later = [p for p in range(place, len(kinds)) if kinds[p] in (FINE, DULL)]
            found.append(sense(later[0]) if later else 2)
        else:
            found.append(sense(place) if kind in (FINE, DULL) else 0)
    return found


@pytest.mark.parametrize(
    ("kinds", "labels"),
    [
        ((TERRIBLY, FINE), [1, 1]),
        ((TERRIBLY, DULL), [2, 2]),
        ((TERRIBLY, NOT, FINE), [2, 0, 2]),
        ((NOT, TERRIBLY, FINE, FINE), [0, 2, 2, 1]),
        ((NOT, NOT, DULL), [0, 0, 1]),
        ((FINE, TERRIBLY, THE), [1, 2, 0]),
        ((TERRIBLY, THE, TERRIBLY, FINE), [1, 0, 1, 1]),
    ],
)
def test_labels_by_hand(kinds: tuple[int, ...], labels: list[int]) -> None:
    assert ContextTagging.labels(np.array([kinds])).tolist() == [labels]
    assert labels_by_definition(kinds) == labels


def test_what_is_drawn_follows_the_definition() -> None:
    problem = ContextTagging(words=3, polar=0.4, leaning=0.2, negators=0.1)
    batch = problem.draw(np.random.default_rng(0), 2000, 9)
    assert batch.inputs.max() == problem.num_inputs - 1 == 14
    kinds = (batch.inputs // 3).numpy()
    for row, target in zip(kinds[:300], batch.targets[:300], strict=True):
        assert labels_by_definition(tuple(row.tolist())) == target.tolist()
    shares = np.bincount(kinds.ravel(), minlength=5) / kinds.size
    np.testing.assert_allclose(shares, [0.3, 0.2, 0.2, 0.2, 0.1], atol=0.015)


def least(problem: ContextTagging, length: int, seen: str) -> tuple[float, float]:
    """Loss and share of right labels of whoever knows everything but the words that are not seen.

    By going through all sequences.
    """
    rest = 1 - problem.polar - problem.leaning - problem.negators
    shares = [rest, problem.polar / 2, problem.polar / 2, problem.leaning, problem.negators]
    weights: dict[Any, np.ndarray] = defaultdict(lambda: np.zeros(3))
    for kinds in itertools.product(range(5), repeat=length):
        weight = math.prod(shares[kind] for kind in kinds)
        for place, label in enumerate(labels_by_definition(kinds)):
            visible = kinds[: place + 1] if seen == "forwards" else kinds[place:]
            weights[place, kinds if seen == "both" else visible][label] += weight / length
    loss = right = 0.0
    for own in weights.values():
        own = own[own > 0]
        loss -= float((own * np.log(own / own.sum())).sum())
        right += float(own.max(initial=0.0))
    return loss, right


@pytest.mark.parametrize("seen", ["forwards", "backwards", "both"])
@pytest.mark.parametrize("negators", [0.0, 0.15])
@pytest.mark.parametrize("length", [1, 4])
def test_the_optima_are_those_of_all_sequences(seen: str, negators: float, length: int) -> None:
    problem = ContextTagging(words=1, polar=0.35, leaning=0.25, negators=negators)
    found = problem.optima(length)[seen]
    assert found == pytest.approx(least(problem, length, seen), abs=1e-12)


def test_the_optima_are_the_baselines() -> None:
    told = ContextTagging().baselines(20)
    losses = list(told.values())
    assert [name.split(" (")[0] for name in told] == [
        "optimum reading forwards",
        "optimum reading backwards",
        "optimum reading both ways",
    ]
    assert 0.1 < losses[0] < losses[1] and losses[2] == 0.0


def test_several_lengths_count_by_their_words() -> None:
    problem = ContextTagging()
    data = SyntheticData(problem, length=5, valid_lengths=[5, 20])
    told = data.baselines()
    one, two = problem.optima(5)["forwards"], problem.optima(20)["forwards"]
    share = (5 * one[1] + 20 * two[1]) / 25
    name = f"optimum reading forwards ({100 * share:.1f} % right)"
    assert told[name] == pytest.approx((5 * one[0] + 20 * two[0]) / 25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"words": 0}, "words must be >= 1"),
        ({"polar": 0.0}, "polar must lie in"),
        ({"leaning": 1.0}, "leaning must lie in"),
        ({"negators": -0.1}, "negators must lie in"),
        ({"polar": 0.6, "leaning": 0.5}, "expected 1 at most"),
    ],
)
def test_shares_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContextTagging(**settings)


# --- the task ------------------------------------------------------------------------------------


class Given(torch.nn.Module):
    """A model whose answers are the symbols that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(5.0))

    def forward(self, inputs: torch.Tensor, state: Any = None, lengths: Any = None) -> Any:
        return self.scale * torch.nn.functional.one_hot(inputs, 3).float(), state


class ThreeClasses:
    targets = "classes"
    class_names = ("a", "b", "c")

    def train_loader(self) -> list[int]:
        return [1]


def test_accuracy_is_by_step_and_by_sequence() -> None:
    task = Tagging(
        Given(),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        schedule=None,  # type: ignore[arg-type]
        clip=type("NoClip", (), {"attach": lambda self, model: None})(),
        data=ThreeClasses(),  # type: ignore[arg-type]
    ).eval()
    task._start_evaluation()
    inputs = torch.tensor([[0, 1, 2, 0], [1, 1, 0, 0], [2, 2, 2, 1]])
    targets = torch.tensor([[0, 1, 2, 0], [1, 0, IGNORE, IGNORE], [2, 2, 2, IGNORE]])
    task.step(SequenceBatch(inputs, targets, torch.tensor([4, 2, 3])), None)
    values = task.metrics("val", 1.0)
    assert values["accuracy"] == pytest.approx(8 / 9)
    assert values["sequence_accuracy"] == pytest.approx(2 / 3)
    assert task.confusion is not None
    assert task.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 4]]
    assert values["macro_f1"] == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)


SMALL = (
    "data.batches=3", "data.batch_size=4", "data.valid_sequences=6", "data.test_sequences=6",
    "data.length=5", "model.layers.hidden_size=3", "trainer.max_steps=2",
    "trainer.val_check_interval=1", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false", "logger=none", "num_threads=1",
)  # fmt: skip


def test_context_tagging_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", "experiment=context_tagging", f"run_dir={run}", *SMALL]) == 0
    said = capsys.readouterr().out
    assert said.count("baseline optimum reading forwards (") == 2
    made = record(run)
    assert made["steps"] == 2 and (run / "confusion.png").exists()
    assert {"test/sequence_accuracy", "test/macro_f1", "test/accuracy"} <= set(made["metrics"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.pooling=mean",), "set model.pooling=none"),
        (("data=adding", "model=prediction_real"), "task=regression"),
    ],
)
def test_what_is_no_tagging_is_refused(
    overrides: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "experiment=context_tagging", *SMALL, *overrides]
    assert main([*arguments, f"run_dir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


def test_bidirectional_layers_are_refused_for_language_modelling_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_text(tmp_path)
    arguments = ["train", f"data.path={path}", "model/layers=bidirectional", "num_threads=1"]
    assert main([*arguments, "model.layers.hidden_size=3", f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "predicts each next token from those before it" in said
    assert "reads the later ones too" in said and "model/layers=plain" in said
    assert not (tmp_path / "run").exists()
