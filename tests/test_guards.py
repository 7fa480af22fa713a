"""Guards: what looks ahead is found and named, and so is where the first NaN came from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqmodels.cells import GRUCell, LSTMCell, RNNCell
from seqmodels.cli import main
from seqmodels.layers import Recurrent, Stacked
from seqmodels.models import SequenceModel, TokenEmbedding, TokenHead
from seqmodels.training.causality import NotCausalError, check_causality
from seqmodels.training.guards import find_first
from tiny import record, rows, train, write_text

NAN = float("nan")


class Peeking(Recurrent[Any]):
    """Says that it is causal, and reads one step ahead through what has no gradient."""

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        y, state = super().forward(x, state, lengths)
        return y + 0.01 * torch.roll(y.detach(), -1, 1), state


class Turning(nn.Module):
    """Layers that are causal, run over sequences that were turned round."""

    causal = True

    def __init__(self, input_size: int, cell: Any) -> None:
        super().__init__()
        self.inner = Stacked(input_size, cell=cell, hidden_size=4)
        self.output_size = 4

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        y, state = self.inner(x.flip(1), state, lengths)
        return y.flip(1), state


class Normed(nn.Module):
    """A causal layer after a norm that keeps statistics, with dropout."""

    causal = True

    def __init__(self, input_size: int, cell: Any) -> None:
        super().__init__()
        part = partial(Recurrent, zoneout=0.3, weight_drop=0.2, recurrent_dropout=0.2)
        self.inner = Stacked(
            input_size, cell=cell, hidden_size=4, num_layers=2, dropout=0.3, layer=part
        )
        self.register_buffer("calls", torch.zeros(()))
        self.output_size = 4

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        self.calls += 1
        y, state = self.inner(x, state, lengths)
        return y, state


class Broken(Recurrent[Any]):
    """Gives an infinite output, or a gradient that is none, at step 3 of sequence 1."""

    where = "forward"

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        place = torch.zeros(*x.shape[:2], 1, dtype=torch.bool)
        place[1:2, 3:4] = True
        if self.where == "backward":
            x = x * 1.0
            x.register_hook(lambda g: torch.where(place, NAN, g))  # type: ignore[no-untyped-call]
        y, state = super().forward(x, state, lengths)
        if self.where == "forward":
            y = torch.where(place, torch.full_like(y, float("inf")), y)
        return y, state


def model(layers: Any = None, layer: Any = Recurrent, cell: Any = GRUCell) -> SequenceModel:
    torch.manual_seed(0)
    if layers is None:
        layers = partial(Stacked, hidden_size=4, num_layers=2, layer=layer)
    return SequenceModel(
        5, embedding=partial(TokenEmbedding, size=3), cell=cell, layers=layers, head=TokenHead
    )


def ids(batch: int = 3, steps: int = 10) -> Tensor:
    return torch.randint(0, 5, (batch, steps), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cell", [RNNCell, LSTMCell, GRUCell])
@pytest.mark.parametrize("lengths", [None, [10, 1, 6]])
def test_a_causal_model_passes_and_is_left_as_it_was(cell: Any, lengths: Any) -> None:
    made = model(Normed, cell=cell)
    before = torch.get_rng_state()
    check_causality(made, ids(), None if lengths is None else torch.tensor(lengths))
    assert torch.equal(torch.get_rng_state(), before)
    assert float(made.backbone.calls) == 0.0  # type: ignore[arg-type]
    assert made.training and all(p.grad is None for p in made.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("made", "name"),
    [
        (partial(model, layer=Peeking), r"backbone\.layers\.0 \(Peeking\)"),
        (partial(model, layers=Turning), r"backbone \(Turning\)"),
        (
            partial(model, layer=partial(Recurrent, reverse=True)),
            r"backbone\.layers\.0 \(Recurrent\)",
        ),
    ],
)
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_what_looks_ahead_is_named(made: Any, name: str, training: bool, steps: int) -> None:
    with pytest.raises(NotCausalError, match=rf"^{name} is not causal"):
        check_causality(made().train(training), ids(steps=steps))


def test_one_symbol_in_the_batch_is_enough() -> None:
    with pytest.raises(NotCausalError):
        check_causality(model(layer=Peeking), torch.full((2, 6), 3))


def test_a_run_that_would_look_ahead_ends_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ("model.layers.layer._target_=test_guards.Peeking",)
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 2
    err = capsys.readouterr().err
    assert "backbone.layers.0 (Peeking) is not causal" in err and "Traceback" not in err
    assert record(tmp_path / "run")["status"] == "failed" and record(tmp_path / "run")["steps"] == 0
    assert train(write_text(tmp_path), tmp_path / "other", *extra, "~callbacks.causality") == 0


def test_the_check_changes_nothing_in_a_run(tmp_path: Path) -> None:
    text, extra = write_text(tmp_path), ("model.head.dropout=0.3", "model.layers.layer.zoneout=0.1")
    assert train(text, tmp_path / "with", *extra) == 0
    assert train(text, tmp_path / "without", *extra, "~callbacks.causality") == 0
    assert rows(tmp_path / "with") == rows(tmp_path / "without")


# --- the first NaN -------------------------------------------------------------------------------


def loss_of(made: nn.Module) -> Any:
    return lambda: made(ids())[0].square().mean()


@pytest.mark.parametrize("engine", ["auto", "native"])
def test_an_infinite_output_is_found_with_its_layer_and_step(engine: str) -> None:
    made = model(layer=partial(Broken, engine=engine))
    found = find_first(made, loss_of(made), (3, 10))
    assert str(found) == (
        "the output of backbone.layers.0 (Broken), at time step 3 of sequence 1 (from 0)"
    )
    assert made.backbone.layers[0].engine == engine  # type: ignore[union-attr,index]


def test_a_gradient_that_is_none_is_found_with_its_layer_and_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Broken, "where", "backward")
    made = model(layer=Broken)
    found = find_first(made, loss_of(made), (3, 10))
    assert str(found) == (
        "the gradient of what backbone.layers.1 (Broken) reads, "
        "at time step 3 of sequence 1 (from 0)"
    )


def test_parameters_the_loss_and_nothing() -> None:
    made = model()
    assert find_first(made, loss_of(made), (3, 10)) is None
    found = find_first(made, lambda: loss_of(made)() * NAN, (3, 10))
    assert found is not None and found.what.startswith("the loss (nan)")
    with torch.no_grad():
        made.head.bias[2] = NAN  # type: ignore[index,operator]
    found = find_first(made, loss_of(made), (3, 10))
    assert found is not None and "parameter head.bias" in found.what


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_diverged_run_says_where_and_keeps_the_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], accumulate: int
) -> None:
    extra = ("model.layers.layer._target_=test_guards.Broken", "data.batch_size=3")
    extra += ("trainer.max_steps=4", f"trainer.accumulate_grad_batches={accumulate}")
    run = tmp_path / "run"
    assert train(write_text(tmp_path), run, *extra) == 1
    err = capsys.readouterr().err
    assert "at step 1;" in err and "Traceback" not in err
    assert "First: the output of backbone.layers.0 (Broken), at time step 3 of sequence 1" in err
    assert f"The batch is in {run / 'diverged.pt'}" in err
    reason = record(run)["reason"]
    assert "diverged.pt" in reason
    kept = torch.load(run / "diverged.pt", weights_only=True)
    assert kept["step"] == 1 and kept["batch"]["inputs"].shape == (3, 7)
    assert all(bool(v.isfinite().all()) for v in kept["state_dict"].values())


def test_the_step_before_which_the_weights_were_lost_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ("optimizer=sgd", "optimizer.lr=1e38", "clip=none", "scheduler=none", "model/cell=rnn")
    run = tmp_path / "run"
    assert train(write_text(tmp_path), run, *extra, "model.cell.nonlinearity=relu") == 1
    err = capsys.readouterr().err
    assert "First: " in err and "diverged.pt" in err
    kept = torch.load(run / "diverged.pt", weights_only=True)
    assert f"at step {kept['step']};" in err and kept["step"] > 1
    assert kept["carried"] is not None


# --- data whose answers are among its inputs -----------------------------------------------------


@pytest.mark.parametrize(
    "wanted",
    [
        ("model=prediction_real", "task=regression", "data=sines", "data.window=20"),
        ("model=prediction", "task=classification", "data=dyck"),
        ("experiment=anbn",),
        ("model=prediction", "task=tagging", "data=reber"),
    ],
    ids=["series", "brackets", "blocks", "grammar"],
)
def test_what_is_told_by_later_inputs_is_not_predicted_from_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    common = ("model.layers.hidden_size=4", "trainer.max_steps=1", "logger=none", "callbacks=none")
    both = ("train", *wanted, *common, "model/layers=bidirectional", f"run_dir={run}")
    assert main(list(both)) == 2
    err = capsys.readouterr().err
    assert "what is to be predicted is among the later inputs" in err and err.count("\n") == 1
    assert "(Bidirectional)" in err or "backwards" in err
    # What only says that it is causal is found by trying.
    own = ("model.layers.layer._target_=test_guards.Peeking", f"run_dir={tmp_path / 'other'}")
    peeking = (w for w in common if w != "callbacks=none")
    assert main(["train", *wanted, *peeking, "model/layers=plain", *own]) == 2
    assert "(Peeking) is not causal" in capsys.readouterr().err


def test_a_decoder_that_reads_what_it_is_to_write_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("trainer.max_steps=1", "logger=none", "~callbacks.analysis", "~callbacks.attention")
    small = ("model.encoder.hidden_size=4", "model.decoder.hidden_size=4", "data.length=5")
    few = ("data.valid_sequences=4", "data.test_sequences=4", "data.batch_size=4")
    wanted = ("train", "model=seq2seq", "data=sort", "task=seq2seq", *common, *small, *few)
    peeking = "layer._target_=test_guards.Peeking"
    for part, status in (("decoder", 2), ("encoder", 0)):
        own = (f"model.{part}.{peeking}", f"run_dir={tmp_path / part}")
        assert main([*wanted, *own]) == status
        told = "decoder.layers.0 (Peeking) is not causal" in capsys.readouterr().err
        assert told == (part == "decoder")


def test_a_driven_series_may_be_read_both_ways() -> None:
    from seqmodels.data.series import Narma, SeriesData

    data = SeriesData(Narma(), train=200, valid=0, test=0)
    data.setup()
    assert not data.must_be_causal


class Losing(torch.optim.Adam):
    """Loses a weight and its own second moment at its second step."""

    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)
        first = self.param_groups[0]["params"][0]
        if self.state[first]["step"] == 2:
            with torch.no_grad():
                first.fill_(NAN)
            self.state[first]["exp_avg_sq"][0, 0] = NAN
        return result


def test_a_weight_that_an_update_lost_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ("optimizer=adam", "optimizer._target_=test_guards.Losing", "clip=none")
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 1
    err = capsys.readouterr().err
    assert "at step 3;" in err
    assert "First: the parameter embedding.weight held it before this step already: an" in err
    assert "(so did the optimizer's exp_avg_sq of it)" in err


class Overflowing(Recurrent[Any]):
    """Gives an infinite output in evaluation, at step 1 of sequence 1."""

    def forward(self, x: Tensor, state: Any = None, lengths: Any = None) -> Any:
        y, state = super().forward(x, state, lengths)
        if not self.training:
            y = y.clone()
            y[1, 1] = float("inf")
        return y, state


def test_a_validation_that_diverges_says_where_and_keeps_the_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    extra = ("model.layers.layer._target_=test_guards.Overflowing", "~callbacks.analysis")
    assert train(write_text(tmp_path), run, *extra) == 1
    err = capsys.readouterr().err
    assert "the val loss is nan after step 3" in err and "Traceback" not in err
    first = "First: the output of backbone.layers.0 (Overflowing), at time step 1 of sequence 1"
    assert first in err
    kept = torch.load(run / "diverged.pt", weights_only=True)
    assert kept["step"] == 3 and kept["batch"]["inputs"].shape[0] == 2
