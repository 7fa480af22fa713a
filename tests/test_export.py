"""What is exported computes what the model computes, for any batch, length and carried state."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cell_cases import Case, each_cell
from seqmodels.cells import GRUCell, LSTMCell
from seqmodels.cli import main
from seqmodels.exporting import KEY, ExportError, Streaming, export
from seqmodels.layers import Bidirectional, Recurrent, Stacked
from seqmodels.models import (
    EchoStateModel,
    LinearHead,
    OneHot,
    PredictionModel,
    RealInputs,
    SequenceModel,
    TokenEmbedding,
    TokenHead,
)
from tiny import train, write_text

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("one_thread")


def language(cell: Any, **layers: Any) -> nn.Module:
    torch.manual_seed(0)
    return SequenceModel(
        11,
        embedding=partial(TokenEmbedding, size=6),
        cell=cell,
        layers=partial(Stacked, hidden_size=6, **layers),
        head=TokenHead,
    )


def series(cell: Any, **layers: Any) -> nn.Module:
    torch.manual_seed(0)
    return PredictionModel(
        3, 2, inputs=RealInputs, cell=cell, layers=partial(Stacked, **layers), head=LinearHead
    )


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_an_onnx_model_streams(tmp_path: Path) -> None:
    """By ONNX Runtime alone, with what the file says of itself."""
    model = language(LSTMCell, num_layers=2, norm="layer", skip="residual")
    path = tmp_path / "model.onnx"
    difference = export(model, "onnx", path, {"step": 7})
    assert difference is not None and difference < 1e-5
    run = session(path)
    told = json.loads(run.get_modelmeta().custom_metadata_map[KEY])
    assert told["step"] == 7
    assert [s["input"] for s in told["state"]] == [
        "state_0_h", "state_0_c", "state_1_h", "state_1_c"
    ]  # fmt: skip
    ids = torch.randint(11, (5, 9))
    expected, last = model(ids)
    state = {s["input"]: torch.zeros(5, *s["shape"][1:]).numpy() for s in told["state"]}
    outputs = []
    for part in ids.split(4, dim=1):
        y, *new = run.run(None, {"inputs": part.numpy(), **state})
        state = dict(zip(state, new, strict=True))
        outputs.append(torch.from_numpy(y))
    torch.testing.assert_close(torch.cat(outputs, 1), expected)
    torch.testing.assert_close(torch.from_numpy(state["state_1_c"]), last[1].c)
    # As the page says.
    page = (Path(__file__).parents[1] / "docs/export.md").read_text(encoding="utf-8")
    block = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {"path": path}
    exec(block, names)
    expected, _ = model(torch.tensor([[3, 1, 4]]))
    torch.testing.assert_close(torch.from_numpy(names["logits"]), expected[:, 2:])


def test_a_torch_export_needs_nothing_of_this_package(tmp_path: Path) -> None:
    model = series(partial(GRUCell, bias=False), hidden_size=[4, 5], num_layers=2)
    path = tmp_path / "model.pt2"
    export(model, "torch_export", path)
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra).module()
    x = torch.randn(4, 6, 3)
    outputs, state = program(x, [torch.zeros(4, 4), torch.zeros(4, 5)])
    expected, last = model(x)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state[1], last[1].h)
    assert [s["shape"] for s in json.loads(extra[KEY])["state"]] == [["batch", 4], ["batch", 5]]


@pytest.mark.slow
def test_a_learned_first_state_is_told(tmp_path: Path) -> None:
    model = language(GRUCell, layer=partial(Recurrent, learned_state=True))
    nn.init.normal_(model.backbone.layers[0].initial_h)  # type: ignore[union-attr,arg-type,operator,index]
    path = tmp_path / "model.pt2"
    export(model, "torch_export", path)
    extra = {KEY: ""}
    program = torch.export.load(path, extra_files=extra).module()
    (told,) = json.loads(extra[KEY])["state"]
    ids = torch.randint(11, (2, 3))
    outputs, _ = program(ids, [torch.tensor(told["initial"]).expand(2, -1)])
    torch.testing.assert_close(outputs, model(ids)[0])


@pytest.mark.slow
def test_both_directions_have_no_state_to_hand_on(tmp_path: Path) -> None:
    layer = partial(Bidirectional, layer=Recurrent)
    model = series(GRUCell, hidden_size=4, layer=layer)
    path = tmp_path / "model.pt2"
    assert Streaming(model).names == []
    export(model, "torch_export", path)
    program = torch.export.load(path).module()
    x = torch.randn(2, 9, 3)
    torch.testing.assert_close(program(x, [])[0], model(x)[0])


def test_weights_alone_load_into_a_model(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    torch.manual_seed(0)
    model = SequenceModel(  # with tied weights, which the format does not know
        11,
        embedding=partial(TokenEmbedding, size=6),
        cell=LSTMCell,
        layers=partial(Stacked, hidden_size=6),
        head=partial(TokenHead, tie_weights=True),
    )
    path = tmp_path / "weights.safetensors"
    assert export(model, "safetensors", path) is None
    other = language(LSTMCell)
    other.load_state_dict(load_file(path))
    ids = torch.randint(11, (2, 5))
    assert torch.equal(other(ids)[0], model(ids)[0])


@pytest.mark.slow
def test_what_computes_something_else_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqmodels import exporting

    original = exporting._write_torch

    def wrong(*arguments: Any) -> Any:
        run = original(*arguments)
        return lambda inputs, state: [value + 1e-2 for value in run(inputs, state)]

    monkeypatch.setattr(exporting, "_write_torch", wrong)
    with pytest.raises(ExportError, match="something else than the original"):
        export(language(GRUCell), "torch_export", tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@each_cell
def test_every_cell(case: Case, tmp_path: Path) -> None:
    def make(input_size: int, hidden_size: int) -> Any:
        cell: Any = case.kind
        return cell(input_size, hidden_size, **case.arguments)

    model = EchoStateModel(3, 2, cell=make, layers=partial(Stacked, hidden_size=6), squares=True)
    nn.init.normal_(model.weight)
    difference = export(model, "onnx", tmp_path / "model.onnx")
    assert difference is not None


@pytest.mark.slow
def test_symbols_and_dilation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PredictionModel(
        4, 2, inputs=OneHot, cell=GRUCell, head=LinearHead,
        layers=partial(Stacked, hidden_size=4, num_layers=2, dilation=[1, 2]),
    )  # fmt: skip
    with pytest.raises(ExportError, match="format=safetensors"):
        export(model, "onnx", tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    assert train(write_text(folder), folder / "run") == 0
    return folder / "run"


def test_the_command(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors import safe_open

    assert main(["export", f"run={run_dir}", "format=safetensors"]) == 0
    assert "bytes, step 6" in capsys.readouterr().out
    with safe_open(run_dir / "model.safetensors", "pt") as file:
        told = json.loads(file.metadata()[KEY])
    assert told["config"]["model"]["layers"]["hidden_size"] == 8
    assert "vocabulary" in told
    # Nothing is overwritten unasked.
    before = (run_dir / "model.safetensors").read_bytes()
    assert main(["export", f"run={run_dir}", "format=safetensors"]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    assert main(["export", f"run={run_dir}", "format=safetensors", "overwrite=true"]) == 0
    assert (run_dir / "model.safetensors").read_bytes() == before


@pytest.mark.slow
def test_the_command_writes_graphs(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, name in (("onnx", "model.onnx"), ("torch_export", "model.pt2")):
        assert main(["export", f"run={run_dir}", f"format={form}", "checkpoint=last"]) == 0
        assert (run_dir / name).exists()
        assert "largest difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["format=onx"], "did you mean 'onnx'?"),
        (["path=model.bin"], "expected the name of a .onnx file"),
        (["path=/no/such/folder/m.onnx"], "there is no folder /no/such/folder"),
        (["checkpoint=first"], "expected one of 'best', 'last'"),
    ],
)
def test_mistakes_are_told(
    run_dir: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"run={run_dir}", *words]) == 2
    assert said in capsys.readouterr().err
