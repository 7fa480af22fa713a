"""Generated data: the definitions; batches depend on their number alone; training on it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmodels.cli import main
from seqmodels.config import check, compose, config_dir
from seqmodels.data import IGNORE, SequenceBatch
from seqmodels.data.base import Loader
from seqmodels.data.synthetic import Adding, CopyMemory, Problem, SyntheticData, TemporalOrder
from seqmodels.locations import config_groups
from seqmodels.training.callbacks.checkpoint import Checkpoint
from tiny import checkpoint, record, rows

PROBLEMS: list[Problem] = [TemporalOrder(), TemporalOrder(relevant=3), Adding(), CopyMemory()]
each_problem = pytest.mark.parametrize(
    "problem", PROBLEMS, ids=["order2", "order3", "adding", "copy"]
)


def drawn(problem: Problem, count: int, length: int, seed: int = 0) -> SequenceBatch:
    return problem.draw(np.random.default_rng(seed), count, length)


def same(a: SequenceBatch, b: SequenceBatch) -> bool:
    return torch.equal(a.inputs, b.inputs) and torch.equal(
        a.targets.nan_to_num(-1.0), b.targets.nan_to_num(-1.0)
    )


# --- the definitions -----------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, 11, 57, 100])
@pytest.mark.parametrize(
    ("relevant", "windows"),
    [(2, [(0.1, 0.2), (0.4, 0.5)]), (3, [(0.1, 0.2), (0.3, 0.4), (0.6, 0.7)])],
)
def test_temporal_order_is_as_defined(
    length: int, relevant: int, windows: list[tuple[float, float]]
) -> None:
    inputs, targets, _ = drawn(TemporalOrder(relevant=relevant), 400, length)
    assert inputs.shape == targets.shape == (400, length)
    assert (targets[:, :-1] == IGNORE).all()
    seen: list[set[int]] = [set() for _ in windows]
    for row, target in zip(inputs.tolist(), targets[:, -1].tolist(), strict=True):
        steps = [t for t, symbol in enumerate(row) if symbol >= 4]
        assert len(steps) == relevant
        assert target == int("".join(str(row[t] - 4) for t in steps), 2)
        for step, found in zip(steps, seen, strict=True):
            found.add(step)
    for found, (first, last) in zip(seen, windows, strict=True):
        inside = {t for t in range(length) if first * length - 1e-9 <= t <= last * length + 1e-9}
        assert found == inside  # 400 draws of at most 11 places


@pytest.mark.parametrize("relevant", [2, 3])
def test_classes_and_noise_are_uniform(relevant: int) -> None:
    count = 8000
    inputs, targets, _ = drawn(TemporalOrder(relevant=relevant), count, 20)
    classes = torch.bincount(targets[:, -1], minlength=2**relevant) / count
    deviation = math.sqrt(0.25 / count)
    assert classes.shape == (2**relevant,)
    assert (classes - 0.5**relevant).abs().max() < 4 * deviation
    noise = torch.bincount(inputs[inputs < 4]) / (inputs < 4).sum()
    assert (noise - 0.25).abs().max() < 4 * math.sqrt(0.19 / (inputs < 4).sum())


def test_adding_is_as_defined_and_its_guess_has_the_exact_loss() -> None:
    inputs, targets, _ = drawn(Adding(), 20000, 11)
    assert inputs.dtype == targets.dtype == torch.float32
    values, marks = inputs.unbind(2)
    assert ((values >= 0) & (values < 1)).all()
    assert (marks[:, :5].sum(1) == 1).all() and (marks[:, 5:].sum(1) == 1).all()
    assert targets[:, :-1].isnan().all()
    sums = (values * marks).sum(1)
    assert torch.allclose(targets[:, -1, 0], sums)
    (guess,) = Adding().baselines(11).values()
    # The mean over n squares of a triangular variable has a deviation of 0.197 / √n.
    assert (sums - 1).square().mean().item() == pytest.approx(guess, abs=4 * 0.2 / 20000**0.5)


def test_copy_memory_is_as_defined() -> None:
    problem = CopyMemory(items=3, alphabet=4)
    inputs, targets, _ = drawn(problem, 50, 5)
    assert inputs.shape == targets.shape == (50, 5 + 6)
    assert (inputs[:, :3] < 4).all() and set(inputs[:, :3].flatten().tolist()) == {0, 1, 2, 3}
    assert inputs[0, 3:].tolist() == [4, 4, 4, 4, 5, 4, 4, 4]
    assert torch.equal(targets[:, -3:], inputs[:, :3]) and (targets[:, :-3] == 4).all()
    assert CopyMemory().baselines(100) == {"without memory": pytest.approx(10 * math.log(8) / 120)}


def test_chance_is_what_a_uniform_answer_loses() -> None:
    assert TemporalOrder().baselines(50) == {"chance (1 in 4 right)": pytest.approx(math.log(4))}


# --- the data ------------------------------------------------------------------------------------


@each_problem
def test_a_batch_depends_on_seed_and_number_alone(problem: Problem) -> None:
    def batches(seed: int) -> list[SequenceBatch]:
        data = SyntheticData(problem, length=[20, 30], batch_size=4, batches=3, seed=seed)
        loader = data.train_loader()
        np.random.seed(0)  # noqa: NPY002 - and on no global generator
        torch.rand(3)
        return [batch for _ in range(2) for batch in loader]

    one, other = batches(1), batches(1)
    assert all(map(same, one, other))
    # New ones all the time, of another seed other ones.
    assert not any(same(a, b) for a, b in itertools.combinations(one + batches(2), 2))


def test_lengths_of_training_cover_their_range() -> None:
    data = SyntheticData(TemporalOrder(), length=[20, 24], batch_size=2, batches=200)
    assert {b.inputs.shape[1] for b in data.train_loader()} == {20, 21, 22, 23, 24}
    assert {b.inputs.shape[1] for b in data.valid_loader()} == {20, 24}


def test_a_training_set_may_be_finite() -> None:
    loader = SyntheticData(Adding(), length=8, batches=3, repeat=True).train_loader()
    first, second = list(loader), list(loader)
    assert len(first) == 3 and all(map(same, first, second))
    assert not same(first[0], first[1])


def rebatched(loader: Loader, length: int) -> torch.Tensor:
    return torch.cat([b.inputs for b in loader if b.inputs.shape[1] == length])


def test_validation_and_test_are_fixed_whatever_seed_and_batch() -> None:
    def data(seed: int, size: int) -> SyntheticData:
        return SyntheticData(
            TemporalOrder(),
            length=20,
            valid_lengths=[20, 30],
            test_lengths=[20, 50],
            valid_sequences=7,
            test_sequences=7,
            eval_batch_size=size,
            seed=seed,
        )

    one, other = data(0, 3), data(5, 100)
    assert len(one.valid_loader()) == 6 and len(other.valid_loader()) == 2
    for length in (20, 30):
        sets = [rebatched(d.valid_loader(), length) for d in (one, other)]
        assert torch.equal(*sets) and len(sets[0]) == 7
    loader = one.test_loader()
    next(iter(loader))  # a pass that was broken off
    assert torch.equal(rebatched(loader, 50), rebatched(other.test_loader(), 50))
    assert not torch.equal(rebatched(one.valid_loader(), 20), rebatched(one.test_loader(), 20))


def test_a_loader_goes_on_where_another_stopped() -> None:
    data = SyntheticData(TemporalOrder(), length=[10, 20], batch_size=2, batches=4)
    whole = data.train_loader()
    wanted = [b for _ in range(3) for b in whole]
    for stop in range(1, 12):
        first, second = data.train_loader(), data.train_loader()
        got = list(itertools.islice((b for _ in range(3) for b in first), stop))
        second.load_state_dict(first.state_dict())
        while len(got) < 12:
            got += list(second)
        assert all(map(same, got, wanted)) and len(got) == 12


def test_the_record_tells_data_apart() -> None:
    def digest(problem: Problem, **settings: Any) -> str:
        return str(SyntheticData(problem, **settings).describe()["digest"])

    order = TemporalOrder()
    digests = [
        digest(order),
        digest(order, seed=1),
        digest(order, eval_seed=1),
        digest(order, length=101),
        digest(order, length=[50, 100]),
        digest(order, test_lengths=[500]),
        digest(order, batch_size=21),
        digest(order, test_sequences=10),
        digest(TemporalOrder(relevant=3)),
        digest(CopyMemory()),
        digest(CopyMemory(items=9)),
    ]
    assert len(set(digests)) == len(digests)
    assert digest(order) == digest(order, eval_batch_size=3)
    described = SyntheticData(order).describe()
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 9}, "data.length"),
        ({"length": [60, 50]}, "data.length"),
        ({"length": [50, 60, 70]}, "data.length"),
        ({"test_lengths": [100, 5]}, "data.test_lengths"),
        ({"valid_lengths": []}, "data.valid_lengths"),
        ({"test_lengths": [50, 50]}, "different lengths"),
        ({"batch_size": 0}, "data.batch_size"),
        ({"batches": 0}, "data.batches"),
        ({"seed": -1}, "data.seed"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticData(TemporalOrder(), **settings)


def test_impossible_problems_are_named() -> None:
    with pytest.raises(ValueError, match="relevant"):
        TemporalOrder(relevant=4)
    with pytest.raises(ValueError, match="alphabet"):
        CopyMemory(alphabet=1)


# --- training ------------------------------------------------------------------------------------

SMALL = (
    "data.batches=5",
    "data.valid_sequences=20",
    "data.test_sequences=20",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.log_every_n_steps=2",
    "logger=none",
    "~callbacks.curves",
)
ORDER = ("model=prediction", "data=temporal_order", "task=classification", "data.length=[10,12]")
TASKS = {
    "temporal_order": ORDER,
    "adding": ("model=prediction_real", "data=adding", "task=regression", "data.length=8"),
    "copy_memory": ("model=prediction", "data=copy_memory", "task=classification", "data.length=3"),
}


def small(run_dir: Path, *overrides: str) -> list[str]:
    sizes = ("model.layers.hidden_size=8", "trainer.max_steps=7", "trainer.val_check_interval=3")
    return ["train", f"run_dir={run_dir}", *SMALL, *sizes, *overrides]


@pytest.mark.parametrize("name", TASKS)
def test_every_problem_trains_and_is_evaluated(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(tmp_path / "run", *TASKS[name], "data.test_lengths=[12,20]")) == 0
    content = record(tmp_path / "run")
    (baseline,) = content["baselines"]
    printed = capsys.readouterr().out
    assert printed.count(f"baseline {baseline}") == 2
    unit = "squared error" if name == "adding" else "nats"
    assert f"{unit} on the validation data" in printed
    metrics = content["metrics"]
    assert {"test/accuracy", "test/errors", "test/solved_length", "val/loss"} <= set(metrics)
    by_length = [v for k, v in metrics.items() if k.startswith("test/errors_")]
    assert len(by_length) == 2 and sum(by_length) == metrics["test/errors"] <= 40
    assert "train/errors" not in metrics and "train/loss" in metrics
    assert main(["eval", f"run={tmp_path / 'run'}", "batch_size=7"]) == 0
    row = json.loads((tmp_path / "run" / "evaluations.jsonl").read_text())
    for key, value in row["metrics"].items():
        assert value == pytest.approx(metrics[key], rel=1e-5), key
    assert main(["eval", f"run={tmp_path / 'run'}", "data.test_lengths=[30]"]) == 0
    assert "length 30" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["temporal_order", "gradient_by_lag", "exploding"])
def test_the_experiments_take_two_steps(name: str, tmp_path: Path) -> None:
    small = ("trainer.max_steps=2", "data.batch_size=2")
    assert main(["train", f"run_dir={tmp_path / 'run'}", f"experiment={name}", *SMALL, *small]) == 0
    assert record(tmp_path / "run")["steps"] == 2


@pytest.mark.parametrize("name", ["temporal_order", "gradient_by_lag", "exploding"])
@pytest.mark.parametrize("clip", config_groups([config_dir()])["clip"])
def test_the_experiments_take_every_policy(name: str, clip: str) -> None:
    check(compose("train", [f"experiment={name}", f"clip={clip}"]))


def test_the_loss_explodes_without_clipping_and_not_with_it(tmp_path: Path) -> None:
    small = ("experiment=exploding", *SMALL, "trainer.max_steps=10", "num_threads=1")
    assert main(["train", f"run_dir={tmp_path / 'none'}", *small]) == 1
    assert record(tmp_path / "none")["status"] == "failed"
    assert main(["train", f"run_dir={tmp_path / 'norm'}", *small, "clip=norm"]) == 0


@pytest.mark.parametrize("step", [3])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Epochs have 5 batches, validations come at 3 and 6."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = (*ORDER, "callbacks.checkpoint.every_n_steps=1")
    assert main(small(whole, *settings)) == 0
    original = Checkpoint.on_train_batch_end

    def hook(self: Checkpoint, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step >= step and self.stop is not None:
            self.stop.requested = "SIGINT"
        original(self, trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_train_batch_end", hook)
        assert main(small(cut, *settings)) == 130
    assert main(small(cut, *settings, "resume=true")) == 0
    assert rows(whole) == rows(cut)
    weights = [checkpoint(run)["state_dict"] for run in (whole, cut)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("data=temporal_order",), "model=prediction"),
        (("model=prediction",), "model=sequence"),
        (("model=prediction", "data=adding"), "model=prediction_real"),
        (("model=prediction_real", "data=temporal_order"), "model=prediction"),
        (("model=prediction", "data=temporal_order", "task=regression"), "task=classification"),
        (("task=classification",), "task=language_model"),
        (("data=temporal_order", "model=prediction"), "task=classification"),
        (("data=temporal_order", "model=prediction", "data.length=5"), "at least 10"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    overrides: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"run_dir={tmp_path / 'run'}", *overrides]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_model_without_text_writes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(tmp_path / "run", *ORDER)) == 0
    assert main(["sample", f"run={tmp_path / 'run'}"]) == 2
    assert "not a model of text" in capsys.readouterr().err
