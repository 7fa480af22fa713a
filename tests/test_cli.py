"""The command line: help at once, exit statuses, one message per error and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import config_toys
import seqmodels
from seqmodels import cli
from seqmodels.errors import UserError, closest, did_you_mean

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
}
HEAVY = ("torch", "lightning", "hydra", "omegaconf", "numpy")


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = config_toys.write_configs(tmp_path / "configs")
    monkeypatch.setattr("seqmodels.config.composition.config_dir", lambda: folder)
    monkeypatch.setattr("seqmodels.cli.config_dir", lambda: folder)
    return folder


Given = tuple[list[str], list[Path]]
Command = Callable[[Callable[[], int]], list[Given]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Put a function in the place of `seqmodels train`; what it was given is recorded."""

    def replace(body: Callable[[], int]) -> list[Given]:
        given: list[Given] = []

        def run(overrides: list[str], *, config_dirs: list[Path]) -> int:
            given.append((overrides, config_dirs))
            return body()

        module = types.ModuleType("seqmodels.commands.train")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "seqmodels.commands.train", module)
        return given

    return replace


def fails(error: BaseException) -> Callable[[], int]:
    def body() -> int:
        raise error

    return body


def shell(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], env=ENVIRONMENT, capture_output=True, text=True, **more
    )


# ---------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_overview_lists_the_commands(words: list[str], capsys: Any) -> None:
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "usage: seqmodels COMMAND" in out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in out
        assert command.summary in out


def test_version(capsys: Any) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"seqmodels {seqmodels.__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_exists_and_is_explained(name: str, capsys: Any) -> None:
    assert (ROOT / "src" / "seqmodels" / "commands" / f"{name}.py").is_file()
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"seqmodels {name}" in out
    assert "--config-dir DIR" in out


def test_help_of_train_lists_groups_and_options(toys: Path, tmp_path: Path, capsys: Any) -> None:
    del toys
    mine = config_toys.write_configs(tmp_path / "mine", {"clip/skip.yaml": "a: 1"})
    assert cli.main(["train", "--help", "--config-dir", str(mine)]) == 0
    rows = [" ".join(row.split()) for row in capsys.readouterr().out.splitlines()]
    assert "clip none, norm, skip" in rows
    assert "model/cell custom, rnn" in rows
    assert not any(row.startswith("hydra") for row in rows)


@pytest.mark.usefixtures("toys")
def test_help_of_eval_shows_its_settings(capsys: Any) -> None:
    assert cli.main(["eval", "-h"]) == 0
    out = capsys.readouterr().out
    assert "  split: null  # train | valid | test" in out
    assert "defaults" not in out
    assert "eval_schema" not in out
    assert "--show" not in out


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["train", "--help"], ["trian"]])
def test_answers_that_need_nothing_heavy_import_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys; from seqmodels.cli import main; main(sys.argv[1:]); "
        f"loaded = set({HEAVY!r}) & set(sys.modules); assert not loaded, loaded"
    )
    done = shell("-c", program, *words)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------ statuses and messages


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["trian"], ["there is no command 'trian'", "'train'", "eval, sample"]),
        (["--verbose"], ["there is no option '--verbose'"]),
        (["train", "--sho"], ["no option '--sho'", "did you mean '--show'?"]),
        (["eval", "-m", "seed=1"], ["no option '-m'"]),
        (["train", "-m", "seed=1"], ["needs an axis"]),
        (["train", "sweep=cells"], ["seqmodels train -m sweep=cells"]),
        (["train", "--seed=1"], ["no option '--seed'", "did you mean 'seed=…'?"]),
        (["eval", "--show"], ["seqmodels eval has no option '--show'"]),
        (["train", "--config-dir"], ["--config-dir needs a folder"]),
        (["train", "--config-dir=nowhere", "--show"], ["--config-dir: there is no folder"]),
        (["train", "--show", "sead=1"], ["'sead' is not a setting", "'seed'"]),
        (["train", "--show", "optimizer.lr=fast"], ["optimizer.lr: expected float"]),
    ],
)
@pytest.mark.usefixtures("toys")
def test_a_mistake_ends_with_status_2_and_one_message(
    words: list[str], fragments: list[str], capsys: Any
) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("seqmodels: ")
    assert [f for f in fragments if f not in captured.err] == [], captured.err
    assert "Traceback" not in captured.err


def test_overrides_and_folders_reach_the_command(command: Command) -> None:
    given = command(lambda: 0)
    assert cli.main(["train", "a=1", "--config-dir", "x", "~b", "--config-dir=y", "+c=2"]) == 0
    assert given == [(["a=1", "~b", "+c=2"], [Path("x"), Path("y")])]


def test_the_status_of_a_command_is_the_status(command: Command) -> None:
    command(lambda: 1)
    assert cli.main(["train"]) == 1


def test_a_user_error_of_a_command(command: Command, capsys: Any) -> None:
    command(fails(UserError("the file is empty")))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr().err == "seqmodels: the file is empty\n"


def test_an_interrupt(command: Command, capsys: Any) -> None:
    command(fails(KeyboardInterrupt()))
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "seqmodels: interrupted\n"


def test_a_defect_keeps_its_traceback(command: Command) -> None:
    command(fails(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train"])


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = """
import subprocess, sys
writer = subprocess.Popen(
    [sys.executable, "-m", "seqmodels", "train", "--help"],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
)
writer.stdout.close()
sys.stdout.write(writer.stderr.read().decode())
assert writer.wait() == 1, writer.returncode
"""
    done = shell("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


# ---------------------------------------------------------------------------------------- show


@pytest.mark.usefixtures("toys")
def test_show_prints_the_whole_checked_configuration(capsys: Any) -> None:
    assert cli.main(["train", "--show", "seed=5", "run_dir=runs/${seed}"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["seed"] == 5
    assert shown["run_dir"] == "runs/5"
    assert shown["model"]["cell"]["_target_"] == "config_toys.Cell"
    assert shown["trainer"]["accumulate_grad_batches"] == 1


def test_a_cell_in_the_current_folder_is_found(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    del toys
    here = tmp_path / "here"
    here.mkdir()
    (here / "cells_of_mine.py").write_text("def cell(input_size, hidden_size, leak=0.5): ...\n")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(here))])
    custom = ["model/cell=custom", "model.cell._target_=cells_of_mine.cell"]
    assert cli.main(["train", "--show", *custom, "+model.cell.leak=0.1"]) == 0
    assert cli.main(["train", "--show", *custom, "+model.cell.leek=0.1"]) == 2
    assert "did you mean 'leak'?" in capsys.readouterr().err


# ------------------------------------------------------------------------- as it is really run


def test_a_real_mistake_in_a_real_process(tmp_path: Path) -> None:
    done = shell("-m", "seqmodels", "train", "model.hidden_siz=8", "seed=x", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("seqmodels: 2 problems in the configuration:\n")
    assert "'model.layers.hidden_size'" in done.stderr
    assert "seed: expected int, got 'x'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_scripts_are_the_commands(name: str) -> None:
    done = shell(str(ROOT / "scripts" / f"{name}.py"), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"seqmodels {name}")


# --------------------------------------------------------------------------------- suggestions


@pytest.mark.parametrize(
    ("word", "names", "wanted"),
    [
        ("hiden_size", ["hidden_size", "input_size", "bias"], ["hidden_size"]),
        ("32", ["32-true", "16-true"], ["32-true"]),
        ("xyz", ["hidden_size"], []),
        ("x", [], []),
    ],
)
def test_closest(word: str, names: list[str], wanted: list[str]) -> None:
    assert closest(word, names) == wanted


def test_did_you_mean() -> None:
    assert did_you_mean([]) == ""
    assert did_you_mean(["a", "b"]) == " (did you mean 'a' or 'b'?)"
    assert str(UserError.of(["one"])) == "one"
    assert str(UserError.of(["one", "two"], "it")) == "2 problems in it:\n  - one\n  - two"
