"""Clipping: what comes out is bounded, what was within bounds is untouched, the report is true."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from seqmodels.cells import GRUCell, LSTMCell, RNNCell
from seqmodels.commands.running import quiet_lightning
from seqmodels.data.text import TextData
from seqmodels.engines import ENGINES, EngineError
from seqmodels.layers import Bidirectional, Recurrent, Stacked
from seqmodels.models import SequenceModel, TokenEmbedding, TokenHead
from seqmodels.training.clipping import Clip, NoClip, NormClip, SkipClip, ValueClip
from seqmodels.training.clipping_parts import AdaptiveClip, AutoClip, PerLayerClip
from seqmodels.training.clipping_steps import StepClip
from seqmodels.training.language import LanguageModelling
from seqmodels.training.schedules import ConstantSchedule, Horizon
from tiny import rows, train, write_text


def parameters(*gradients: list[float] | None) -> list[nn.Parameter]:
    made = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(2 if gradient is None else len(gradient)).double())
        if gradient is not None:
            parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        made.append(parameter)
    return made


def total_norm(made: list[nn.Parameter]) -> float:
    return float(sum((p.grad**2).sum() for p in made if p.grad is not None) ** 0.5)


def test_norm_scales_the_whole_gradient_and_keeps_its_direction() -> None:
    made = parameters([3.0, 0.0], None, [0.0, 4.0])
    clipped = NormClip(1.0)(made)
    assert float(clipped.norm) == pytest.approx(5.0)
    assert bool(clipped.engaged)
    assert total_norm(made) == pytest.approx(1.0)
    assert made[0].grad is not None and made[0].grad.tolist() == pytest.approx([0.6, 0.0])
    assert made[1].grad is None


def test_norm_leaves_a_short_gradient_bit_for_bit() -> None:
    made = parameters([0.3, -0.1], [0.7])
    before = [p.grad.clone() for p in made if p.grad is not None]
    clipped = NormClip(1.0)(made)
    assert not bool(clipped.engaged)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, made, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("policy", [NormClip, partial(PerLayerClip, per="parameter")])
def test_norm_after_is_never_above_the_bound(policy: Any, dtype: torch.dtype) -> None:
    """Not by rounding either."""
    torch.manual_seed(0)
    for trial in range(50):
        bound = float(10.0 ** torch.randn(()))
        made = [nn.Parameter(torch.zeros(size, dtype=dtype)) for size in ((3,), (50,), (20, 30))]
        for number, parameter in enumerate(made):
            scale = bound * 10.0 ** (number - 1 + trial % 3)
            parameter.grad = (torch.randn(parameter.shape) * scale).to(dtype)
        clipped = policy(bound)(made)
        norms = [float(torch.linalg.vector_norm(p.grad.double())) for p in made]  # type: ignore[union-attr]
        if policy is NormClip:
            norms = [sum(norm**2 for norm in norms) ** 0.5]
            assert float(clipped.after) <= bound < float(clipped.norm)
        assert bool(clipped.engaged)
        assert all(norm <= bound for norm in norms)
        assert max(norms) > 0.99 * bound


def test_a_zero_gradient_stays_zero() -> None:
    made = parameters([0.0, 0.0])
    clipped = NormClip(1.0)(made)
    assert made[0].grad is not None and made[0].grad.tolist() == [0.0, 0.0]
    assert float(clipped.norm) == 0.0 and not bool(clipped.engaged)


def test_value_cuts_elements() -> None:
    made = parameters([3.0, -0.5], [-2.0])
    clipped = ValueClip(1.0)(made)
    assert [p.grad.tolist() for p in made if p.grad is not None] == [[1.0, -0.5], [-1.0]]
    assert bool(clipped.engaged)
    assert float(clipped.norm) == pytest.approx((9 + 0.25 + 4) ** 0.5)
    assert not bool(ValueClip(1.0)(made).engaged)


def test_none_measures_only() -> None:
    made = parameters([3.0, 4.0])
    clipped = NoClip()(made)
    assert float(clipped.norm) == pytest.approx(5.0) and not bool(clipped.engaged)
    assert made[0].grad is not None and made[0].grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("clip", [NoClip(), NormClip(1.0), ValueClip(1.0), AutoClip(0.5)])
def test_a_nan_is_reported_as_the_norm(clip: Clip) -> None:
    assert clip(parameters([float("nan"), 1.0])).norm.isnan()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_bounds_must_be_positive(value: float) -> None:
    with pytest.raises(ValueError, match="max_norm must be positive"):
        NormClip(value)
    with pytest.raises(ValueError, match="max_value must be positive"):
        ValueClip(value)


# --- skip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [[3.0, 4.0], [float("nan"), 0.0], [float("inf"), 0.0]])
def test_skip_leaves_no_gradient_and_moves_nothing(gradient: list[float]) -> None:
    made = parameters(gradient, [0.1])
    optimizer = torch.optim.AdamW(made, lr=1.0, weight_decay=0.5)
    with torch.no_grad():
        for parameter in made:
            parameter.add_(1.0)
    clipped = SkipClip(1.0)(made)
    optimizer.step()
    assert clipped.skipped and not bool(clipped.engaged) and float(clipped.after) == 0.0
    assert all(p.grad is None for p in made)
    assert all(bool((p == 1.0).all()) for p in made) and not optimizer.state


def test_skip_lets_a_short_gradient_pass() -> None:
    made = parameters([0.3, 0.4])
    clipped = SkipClip(1.0)(made)
    assert clipped.skipped is False and float(clipped.after) == pytest.approx(0.5)
    assert made[0].grad is not None and made[0].grad.tolist() == [0.3, 0.4]


# --- adaptive ------------------------------------------------------------------------------------


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 10.0 ** torch.randint(-4, 2, ())
    return model


def test_adaptive_bounds_every_unit_by_its_weights() -> None:
    model = linear()
    with torch.no_grad():
        model[1].bias.zero_()  # type: ignore[index,union-attr,operator]
        model[0].weight.grad[0] *= 1e-6  # type: ignore[index,union-attr,operator]
    clip = AdaptiveClip(0.1, 1e-3, exclude=[])
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    clipped = clip(list(model.parameters()))
    cut, units = 0, 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        rows = parameter.detach().reshape(len(parameter), -1)
        if parameter.dim() == 1:
            rows = rows.t()
        after, old = (g.reshape(rows.shape) for g in (parameter.grad, before[name]))
        for w, g, o in zip(rows, after, old, strict=True):
            bound = 0.1 * max(float(w.norm()), 1e-3)
            expected = o * min(1.0, bound / float(o.norm()))
            assert torch.allclose(g, expected, rtol=1e-12, atol=0.0)
            cut, units = cut + (float(o.norm()) > bound), units + 1
    assert 0 < cut < units
    assert float(clipped.details["clipped_units_share"]) == pytest.approx(cut / units)
    assert float(clipped.after) == pytest.approx(total_norm(list(model.parameters())))


def test_adaptive_leaves_out_what_is_named_and_knows_no_other_names() -> None:
    model = linear()
    clip = AdaptiveClip(1e-6, exclude=["1"])
    clip.attach(model)
    before = [p.grad.clone() for p in model[1].parameters() if p.grad is not None]  # type: ignore[index,union-attr]
    clip(list(model.parameters()))
    kept = zip(before, model[1].parameters(), strict=True)  # type: ignore[index,union-attr]
    assert all(torch.equal(b, p.grad) for b, p in kept)
    assert float(model[0].weight.grad.norm()) < 1e-4  # type: ignore[index,union-attr,operator]
    with pytest.raises(ValueError, match="'head' and no parameter"):
        AdaptiveClip().attach(model)
    with pytest.raises(RuntimeError, match="attach"):
        AdaptiveClip()(list(model.parameters()))


# --- per layer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["module", "parameter"])
def test_per_layer_bounds_each_and_leaves_the_others(per: Any) -> None:
    model = linear()
    clip = PerLayerClip(0.5, per)
    clip.attach(model)
    names = [n.rpartition(".")[0] if per == "module" else n for n, _ in model.named_parameters()]
    groups = {
        layer: [p for n, p in zip(names, model.parameters(), strict=True) if n == layer]
        for layer in names
    }
    old = {layer: total_norm(own) for layer, own in groups.items()}
    clipped = clip(list(model.parameters()))
    for layer, own in groups.items():
        assert total_norm(own) == pytest.approx(min(0.5, old[layer]), rel=1e-12)
    assert len(set(old.values())) == (2 if per == "module" else 4)
    share = sum(norm > 0.5 for norm in old.values()) / len(old)
    assert float(clipped.details["clipped_layers_share"]) == pytest.approx(share)
    assert float(clipped.after) == pytest.approx(total_norm(list(model.parameters())))
    assert float(clipped.norm) == pytest.approx(sum(n**2 for n in old.values()) ** 0.5)


# --- auto ----------------------------------------------------------------------------------------


def test_auto_clips_to_the_quantile_of_the_last_norms() -> None:
    norms = [3.0, 1.0, 5.0, 2.0, 0.5, 4.0, 9.0]
    clip = AutoClip(0.5, window=3)
    for place, norm in enumerate(norms):
        made = parameters([norm, 0.0])
        clipped = clip(made)
        window = torch.tensor(norms[max(0, place - 2) : place + 1]).double()
        bound = float(window.quantile(0.5))
        assert float(clipped.details["threshold"]) == pytest.approx(bound)
        assert total_norm(made) == pytest.approx(min(norm, bound))
        assert bool(clipped.engaged) == (norm > bound)


def test_auto_goes_on_from_its_state_and_keeps_optimisers_apart() -> None:
    model = linear()
    first, second = list(model[0].parameters()), list(model[1].parameters())  # type: ignore[index]
    clip = AutoClip(0.5, window=4)
    clip.attach(model)
    torch.manual_seed(1)

    def step(policy: AutoClip, own: list[nn.Parameter], norm: float) -> float:
        for parameter in own:
            parameter.grad = torch.zeros_like(parameter)
            parameter.grad.view(-1)[0] = norm / 2**0.5
        return float(policy(own).details["threshold"])

    for norm in (1.0, 2.0, 3.0):
        step(clip, first, norm), step(clip, second, 100 * norm)
    other = AutoClip(0.5, window=4)
    other.attach(model)
    other.load_state_dict(copy.deepcopy(clip.state_dict()))
    # The other way round: whose turn is first after resuming does not matter.
    found = [step(other, second, 400.0), step(other, first, 4.0), step(other, second, 500.0)]
    expected = [step(clip, second, 400.0), step(clip, first, 4.0), step(clip, second, 500.0)]
    assert found == expected == pytest.approx([250.0, 2.5, 350.0])


def test_auto_does_not_take_an_infinite_norm_for_its_bound() -> None:
    clip = AutoClip(1.0)
    clip(parameters([1.0]))
    clip(parameters([float("inf")]))
    assert float(clip(parameters([5.0])).details["threshold"]) == 5.0
    assert float(clip(parameters([0.1])).details["threshold"]) == 5.0


# --- within back-propagation ---------------------------------------------------------------------


def by_hand(
    cell: RNNCell, x: torch.Tensor, weights: torch.Tensor, how: str, bound: float
) -> tuple[torch.Tensor, int]:
    """∂L/∂W_hh of L = Σ y · weights, with the recursion written out, and how often it engaged
    between two steps (the first state has no gradient)."""
    h = [torch.zeros(x.shape[1], cell.hidden_size, dtype=x.dtype)]
    for row in cell.project(x).detach():
        h.append(torch.tanh(row + h[-1] @ cell.weight_hh.detach().t()))
    come, total = torch.zeros_like(h[0]), torch.zeros_like(cell.weight_hh)
    engaged = 0
    for t in reversed(range(len(x))):
        into = (come + weights[t]) * (1 - h[t + 1] ** 2)
        total += into.t() @ h[t]
        come = into @ cell.weight_hh.detach()
        norm = come.norm(dim=1, keepdim=True)
        if how == "value":
            engaged += int((come.abs() > bound).any(1).sum()) if t else 0
            come = come.clamp(-bound, bound)
        else:
            engaged += int((norm > bound).sum()) if t else 0
            less = bound / norm if how == "norm" else torch.zeros_like(norm)
            come = torch.where(norm > bound, come * less, come)
    return total, engaged


@pytest.mark.parametrize("how", ["norm", "value", "cut"])
def test_step_clips_every_sequence_at_every_step(how: Any) -> None:
    torch.manual_seed(0)
    layer = Recurrent(RNNCell(3, 5)).double()
    with torch.no_grad():
        layer.cell.weight_hh.mul_(3.0)
    x, weights = torch.randn(4, 9, 3).double(), torch.randn(4, 9, 5).double()
    weights[0] *= 0.01
    clip = StepClip(0.7, how)
    clip.attach(layer)
    y, _ = layer(x)
    (y * weights).sum().backward()
    expected, engaged = by_hand(layer.cell, x.transpose(0, 1), weights.transpose(0, 1), how, 0.7)
    assert layer.cell.weight_hh.grad is not None
    assert torch.allclose(layer.cell.weight_hh.grad, expected, rtol=1e-10)
    clipped = clip(list(layer.parameters()))
    assert 0 < engaged < 32
    assert float(clipped.details["clipped_steps_share"]) == pytest.approx(engaged / 32)
    assert float(clipped.details["step_norm_max"]) > 0.7
    if how != "value":
        assert float(clipped.details["step_norm_after_max"]) <= 0.7 * (1 + 1e-12)
    assert not bool(clip(list(layer.parameters())).engaged)  # told once


@pytest.mark.parametrize("make", [LSTMCell, GRUCell])
def test_step_without_effect_changes_nothing_and_padding_is_no_step(make: Any) -> None:
    torch.manual_seed(0)
    plain = Bidirectional(lambda: make(3, 4)).double()
    bounded = copy.deepcopy(plain)
    StepClip(1e9).attach(bounded)
    x, lengths = torch.randn(3, 7, 3).double(), torch.tensor([7, 2, 4])
    for layer in (plain, bounded):
        y, _ = layer(x, None, lengths)
        y.square().sum().backward()
    pairs = zip(plain.parameters(), bounded.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, rtol=1e-12) for a, b in pairs)  # type: ignore[arg-type]


def test_only_the_eager_engine_clips_steps_and_evaluation_is_free() -> None:
    layer = Recurrent(LSTMCell(3, 4))
    StepClip().attach(layer)
    x = torch.randn(2, 5, 3)
    layer(x)
    assert layer.engine_used == "eager"
    for name in ("native", "generated", "compiled"):
        reason = ENGINES[name].why_not(layer.training_cell, x, None, None)
        assert reason is not None and ("between two steps" in reason or "compiler" in reason)
    layer.eval()(x)
    assert layer.engine_used == "native"
    with pytest.raises(EngineError, match="between two steps"):
        StepClip().attach(Recurrent(LSTMCell(3, 4), engine="native"))
    with pytest.raises(ValueError, match="recurrent layers"):
        StepClip().attach(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkipClip(0.0), "max_norm"),
        (lambda: AdaptiveClip(0.0), "ratio"),
        (lambda: AutoClip(0.0), "quantile"),
        (lambda: AutoClip(0.5, 0), "window"),
        (lambda: PerLayerClip(1.0, "tensor"), "per must be"),  # type: ignore[arg-type]
        (lambda: StepClip(1.0, "hard"), "how must be"),  # type: ignore[arg-type]
    ],
)
def test_settings_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- in training: accumulation, bf16, several optimisers -----------------------------------------

POLICIES = ["norm", "value", "adaptive", "auto", "per_layer", "skip", "step"]
LIMITS = {
    "norm": ("clip.max_norm=0.01",),
    "value": ("clip.max_value=0.001",),
    "adaptive": ("clip.ratio=0.001", "clip.exclude=[]"),
    "auto": ("clip.quantile=0.5",),
    "per_layer": ("clip.max_norm=0.01",),
    "skip": ("clip.max_norm=1e-6",),
    "step": ("clip.max_norm=1e-6",),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "how",
    [(), ("trainer.accumulate_grad_batches=2",), ("trainer.precision=bf16-mixed",)],
    ids=["plain", "accumulated", "bf16"],
)
def test_what_the_optimiser_gets_is_within_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, how: tuple[str, ...]
) -> None:
    """With plain SGD at rate 1 the change of a weight is the gradient that was used."""
    seen: list[tuple[Any, dict[str, torch.Tensor]]] = []
    original = torch.optim.SGD.step

    def watched(self: Any, closure: Any = None) -> Any:
        own = [p for group in self.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in own]
        result = original(self, closure)
        seen.append([b - p.detach() for b, p in zip(before, own, strict=True)])  # type: ignore[arg-type]
        return result

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    extra = (f"clip={policy}", *LIMITS[policy], "optimizer=sgd", "optimizer.lr=1.0", *how)
    extra += ("scheduler=none", "trainer.max_steps=3", "trainer.log_every_n_steps=1")
    assert train(write_text(tmp_path), tmp_path / "run", *extra) == 0
    logged = [row for row in rows(tmp_path / "run") if "gradient/norm" in row]
    assert len(seen) == len(logged) == 3
    for moved, row in zip(seen, logged, strict=True):
        norm = float(sum((m.double() ** 2).sum() for m in moved) ** 0.5)  # type: ignore[union-attr]
        # The difference of two float32 weights is known to some 1e-8.
        assert norm == pytest.approx(row["gradient/norm_after"], rel=1e-3, abs=1e-6)
        if policy == "norm":
            assert norm <= 0.01 * (1 + 1e-3) < row["gradient/norm"]
        elif policy == "value":
            assert max(float(m.abs().max()) for m in moved) <= 0.001 * (1 + 1e-3)  # type: ignore[union-attr]
        elif policy == "auto":
            assert norm <= row["gradient/threshold"] * (1 + 1e-3)
        elif policy == "skip":
            assert norm == 0.0 and row["gradient/norm"] > 0
        elif policy == "step":
            assert row["gradient/step_norm_after_max"] <= 1e-6 * (1 + 1e-5)
            assert row["gradient/step_norm_max"] > 1e-6
    last = logged[-1]
    if policy == "skip":
        assert last["gradient/skipped_updates"] == 3 and last["gradient/skipped_share"] == 1.0
        assert last["gradient/clipped_share"] == 0.0
    elif policy != "auto":
        assert last["gradient/clipped_share"] == 1.0


class Two(LanguageModelling):
    """Trains the embedding with one optimiser and the rest with another."""

    def configure_optimizers(self) -> Any:
        self.automatic_optimization = False
        parts = {True: [], False: []}  # type: ignore[var-annotated]
        for name, parameter in self.model.named_parameters():
            parts[name.startswith("embedding")].append(parameter)
        self.schedule.build(torch.optim.SGD(parts[True]), Horizon(None, 1))
        return [torch.optim.SGD(part, lr=1.0) for part in parts.values()]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        both: Any = self.optimizers()
        for optimizer in both:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in both:
            self.configure_gradient_clipping(optimizer.optimizer)
            own = [p for group in optimizer.param_groups for p in group["params"]]
            before = [p.detach().clone() for p in own]
            optimizer.step()
            moved = sum(
                float(((b - p.detach()) ** 2).sum()) for b, p in zip(before, own, strict=True)
            )
            self.moved.append(moved**0.5)

    moved: list[float] = []  # noqa: RUF012


def test_of_several_optimisers_each_is_within_the_bound(tmp_path: Path) -> None:
    data = TextData(path=write_text(tmp_path), batch_size=4, seq_len=5)
    data.setup()
    model = SequenceModel(
        len(data.vocabulary),
        embedding=TokenEmbedding,
        cell=GRUCell,
        layers=lambda size, cell: Stacked(size, cell=cell, hidden_size=4),
        head=TokenHead,
    )
    task = Two(
        model,
        optimizer=torch.optim.SGD,
        schedule=ConstantSchedule(),
        clip=NormClip(0.001),
        data=data,
    )
    task.moved = []
    quiet_lightning()
    trainer = pl.Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, data.train_loader())
    assert len(task.moved) >= 4
    assert task.moved == pytest.approx([0.001] * len(task.moved), rel=1e-3)


def test_under_a_loss_scale_the_bound_scales_too() -> None:
    gradients, told = [], []
    for scale in (1.0, 1024.0):
        torch.manual_seed(0)
        layer = Recurrent(RNNCell(3, 5)).double()
        clip = StepClip(0.1)
        clip.attach(layer)
        clip.loss_scale = scale
        y, _ = layer(torch.randn(2, 6, 3).double())
        (y.square().sum() * scale).backward()
        assert layer.cell.weight_hh.grad is not None
        gradients.append(layer.cell.weight_hh.grad / scale)
        told.append(clip(list(layer.parameters())))
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-12)
    assert bool(told[0].engaged)
    for name in ("clipped_steps_share", "step_norm_max", "step_norm_after_max"):
        assert float(told[0].details[name]) == pytest.approx(float(told[1].details[name]))
