"""Ridge regression from a stream, the task around it, and runs on a model's own outputs."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmodels.analysis.ridge import RidgeStream, Solver
from seqmodels.cells import ReservoirCell
from seqmodels.cli import main
from seqmodels.data.series import Echo, SeriesData, Sines
from seqmodels.layers import Stacked
from seqmodels.models import EchoStateModel
from seqmodels.training.series_scores import Scores, free_run, free_runs, free_scores, start_left

SOLVERS: list[Solver] = ["gram", "qr"]


def rows(count: int = 200, features: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(count, features, generator=generator, dtype=torch.float64) + 3
    y = z[:, :2] * torch.tensor([2.0, -1.0]) + 5
    return z, y + 0.1 * torch.randn(count, 2, generator=generator, dtype=torch.float64)


def by_hand(z: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    zc, yc = z - z.mean(0), y - y.mean(0)
    v = torch.linalg.solve(zc.T @ zc + penalty * torch.eye(z.shape[1]).double(), zc.T @ yc).T
    return v, y.mean(0) - v @ z.mean(0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("pieces", [[200], [1, 99, 3, 97]])
def test_in_pieces_it_is_the_regression_of_the_whole(solver: Solver, pieces: list[int]) -> None:
    z, y = rows()
    stream = RidgeStream(6, 2, solver=solver)
    for part in zip(z.split(pieces), y.split(pieces), strict=True):
        stream.add(*part)
    penalties = [0.0, 0.1, 100.0]
    found = stream.solve(penalties)
    for k, penalty in enumerate(penalties):
        v, c = by_hand(z, y, penalty)
        torch.testing.assert_close(found[0][k], v, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(found[1][k], c, rtol=1e-8, atol=1e-10)
    again = RidgeStream(6, 2, solver=solver)
    again.load_state_dict(stream.state_dict())
    torch.testing.assert_close(again.solve([0.1])[0], stream.solve([0.1])[0], rtol=0, atol=0)


def test_qr_keeps_digits_that_products_lose() -> None:
    z, _ = rows(300)
    z[:, 1] = z[:, 0] + 1e-9 * z[:, 1]  # all but dependent
    y = z[:, :2] @ torch.tensor([[1.0], [2.0]]).double()
    errors = {}
    for solver in SOLVERS:
        stream = RidgeStream(6, 1, solver=solver)
        stream.add(z, y)
        try:
            v, c = stream.solve([0.0])
        except ValueError:
            errors[solver] = math.inf
            continue
        errors[solver] = float((z @ v[0].T + c[0] - y).abs().max())
    assert errors["qr"] < 1e-9 and errors["qr"] < errors["gram"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_has_no_solution_is_refused(solver: Solver) -> None:
    stream = RidgeStream(3, 1, solver=solver)
    with pytest.raises(ValueError, match="at least one row"):
        stream.solve([1.0])
    z = torch.ones(10, 3).double()
    z[:, 0] = torch.arange(10)
    z[:, 1] = 2 * z[:, 0]
    stream.add(z, z[:, :1])
    with pytest.raises(ValueError, match="singular"):
        stream.solve([0.0])
    assert stream.solve([1e-3])[0].isfinite().all()
    with pytest.raises(ValueError, match="penalties >= 0"):
        stream.solve([-1.0])
    stream.add(z * math.inf, z[:, :1])
    with pytest.raises(ValueError, match="not finite"):
        stream.solve([1.0])


def model(units: int = 40, inputs: int = 1, **settings: Any) -> EchoStateModel:
    torch.manual_seed(0)

    def layers(size: int, *, cell: Any) -> Stacked:
        return Stacked(size, cell=cell, hidden_size=units, num_layers=1)

    return EchoStateModel(inputs, 1, cell=ReservoirCell, layers=layers, **settings).double()


def test_features_hold_what_is_asked_for() -> None:
    x = torch.randn(2, 5, 1).double()
    z, _ = model(squares=True)(x)[0], None
    full = model(squares=True)
    z, _ = full.features(x)
    assert z.shape == (2, 5, 81) and torch.equal(z[..., 40:41], x)
    torch.testing.assert_close(z[..., 41:], z[..., :40].square())
    assert model(read_inputs=False).features(x)[0].shape == (2, 5, 40)
    assert not full(x)[0].any()  # nothing is said before it is fitted


def test_scores_are_their_definitions() -> None:
    said, true = torch.randn(50, 2).double(), torch.randn(50, 2).double() + 1
    scores = Scores()
    scores.add(said[:20], true[:20])
    scores.add(said[20:], true[20:])
    nmse = float((said - true).square().sum() / (true - true.mean(0)).square().sum())
    expected = {"nmse": nmse, "nrmse": math.sqrt(nmse), "r2": 1 - nmse}
    assert scores.values() == pytest.approx(expected)


def test_the_capacity_is_the_sum_of_squared_correlations() -> None:
    true = torch.randn(50, 3).double() + 1
    said = torch.cat(
        (2 * true[:, :1] - 5, torch.randn(50, 1).double(), torch.full((50, 1), 0.1)), 1
    )
    scores = Scores(capacity=True)
    scores.add(said[:20], true[:20])
    scores.add(said[20:], true[20:])
    between = float(torch.corrcoef(torch.stack((said[:, 1], true[:, 1])))[0, 1])
    assert scores.values()["memory_capacity"] == pytest.approx(1 + between**2)


@pytest.mark.parametrize("radius", [0.5, 0.98, 1.0])
def test_what_is_left_of_a_start_is_what_the_radius_says(radius: float) -> None:
    """A linear orthogonal reservoir keeps radius^t of every difference."""
    data = SeriesData(Echo(lags=2), train=50, valid=20, test=100, washout=100, horizon=0)
    data.setup()
    cell = partial(
        ReservoirCell, topology="orthogonal", nonlinearity="identity", spectral_radius=radius
    )

    def layers(size: int, *, cell: Any) -> Stacked:
        return Stacked(size, cell=cell, hidden_size=10, num_layers=1)

    made = EchoStateModel(1, 2, cell=cell, layers=layers).double()
    left = start_left(made, data)
    assert left == pytest.approx(radius**100, rel=1e-4, abs=1e-14)


def test_a_free_run_reads_its_own_outputs_and_the_drive() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
            return x.sum(-1, keepdim=True) + 1, state

    alone = free_run(Sum(), None, torch.zeros(2, 1), 4, 1)
    assert alone[0, :, 0].tolist() == [1, 2, 3, 4]
    drive = torch.tensor([[[10.0], [20.0], [30.0]]])
    first = torch.cat((drive[:, 0], torch.zeros(1, 1)), 1)
    assert free_run(Sum(), None, first, 3, 1, drive)[0, :, 0].tolist() == [11, 32, 63]


def test_free_runs_start_where_the_true_past_led() -> None:
    """A model that copies its input is right at the first step of each run as the data is flat."""
    data = SeriesData(
        Sines(), train=50, valid=0, test=60, washout=10, free_steps=5, free_starts=4, double=True
    )
    data.setup()
    fitted = model()
    torch.nn.init.normal_(fitted.weight, std=0.1)
    runs = free_runs(fitted, data)
    assert runs is not None
    outputs, truth = runs
    assert outputs.shape == truth.shape == (4, 5, 1)
    part = data.series("test")[0]
    whole, _ = fitted(torch.from_numpy(part.inputs)[None])
    # With the true past up to there, the first output of a run is that of the whole sequence.
    torch.testing.assert_close(outputs[0, 0], whole[0, 10])
    torch.testing.assert_close(outputs[-1, 0], whole[0, 65])
    values = free_scores(truth, truth, data)
    assert values["nrmse_5"] == 0 and values["valid_time"] == 5


# --- through the command ------------------------------------------------------------------------


def train(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    common = [
        "model=echo_state", "task=ridge", "optimizer=none", "scheduler=none", "clip=none",
        "logger=none", "num_threads=1", "trainer.enable_progress_bar=false",
        "model.layers.hidden_size=60", f"run_dir={tmp_path / 'run'}",
    ]  # fmt: skip
    assert main(["train", *common, *overrides]) == 0
    record: dict[str, Any] = json.loads((tmp_path / "run" / "run.json").read_text())
    return record


def test_a_run_is_the_closed_form_and_evaluates_to_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = train(
        tmp_path, "data=sines", "data.free_steps=50", "trainer.precision=64-true",
        "data.double=true", "task.penalties=[1e-8,1e-2,1e4]",
        "model.cell.input_scaling=0.1",
    )  # fmt: skip
    metrics = record["metrics"]
    assert record["status"] == "finished" and record["steps"] == 1
    assert metrics["train/penalty"] == 1e-8
    assert metrics["test/nrmse"] < 1e-3 and metrics["test/nrmse_50"] < 0.6
    assert metrics["test/nmse"] < 0.01 * record["baselines"]["the last value"]
    assert (tmp_path / "run" / "forecast.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert "baseline the last value" in said
    assert main(["eval", f"run={tmp_path / 'run'}", "split=test"]) == 0
    said = capsys.readouterr().out
    line = next(
        line for line in said.splitlines() if "nrmse" in line and "_" not in line.split()[0]
    )
    assert float(line.split()[-1]) == pytest.approx(metrics["test/nrmse"], rel=0.02)


def test_memory_capacity_by_one_command(tmp_path: Path) -> None:
    """A linear ring of N units holds N inputs."""
    record = train(
        tmp_path, "data=echo", "data.source.lags=90", "data.train=6000", "data.test=2000",
        "trainer.precision=64-true", "data.double=true", "task.penalties=[1e-10]",
        "model.cell.topology=ring", "model.cell.spectral_radius=0.98",
        "model.cell.nonlinearity=identity", "model.read_inputs=false",
    )  # fmt: skip
    assert 55 < record["metrics"]["test/memory_capacity"] <= 60
    assert record["metrics"]["test/memory_bound"] == 60
    assert record["metrics"]["test/start_left"] == pytest.approx(0.98**100, rel=0.05)


@pytest.mark.parametrize("solver", ["gram", "qr"])
def test_states_of_a_trained_cell_may_still_have_their_graph(solver: Solver) -> None:
    z, y = torch.randn(30, 3, dtype=torch.float64), torch.randn(30, 1, dtype=torch.float64)
    found = []
    for features in (z, z.clone().requires_grad_()):
        stream = RidgeStream(3, 1, solver=solver)
        stream.add(features, y)
        found.append(stream.solve([0.1])[0])
    assert torch.equal(*found)


def test_what_is_random_in_training_is_random_in_the_fit(tmp_path: Path) -> None:
    """Zoned-out states are other features: a setting that was ignored would leave no trace."""
    losses = [
        train(tmp_path / str(rate), "data=sines", f"model.layers.layer.zoneout={rate}")["metrics"]
        for rate in (0.0, 0.5)
    ]
    assert losses[1]["train/loss"] > 2 * losses[0]["train/loss"]


def test_what_drives_may_be_read_both_ways(tmp_path: Path) -> None:
    """The mean of the inputs before and after: nobody who reads forwards alone can know it."""
    u = [math.sin(t * t) for t in range(900)]
    rows = [f"{u[t - 1] + u[t + 1]},{u[t]}" for t in range(1, 899)]
    (tmp_path / "a.csv").write_text("\n".join(["y,u", *rows]))
    error = {}
    for layers in ("plain", "bidirectional"):
        record = train(
            tmp_path / layers, "data=series", f"data.path={tmp_path / 'a.csv'}", "data.target=y",
            "data.inputs=u", "data.horizon=0", f"model/layers={layers}",
            "model.cell.input_scaling=0.1", "model.cell.spectral_radius=0.3",
        )  # fmt: skip
        error[layers] = record["metrics"]["test/nrmse"]
    assert error["bidirectional"] < 0.1 and error["plain"] > 0.5


def test_files_of_unequal_length_are_fitted_apart(tmp_path: Path) -> None:
    """Two series with nothing between them: as if each had been read from rest."""
    for name, phase, length in (("a", 0.0, 300), ("b", 1.0, 200)):
        values = [math.sin(0.3 * t + phase) + math.sin(0.11 * t) for t in range(length)]
        (tmp_path / f"{name}.csv").write_text("x\n" + "\n".join(map(str, values)))
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / f"{name}.csv").rename(tmp_path / "in" / f"{name}.csv")
    record = train(
        tmp_path, "data=series", f"data.path={tmp_path / 'in'}", "data.target=x", "data.washout=20"
    )
    assert record["metrics"]["test/nrmse"] < 0.05


def test_the_readout_may_be_trained_by_gradient_too(tmp_path: Path) -> None:
    assert main([
        "train", "model=echo_state", "task=regression", "data=sines", "data.window=30",
        "data.scale=standard", "trainer.max_steps=60", "optimizer.lr=0.01", "logger=none",
        "trainer.enable_progress_bar=false", "num_threads=1", "model.layers.hidden_size=60",
        "callbacks=none", f"run_dir={tmp_path / 'run'}",
    ]) == 0  # fmt: skip
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["metrics"]["test/nrmse"] < 0.5 and record["parameters"] == 62


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optimizer=adam"], "choose optimizer=none"),
        (["clip=norm"], "clip=none"),
        (["model=prediction_real"], "choose model=echo_state"),
        (["task.penalties=[-1]"], "numbers >= 0"),
        (["data.valid=0", "task.penalties=[1,2]"], "takes validation data"),
        (["task.solver=magic"], "solver"),
        (["model/layers=bidirectional"], "is among the later inputs"),
    ],
)
def test_settings_that_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], said: str
) -> None:
    common = ["model=echo_state", "task=ridge", "optimizer=none", "scheduler=none", "clip=none"]
    taken = {o.split("=")[0] for o in overrides}
    given = [c for c in common if c.split("=")[0] not in taken]
    run_dir = tmp_path / "run"
    assert main(["train", *given, "data=sines", *overrides, f"run_dir={run_dir}"]) == 2
    assert said in capsys.readouterr().err and not run_dir.exists()
