"""The commands as a person uses them: what a run leaves, what is refused, what is said."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmodels.cli import main
from seqmodels.config import compose, step_limit
from seqmodels.runs import create_run_dir
from seqmodels.training import checkpoint_io
from tiny import TEXT, checkpoint, record, rows, tiny, train, write_text


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be read only."""
    folder = tmp_path_factory.mktemp("finished")
    assert (
        train(write_text(folder), folder / "run", "trainer.max_steps=40", "optimizer.lr=0.05") == 0
    )
    return folder / "run"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The message on standard error, which must be one message and no traceback."""
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


# --- the record ----------------------------------------------------------------------------------


def test_a_finished_run_leaves_a_whole_record(finished: Path) -> None:
    content = record(finished)
    assert content["status"] == "finished" and content["reason"] is None
    assert content["seed"] == 0
    assert content["steps"] == 40
    assert content["parameters"] == sum(
        v.numel() for v in checkpoint(finished)["state_dict"].values()
    )
    assert content["engines"] == {"backbone.layers.0": "native"}
    assert content["num_threads"] >= 1
    assert content["wall_time_seconds"] > 0
    assert set(content["versions"]) >= {"python", "torch", "lightning", "seqmodels"}
    assert len(content["data"]["digest"]) == 64
    names = {"val/loss", "val/perplexity", "val/bits_per_character", "test/loss", "train/loss"}
    assert set(content["metrics"]) >= names | {"gradient/norm", "gradient/clipped_share"}
    assert list(content["baselines"]) == ["unigram", "bigram", "trigram", "4-gram", "5-gram"]
    best = content["best"]["val/loss"]
    validated = {row["step"]: row["val/loss"] for row in rows(finished) if "val/loss" in row}
    assert best["value"] == min(validated.values()) and validated[best["step"]] == best["value"]
    assert checkpoint(finished, "best")["global_step"] == best["step"]
    assert (finished / "config.yaml").exists()
    assert json.loads((finished / "vocabulary.json").read_text())["level"] == "char"


def test_losses_are_those_of_before(tmp_path: Path) -> None:
    """Frozen: a change of these numbers must be meant."""
    extra = (
        "model/cell=gru",
        "optimizer.lr=0.05",
        "trainer.max_steps=30",
        "model.head.dropout=0.1",
    )
    assert (
        train(write_text(tmp_path), tmp_path / "run", *extra, "trainer.log_every_n_steps=10") == 0
    )
    losses = [row["train/loss"] for row in rows(tmp_path / "run") if "train/loss" in row]
    assert losses == pytest.approx(FROZEN, rel=1e-4)


FROZEN = [3.2109984, 2.8325383, 2.5787247]


def test_the_same_seed_gives_the_same_run_and_zero_is_a_seed(tmp_path: Path) -> None:
    text = write_text(tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(3)  # what was drawn before does not matter
        assert train(text, tmp_path / name, f"seed={seed}", "model.embedding.dropout=0.2") == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")


def test_logged_steps_validations_and_epochs(tmp_path: Path) -> None:
    extra = ("trainer.max_steps=7", "trainer.val_check_interval=5", "trainer.log_every_n_steps=3")
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 0
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found if "train/loss" in row] == [3, 6, 7]
    # The last step is validated, whatever the interval.
    assert [row["step"] for row in found if "val/loss" in row] == [5, 7]


def test_a_share_of_the_epoch_and_epochs(tmp_path: Path) -> None:
    extra = (
        "trainer.max_steps=-1",
        "trainer.max_epochs=2",
        "data.seq_len=115",
        "trainer.val_check_interval=0.5",
    )
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 0
    # 3672 characters in 8 streams of 459: 458 predictions, 4 chunks an epoch.
    validated = [row["step"] for row in rows(tmp_path / "run") if "val/loss" in row]
    assert validated == [2, 4, 6, 8]
    assert record(tmp_path / "run")["epochs"] == 2


def test_without_validation_split(tmp_path: Path) -> None:
    assert train(write_text(tmp_path), tmp_path / "run", "data.split=[1.0,0.0,0.0]") == 0
    content = record(tmp_path / "run")
    assert content["status"] == "finished" and "val/loss" not in content["metrics"]
    assert checkpoint(tmp_path / "run")["global_step"] == 6


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_words_and_every_cell(tmp_path: Path, cell: str) -> None:
    extra = ("data.level=word", f"model/cell={cell}", "data.batch_size=4", "data.seq_len=5")
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 0
    metrics = record(tmp_path / "run")["metrics"]
    # 15 tokens with <eos> for the 68 characters of a line.
    expected = metrics["val/loss"] / 0.6931471805599453 * 15 / 68
    assert metrics["val/bits_per_character"] == pytest.approx(expected, rel=0.02)


def test_tensorboard_holds_scalars_text_and_hyperparameters(tmp_path: Path) -> None:
    arguments = tiny(write_text(tmp_path), tmp_path / "run", "logger=tensorboard")
    arguments.remove("logger=none")
    arguments.remove("~callbacks.samples")
    assert main(arguments) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    tags: Any = board.Tags()
    assert {"train/loss", "val/loss", "train/learning_rate", "time/tokens_per_second"} <= set(
        tags["scalars"]
    )
    assert any("samples" in tag for tag in tags["tensors"])
    plugins = board.summary_metadata.values()
    assert "hparams" in {m.plugin_data.plugin_name for m in plugins}


def test_curves_are_drawn(tmp_path: Path) -> None:
    arguments = tiny(write_text(tmp_path), tmp_path / "run")
    arguments.remove("~callbacks.curves")
    assert main(arguments) == 0
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")


# --- clipping in training ------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_update_obeys_the_clip(tmp_path: Path, accumulate: int) -> None:
    """With plain SGD the change of the weights is the learning rate times the clipped gradient."""
    text = write_text(tmp_path)
    extra = (
        "optimizer=sgd",
        "optimizer.lr=1.0",
        "scheduler=none",
        "clip.max_norm=0.001",
        "trainer.val_check_interval=100",
        f"trainer.accumulate_grad_batches={accumulate}",
    )
    for name, steps in (("one", 1), ("two", 2)):
        assert train(text, tmp_path / name, *extra, f"trainer.max_steps={steps}") == 0
    before = checkpoint(tmp_path / "one")["state_dict"]
    after = checkpoint(tmp_path / "two")["state_dict"]
    moved = sum(float(((after[k] - before[k]).double() ** 2).sum()) for k in before) ** 0.5
    assert moved == pytest.approx(0.001, rel=1e-3)
    metrics = record(tmp_path / "two")["metrics"]
    assert metrics["gradient/norm"] > 0.001 and metrics["gradient/clipped_share"] == 1.0


# --- evaluation and sampling ---------------------------------------------------------------------


def test_eval_repeats_the_number_of_the_run(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, stage in (("test", "test"), ("valid", "val")):
        assert main(["eval", f"run={finished}", f"split={split}"]) == 0
        assert f"{stage}/loss" in capsys.readouterr().out
        row = json.loads((finished / "evaluations.jsonl").read_text().splitlines()[-1])
        expected = (
            record(finished)["metrics"]["test/loss"]
            if split == "test"
            else record(finished)["best"]["val/loss"]["value"]
        )
        assert row["metrics"][f"{stage}/loss"] == pytest.approx(expected, rel=1e-6)


def test_eval_on_other_text_reads_it_with_the_vocabulary_of_the_run(
    finished: Path, tmp_path: Path
) -> None:
    other = write_text(tmp_path, TEXT.replace("fox", "FOX"))
    assert main(["eval", f"run={finished}", f"data.path={other}", "split=train"]) == 0
    row = json.loads((finished / "evaluations.jsonl").read_text().splitlines()[-1])
    assert row["metrics"]["train/loss"] > 0


def test_the_streams_of_the_evaluation_can_be_chosen(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", f"run={finished}", "batch_size=1"]) == 0
    assert "streams of 1" in capsys.readouterr().out


def test_sample_is_a_function_of_its_seed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for seed in (0, 0, 1):
        arguments = ["sample", f"run={finished}", "length=50", f"seed={seed}", "prompt='the '"]
        assert main(arguments) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("the ") and len(texts[0]) == len("the ") + 50 + 1


def test_several_samples(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", f"run={finished}", "length=9", "num_samples=3"]) == 0
    assert capsys.readouterr().out.count("--- sample") == 3


def test_a_prompt_of_unknown_symbols_is_read_and_said(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", f"run={finished}", "length=5", "prompt='Ж the Ж日'"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Ж the Ж日") and len(out) == len("Ж the Ж日") + 5 + 1
    assert "prompt: read as <unk>" in err and "'Ж', '日'" in err


def test_sample_ranges(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", f"run={finished}", "temperature=-1"]) == 2
    assert "temperature" in said(capsys)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.path=/nowhere/text.txt", "no such file"),
        ("data.batch_size=3000", "fewer than"),
        ("optimizer.lr=-1", "learning rate"),
        ("model.head.tie_weights=true", "tie_weights"),
        ("trainer.accelerator=gpu", "gpu"),
        ("clip.max_norm=-3", "max_norm must be positive"),
        ("init=chrono model/cell=rnn", "gate"),
        (
            "model.layers.layer.engine=native model/cell=rnn model.cell.nonlinearity=sigmoid",
            "'eager'",
        ),
    ],
)
def test_mistakes_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    if override == "trainer.accelerator=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert train(write_text(tmp_path), tmp_path / "run", *override.split()) == 2
    assert message.lower() in said(capsys).lower()
    assert not (tmp_path / "run").exists()


def test_a_run_directory_is_never_overwritten(
    tmp_path: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "run.json").read_bytes()
    assert train(write_text(tmp_path), finished) == 2
    assert "already holds a run" in said(capsys)
    assert (finished / "run.json").read_bytes() == before
    assert train(tmp_path / "text.txt", tmp_path) == 2
    assert "not empty" in said(capsys)


def test_a_run_directory_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_text(tmp_path)
    assert train(text, text / "below") == 2
    assert "run_dir" in said(capsys)
    assert train(text, text) == 2
    assert "is a file" in said(capsys)


def test_chosen_names_never_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = {create_run_dir(None, "gru_seed0", resume=False) for _ in range(20)}
    assert len(made) == 20 and all(path.is_dir() for path in made)


@pytest.mark.parametrize("value", ["1e30", "1e6"])
def test_a_diverging_run_fails_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    extra = (
        "optimizer=sgd",
        f"optimizer.lr={value}",
        "clip=none",
        "model/cell=rnn",
        "model.cell.nonlinearity=relu",
        "scheduler=none",
        "trainer.max_steps=200",
    )
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 1
    message = said(capsys)
    assert "at step" in message or "after step" in message
    content = record(tmp_path / "run")
    assert content["status"] == "failed"
    assert "loss" in content["reason"] and content["ended"] is not None


def test_a_full_disk_ends_the_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = checkpoint_io.save

    def full(content: Any, path: Path) -> None:
        if content["global_step"] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(content, path)

    monkeypatch.setattr(checkpoint_io, "save", full)
    assert train(write_text(tmp_path), tmp_path / "run") == 1
    assert "No space left on device" in said(capsys)
    content = record(tmp_path / "run")
    assert content["status"] == "failed" and "No space left" in content["reason"]
    assert checkpoint(tmp_path / "run")["global_step"] == 3


# --- damaged and foreign checkpoints -------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A finished run that a test may damage."""
    assert train(write_text(tmp_path), tmp_path / "run") == 0
    return tmp_path / "run"


def test_a_truncated_checkpoint(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:2000])
    assert main(["eval", f"run={own}"]) == 2
    assert "best.ckpt cannot be read" in said(capsys)


def test_a_missing_checkpoint(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "checkpoints" / "best.ckpt").unlink()
    assert main(["sample", f"run={own}"]) == 2
    assert "no checkpoint" in said(capsys)


def test_a_checkpoint_of_another_model(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = own / "checkpoints" / "best.ckpt"
    content = checkpoint(own, "best")
    content["config"]["model"]["layers"]["hidden_size"] = 9
    torch.save(content, path)
    assert main(["eval", f"run={own}"]) == 2
    assert "from another model" in said(capsys)


class Trap:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("trapped"),)


def test_a_checkpoint_cannot_run_code(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(own)
    path = own / "checkpoints" / "best.ckpt"
    for content in (pickle.dumps(Trap()), None):
        if content is None:
            torch.save({"state_dict": Trap()}, path)
        else:
            path.write_bytes(content)
        assert main(["eval", f"run={own}"]) == 2
        assert "cannot be read" in said(capsys)
    assert not (own / "trapped").exists()


# --- resuming ------------------------------------------------------------------------------------


def test_resume_starts_where_there_is_none_and_is_done_when_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, run = write_text(tmp_path), tmp_path / "run"
    assert train(text, run, "resume=true") == 0
    before = (run / "run.json").read_bytes()
    assert train(text, run, "resume=true") == 0
    assert "nothing to resume" in capsys.readouterr().out
    assert (run / "run.json").read_bytes() == before


def test_a_finished_run_can_be_prolonged(own: Path, tmp_path: Path) -> None:
    extra = ("scheduler=none", "trainer.max_steps=9")
    text = tmp_path / "text.txt"
    assert train(text, tmp_path / "short", "scheduler=none") == 0
    assert train(text, tmp_path / "short", *extra, "resume=true") == 0
    assert train(text, tmp_path / "long", *extra) == 0
    assert record(tmp_path / "short")["steps"] == 9
    a, b = checkpoint(tmp_path / "short"), checkpoint(tmp_path / "long")
    assert all(torch.equal(v, b["state_dict"][k]) for k, v in a["state_dict"].items())


def test_resume_refuses_another_configuration_or_other_data(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    more = ("resume=true", "trainer.max_steps=9")
    assert train(text, own, *more, "model.layers.hidden_size=9", "optimizer.lr=0.1") == 2
    message = said(capsys)
    assert "model.layers.hidden_size: 8 -> 9" in message and "optimizer.lr" in message
    write_text(tmp_path, TEXT + "more")
    assert train(text, own, *more) == 2
    assert "data changed" in said(capsys)
    assert record(own)["status"] == "finished"


def test_resume_falls_back_on_the_checkpoint_before(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = own / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-3000])
    assert train(tmp_path / "text.txt", own, "resume=true", "trainer.max_steps=9") == 0
    captured = capsys.readouterr()
    assert "last.ckpt cannot be read" in captured.err
    assert "resuming from step 3" in captured.out
    steps = [row["step"] for row in rows(own) if "val/loss" in row]
    assert steps == [3, 6, 9]


def test_resume_needs_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"data.path={write_text(tmp_path)}", "resume=true"]) == 2
    assert "run_dir" in said(capsys)


def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "seqmodels"]
    command += tiny(write_text(tmp_path), run, "trainer.max_steps=1000000")
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors and "resume=true" in errors
    assert record(run)["status"] == "interrupted"
    assert checkpoint(run)["global_step"] == record(run)["steps"] > 0
    assert main(["eval", f"run={run}", "checkpoint=last"]) == 0


@pytest.mark.parametrize(
    ("extra", "steps"),
    [((), 1200), (("trainer.max_epochs=2",), -1), (("trainer.max_steps=7",), 7)],
)
def test_what_ends_a_run_that_does_not_say(extra: tuple[str, ...], steps: int) -> None:
    assert step_limit(compose("train", extra).trainer) == steps
