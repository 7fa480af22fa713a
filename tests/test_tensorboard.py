"""What a run leaves for TensorBoard, read back from its event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tiny
from seqmodels.cli import main
from seqmodels.runs import finite


def text_of(run: Path, tag: str) -> str:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    (event,) = events.Tensors(f"{tag}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


def test_configuration_and_environment_are_on_the_text_page(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert tiny.train(tiny.write_text(tmp_path), run, "logger=tensorboard") == 0
    assert "\n      layers:\n" in text_of(run, "run/configuration")
    environment = text_of(run, "run/environment")
    assert "torch: " in environment and "digest: " in environment


def test_the_command_shows_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    called: list[list[str]] = []

    class Done:
        returncode = 0

    def started(command: list[str], **_: Any) -> Done:
        called.append(command)
        return Done()

    monkeypatch.setattr("subprocess.run", started)
    assert main(["tensorboard", str(tmp_path)]) == 2
    assert "has written for TensorBoard" in capsys.readouterr().err
    assert main(["tensorboard", str(tmp_path / "none")]) == 2
    assert "there is no such directory" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.out.tfevents.1").touch()
    assert main(["tensorboard", str(tmp_path), "port=7007"]) == 0
    assert called[-1][2:] == ["tensorboard.main", "--logdir", str(tmp_path), "--port", "7007"]


def test_numbers_of_numpy_are_written_like_ours() -> None:
    """Such as a baseline that a problem has computed with it."""
    plain = finite({"a": np.float64(0.5), "b": [np.float64("nan")]})
    assert yaml.safe_load(yaml.safe_dump(plain)) == {"a": 0.5, "b": [None]}
