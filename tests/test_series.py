"""Series: their equations, what is known and asked for at each step, and files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmodels.data.series import (
    Echo,
    FileSeriesData,
    Henon,
    Logistic,
    Lorenz,
    MackeyGlass,
    Narma,
    Roessler,
    SeriesData,
    Sines,
    Source,
)
from seqmodels.data.series.tables import read_table


def drawn(source: Source, steps: int = 300, seed: int = 0) -> np.ndarray:
    (series,) = source.draw(np.random.default_rng(seed), steps)
    assert series.targets.shape[0] == steps and np.isfinite(series.targets).all()
    return series.targets


def ready(source: Source, **settings: Any) -> SeriesData:
    data = SeriesData(source, **{"train": 100, "valid": 30, "test": 40, "washout": 20, **settings})
    data.setup()
    return data


# --- equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "low", "high"),
    [(Lorenz(), (-20, -28, 0), (20, 28, 50)), (Roessler(), (-10, -12, 0), (13, 9, 25))],
)
def test_flows_stay_on_their_attractor_and_follow_their_field(
    source: Any, low: tuple[float, ...], high: tuple[float, ...]
) -> None:
    values = drawn(source, 500)
    assert (values > np.asarray(low) - 1).all() and (values < np.asarray(high) + 1).all()
    fine = drawn(type(source)(step=0.001), 50)
    slope = (fine[2:] - fine[:-2]) / 0.002
    field = np.stack([source.field(s) for s in fine[1:-1]])
    np.testing.assert_allclose(slope, field, rtol=1e-3, atol=1e-2)


def test_maps_follow_their_equations() -> None:
    x = drawn(Henon())[:, 0]
    np.testing.assert_allclose(x[2:], 1 - 1.4 * x[1:-1] ** 2 + 0.3 * x[:-2], atol=1e-12)
    x = drawn(Logistic(r=3.7))[:, 0]
    np.testing.assert_allclose(x[1:], 3.7 * x[:-1] * (1 - x[:-1]), atol=1e-12)
    assert drawn(Logistic(r=4.0), 3000).std() > 0.3  # it does not die of rounding


def test_mackey_glass_is_its_delay_equation_and_its_methods_agree() -> None:
    euler, rk4 = drawn(MackeyGlass(discard=0), 60), drawn(MackeyGlass(discard=0, method="rk4"), 60)
    assert 0 < np.abs(euler - rk4).max() < 0.02
    y = drawn(MackeyGlass(), 1500)[:, 0]
    slope = (y[2:] - y[:-2]) / 2  # one unit apart: good to some per cent
    field = 0.2 * y[1:-1][:-17] / (1 + y[1:-1][:-17] ** 10) - 0.1 * y[18:-1]
    assert np.corrcoef(slope[17:], field)[0, 1] > 0.98
    squashed = drawn(MackeyGlass(squash=True), 1500)[:, 0]
    np.testing.assert_allclose(squashed, np.tanh(y - 1), atol=1e-12)


@pytest.mark.parametrize("order", [10, 20])
def test_narma_is_its_recursion(order: int) -> None:
    (series,) = Narma(order).draw(np.random.default_rng(0), 400)
    assert series.inputs is not None
    u, y = series.inputs[:, 0], series.targets[:, 0]  # y[t] is y_{t+1}
    for t in range(order, 399):
        a = 0.3 * y[t] + 0.05 * y[t] * y[t - order + 1 : t + 1].sum()
        a += 1.5 * u[t + 1 - order + 1] * u[t + 1]
        expected = a + 0.1 if order == 10 else math.tanh(a + 0.01) + 0.2
        assert y[t + 1] == pytest.approx(expected, abs=1e-12)
    assert u.min() >= 0 and u.max() <= 0.5


def test_sines_and_echoes() -> None:
    wave = drawn(Sines(periods=(10.0,)), 40)[:, 0]
    np.testing.assert_allclose(wave[10:], wave[:-10], atol=1e-12)
    assert Echo(lags=3).names == Echo(lags=(1, 2, 3)).names and Echo(lags=3).capacity
    (series,) = Echo(lags=(0, 3)).draw(np.random.default_rng(0), 50)
    assert series.inputs is not None
    np.testing.assert_array_equal(series.targets[:, 0], series.inputs[:, 0])
    np.testing.assert_array_equal(series.targets[3:, 1], series.inputs[:-3, 0])


@pytest.mark.parametrize("kind", [MackeyGlass, Lorenz, Henon, Narma, Sines])
def test_a_seed_is_a_series(kind: type[Source]) -> None:
    assert np.array_equal(drawn(kind(), 50, 1), drawn(kind(), 50, 1))
    assert not np.array_equal(drawn(kind(), 50, 1), drawn(kind(), 50, 2))


# --- what is known and asked for ------------------------------------------------------------------


class Count(Source):
    """y_t = t, with or without the drive u_t = 1000 + t."""

    title = "count"

    def __init__(self, driven: bool) -> None:
        self.driven = driven

    def draw(self, random: np.random.Generator, steps: int) -> Any:
        from seqmodels.data.series import Series

        t = np.arange(steps, dtype=np.float64)[:, None]
        return [Series(t, 1000 + t if self.driven else None, "count")]


@pytest.mark.parametrize(
    ("driven", "horizon", "feedback", "columns"),
    [
        (False, 1, None, [0]),  # y_t known, y_{t+1} asked
        (False, 5, True, [0]),
        (True, 0, None, [1000]),
        (True, 0, True, [1000, -1]),  # y_{t-1} is the newest that is known where y_t is asked
        (True, 2, True, [1000, 0]),
    ],
)
def test_nothing_of_the_answer_is_known(
    driven: bool, horizon: int, feedback: bool | None, columns: list[int]
) -> None:
    data = ready(Count(driven), horizon=horizon, feedback=feedback)
    for split, steps in (("train", 100), ("valid", 30), ("test", 40)):
        (part,) = data.series(split)  # type: ignore[arg-type]
        assert len(part.inputs) == steps + 20 and part.lead == 20
        now = part.targets - horizon
        np.testing.assert_array_equal(part.inputs, now + np.asarray(columns))
    ends = [data.series(s)[0].targets[-1, 0] for s in ("train", "valid", "test")]  # type: ignore[arg-type]
    assert ends == [ends[0], ends[0] + 30, ends[0] + 70]  # they follow each other


def test_the_washout_is_read_and_not_asked() -> None:
    batch = next(iter(ready(Count(False)).train_loader()))
    assert batch.inputs.shape == (1, 120, 1) and batch.lengths is None
    assert batch.targets[:, :20].isnan().all() and not batch.targets[:, 20:].isnan().any()


def test_windows_are_drawn_from_the_training_part_alone() -> None:
    data = ready(Count(False), window=8, washout=3, batch_size=200, train=50)
    first, second = (data.draw(n) for n in range(2))
    assert first.inputs.shape == (200, 11, 1)
    assert float(first.inputs.max()) < 54 and not torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.inputs, data.draw(0).inputs)
    torch.testing.assert_close(first.inputs[:, 3:] + 1, first.targets[:, 3:])


def test_scales_are_fitted_on_the_training_part_and_shared_with_the_feedback() -> None:
    for scale, low, high in (("range", -1, 1), ("standard", -1.8, 1.8)):
        data = ready(Count(False), scale=scale)
        (part,) = data.series("train")
        assert part.targets.min() > low - 0.1 and part.targets.max() < high + 0.1
        np.testing.assert_allclose(part.inputs[1:], part.targets[:-1])
        assert data.series("test")[0].targets.max() > high  # it goes on beyond the training part


def test_baselines_are_what_they_say() -> None:
    found = ready(Count(False)).baselines()
    assert found["the last value"] == pytest.approx(1.0)
    assert found["linear regression on 10 steps"] == pytest.approx(0.0, abs=1e-12)
    assert found["the mean"] > 1000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"washout": -1}, "data.washout must be >= 0"),
        ({"train": 0.5, "valid": 0.2, "test": 0.2}, "has no end: give train"),
        ({"train": 10.5}, "three numbers of steps"),
        ({"horizon": 0}, "forecast from its own past, which needs"),
        ({"feedback": False}, "forecast from its own past"),
        ({"horizon": 3, "free_steps": 5}, "a data.horizon of 1"),
        ({"scale": "log"}, "none, standard or range"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ready(Count(False), **settings)


# --- files ----------------------------------------------------------------------------------------


def table(path: Path, rows: int = 60) -> Path:
    lines = ["day,load,heat"] + [f"2020-{t},{t * 0.5},{100 - t}" for t in range(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def file_data(path: Any, **settings: Any) -> FileSeriesData:
    data = FileSeriesData(path, **{"washout": 5, **settings})
    data.setup()
    return data


def test_columns_by_name_with_dates_beside_them(tmp_path: Path) -> None:
    data = file_data(str(table(tmp_path / "a.csv")), target="load", inputs=["heat"], horizon=0)
    assert data.sizes() == {"num_inputs": 1, "num_outputs": 1}
    assert len(data.series("train")[0].inputs) == 36
    assert "a.csv" in data.describe()["summary"]


@pytest.mark.parametrize("suffix", [".txt", ".tsv", ".npy", ".npz", ".csv", ".csv.gz"])
def test_every_kind_of_file_gives_the_same_numbers(tmp_path: Path, suffix: str) -> None:
    values = np.arange(20.0).reshape(10, 2) / 3
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, values)
    elif suffix == ".npz":
        np.savez(path, a=values[:, 0], b=values[:, 1])
    else:
        separator = {".txt": " ", ".tsv": "\t"}.get(suffix, ",")
        text = "\n".join(separator.join(map(repr, row)) for row in values.tolist()).encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    read = list(read_table(path).columns.values())
    np.testing.assert_array_equal(np.stack(read, 1), values)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.csv", "\ufeffday;load A\r\n{};{}\r\n", {"decimal": ","}),
        ("a.txt", "day;load A\n{};{}\n", {"decimal": ","}),
        ("a.csv", "day\tload A\n{}\t{}\n", {"decimal": ","}),
        ("a.tsv", '# made today\nday\t"load A"\n{}\t{}\n', {"decimal": ","}),
        ("a.csv", ',day,"load A",\n9,{},{},\n', {}),
        ("a.csv", "day| load A\n{}|{}\n", {"separator": "|"}),
        ("a.dat", 'day  "load_A" \n {}   {}\n', {"target": "load_A"}),
    ],
)
def test_tables_of_other_habits(
    tmp_path: Path, name: str, content: str, settings: dict[str, Any]
) -> None:
    head, row = content.splitlines(keepends=True)[-2:]
    before = content[: -len(head + row)]
    sign = settings.get("decimal", ".")
    days = [f"2020-{1 + t // 28:02}-{1 + t % 28:02}" for t in range(40)]
    loads = [math.sin(t) for t in range(40)]
    rows = [
        row.format(day, f"{load:.6f}".replace(".", sign))
        for day, load in zip(days, loads, strict=True)
    ]
    path = tmp_path / name
    path.write_bytes((before + head + "".join(rows)).encode())
    data = file_data(str(path), **{"target": "load A", "scale": "none", **settings})
    (part,) = data.series("train")
    np.testing.assert_allclose(part.inputs[:, 0], loads[: len(part.inputs)], atol=1e-6)


def test_times_must_go_on_evenly(tmp_path: Path) -> None:
    """Months are some days longer or shorter; one that is missing is a gap."""
    path = tmp_path / "a.csv"
    months = [f"20{10 + m // 12}-{m % 12 + 1:02}" for m in range(40)]
    lines = [f"{month},{k % 7},{k % 3}" for k, month in enumerate(months)]
    path.write_text("\n".join(["month,load,heat", *lines]))
    data = file_data(str(path), time="month")
    assert data.sizes() == {"num_inputs": 2, "num_outputs": 2}  # the time is none of them
    path.write_text("\n".join(["month,load,heat", *lines[:20], *lines[21:]]))
    with pytest.raises(ValueError, match=r"between line 21 \('2011-08'\) and line 22"):
        file_data(str(path), time="month")


def test_a_folder_is_several_series_of_their_own_lengths(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", 60)
    table(tmp_path / "b.csv", 90)
    data = file_data(str(tmp_path), target="load")
    batch = next(iter(data.train_loader()))
    assert batch.lengths is not None and batch.lengths.tolist() == [35, 53]
    assert batch.targets[0, 35:].isnan().all()


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("a,b\n1,2\n3\n", {}, "line 3: expected 2 columns, as in the first line, got 1"),
        (
            "a,b\n" + "1,2\n" * 20 + "x,4\n" + "1,3\n" * 20,
            {},
            r"column 'a' has no number in line 22 \('x'\), one of 1 gaps in 41.*data.target=",
        ),
        (
            "a,b\n" + "1,2\n,4\n" * 20,
            {"target": "a"},
            r"column 'a' has no number in line 3 \(nothing\)",
        ),
        ("a,b\n" + "1,2\n3,4\n" * 20, {"target": "c"}, "no column 'c'; it has a, b"),
        ("a,b\n" + "1,2\n3,2\n" * 20, {"target": "b"}, r"target column 'b' is constant \(2\)"),
        (
            "a,b\n" + "1,2\n3,2\n" * 20,
            {"target": "a", "inputs": "b"},
            r"input column 'b' is constant",
        ),
        ("a,b\n" + "1,2\n3,4\n" * 3, {}, "training part of 3 is no longer than the washout of 5"),
        ("a,b\n" + "1,2\n3,4\n" * 3, {"train": 9, "valid": 0, "test": 0}, "washout of 5 and 9"),
        ("a\n" + "1\n3\n" * 20 + "\n" + "1\n" * 3, {}, "line 42: it is empty: fill the gap"),
        ("a\n" + "1\n3\n" * 15 + "0\n" * 11, {}, "constant in the part for test"),
        ("a\n1_0\n", {}, r"no number in line 2 \('1_0'\)"),
        ('a\n"0,5"\n', {}, "data.decimal=',' reads decimal commas"),
        ('a,b\n"1,2\n', {}, "line 2: unexpected end of data"),
        ("a,b\n", {}, "nothing in it below the names"),
        ("1,2\n" * 9, {"target": "a"}, "first line holds numbers, no names"),
        ("a,b\n" + "1,2\n", {"target": ["a", "a"]}, "expected different columns"),
        ("a,b\n", {"target": "a", "inputs": "a", "horizon": 0}, "the answer would be known"),
        ("t,a\n1,2\n2,3\n3,3\n5,4\n", {"time": "t"}, "a gap, or go back, between line 4"),
        ("t,a\n" + "1,2\n1,3\n2,5\n", {"time": "t"}, "a gap, or go back, between line 2"),
        ("t,a\nMon,2\n", {"time": "t"}, r"'t' is no time in line 2 \('Mon'\)"),
        ("t,a\n1,2\n", {"time": "x"}, "no column 'x'"),
        ("a\n1\n", {"separator": ";;"}, "expected one character"),
        ("a\n1\n", {"decimal": ";"}, "expected '.' or ','"),
        ("a,a\n1,2\n", {}, "two columns have the same name"),
        ("", {}, "nothing in it"),
        ("a,b,c\n" + "1,2,3\n3,4,9\n" * 20, {"inputs": "a"}, "say which column is predicted"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, content: str, settings: dict[str, Any], said: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        file_data(str(path), **settings)


def test_broken_and_foreign_files_are_named(tmp_path: Path) -> None:
    for name, content in (
        ("a.npy", b"\x93NUMPY nonsense"),
        ("b.npz", b"PK nonsense"),
        ("c.csv", b"\xff\xfe\x00"),
        ("d.csv.gz", b"1,2"),
        ("e.csv.gz", gzip.compress(b"1,2\n3,4\n" * 9)[:-12]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            file_data(str(tmp_path / name))
    np.save(tmp_path / "d.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"d\.npy"):
        file_data(str(tmp_path / "d.npy"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no \.csv"):
        file_data(str(tmp_path / "empty"))
    with pytest.raises(OSError, match="none"):
        file_data(str(tmp_path / "none.csv"))
