"""Every promise that is broken is found by the check that is there for it; good cells pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import faulty_cells as faulty
from cell_cases import CASES, Case
from seqmodels.analysis.verify import CHECKS, Check, verify
from seqmodels.cells import GRUCell, LSTMCell, RNNCell
from seqmodels.cli import main
from seqmodels.engines import ENGINES

QUICK = [name for name in ("eager", "native", "compiled") if name in ENGINES]  # nothing is compiled


def factory(case: Case) -> Any:
    """Cells whose weights follow from the generator's seed, as a constructor's do."""
    return lambda i, h: case.make(i, h, seed=torch.initial_seed())


def results(factory: Any, **settings: Any) -> dict[str, Check]:
    settings = {"engines": ["eager"], "speed": None, **settings}
    return {check.name: check for check in verify(factory, **settings)}


def failed(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if check.status == "failed"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_good_cells_pass(case: Case) -> None:
    found = verify(
        factory(case),
        engines=QUICK,
        speed=None,
    )
    assert [check for check in found if check.status == "failed"] == []
    assert [c.name for c in found] == [n for n, _ in CHECKS] + [f"BPTT: {n}" for n in QUICK]


def test_a_good_cell_of_a_third_party_passes() -> None:
    assert failed(results(faulty.Good, engines=QUICK)) == set()


@pytest.mark.parametrize(
    ("kind", "check", "says"),
    [
        (faulty.Leaks, "rows independent", "depend on its own input alone"),
        (faulty.Broadcasts, "rows independent", "depend on its own input alone"),
        (faulty.SeesTheFuture, "causality", "no output to depend on later inputs"),
        (faulty.SeesTheFutureQuietly, "causality", "no output to depend on later inputs"),
        (faulty.IgnoresState, "carried state", "it is ignored"),
        (faulty.StartsAnew, "carried state", "it is ignored"),
        (faulty.StartsAnew, "stepping", "expected a relative error"),
        (faulty.KeepsState, "no state in the module", "a new last"),
        (faulty.CountsCalls, "no state in the module", "a changed calls"),
        (faulty.Detached, "gradcheck: state", "∂(outputs)/∂(state.h)"),
        (faulty.Detached, "gradcheck: parameters", "∂(outputs)/∂(weight_ih)"),
        (faulty.NoGradient, "gradcheck: inputs", "∂(outputs)/∂(x)"),
        (faulty.WrongShapes, "contract", "(2, 5), got (2, 10)"),
        (faulty.WrongFirstField, "contract", "h (B, output_size) = (2, 5), got (2, 6)"),
        (faulty.WrongDtype, "contract", "torch.float64, got torch.float32"),
        (faulty.PlainTuple, "contract", "a NamedTuple of tensors, got tuple"),
        (faulty.BatchFirst, "contract", "(T, B, G) = (4, 2, ·), got (2, 4, 5)"),
        (faulty.Raises, "contract", "RuntimeError: the projector is broken"),
        (faulty.Unsaved, "state_dict", "something that the equation uses is not in it"),
        (faulty.ReadsPadding, "padding", "a row of length"),
    ],
)
def test_a_broken_promise_is_found(kind: Any, check: str, says: str) -> None:
    found = results(kind)
    assert found[check].status == "failed"
    assert says in found[check].detail


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (faulty.Unsaved, {"state_dict"}),
        (faulty.CountsCalls, {"no state in the module", "state_dict"}),
        (faulty.Detached, {"gradcheck: inputs", "gradcheck: state", "gradcheck: parameters"}),
    ],
)
def test_nothing_else_is_blamed(kind: Any, names: set[str]) -> None:
    assert failed(results(kind)) <= names


def test_what_stands_on_a_broken_contract_is_not_run() -> None:
    found = results(faulty.WrongShapes)
    assert failed(found) == {"contract"}
    assert {c.status for n, c in found.items() if n != "contract"} == {"skipped"}


def test_an_engine_with_wrong_gradients_is_found() -> None:
    found = results(faulty.WrongOperator, engines=["eager", "compiled"])
    assert failed(found) == {"BPTT: compiled"}
    detail = found["BPTT: compiled"].detail
    assert "gradient of weight_hh: expected a relative error of at most 1e-09, got 1" in detail


def test_an_engine_that_may_not_run_says_why() -> None:
    found = results(faulty.Good, engines=["native"])
    assert found["BPTT: native"].status == "skipped"
    assert "no kernel for the equation of Good" in found["BPTT: native"].detail


def test_a_factory_that_raises_or_gives_something_else() -> None:
    def refuses(input_size: int, hidden_size: int) -> LSTMCell:
        raise ValueError("never")

    assert "ValueError: never" in results(refuses)["contract"].detail
    assert "got Linear" in results(torch.nn.Linear)["contract"].detail


def test_speed_is_measured_and_judges_nothing() -> None:
    found = results(GRUCell, engines=["eager"], speed=(2, 2, 2, 2), seconds=1e-9)
    assert found["speed: eager"].status == "measured"
    assert "T,B,I,H = 2,2,2,2" in found["speed: eager"].detail


def test_progress_and_the_generator_of_the_caller() -> None:
    names: list[str] = []
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = results(RNNCell, starting=names.append)
    assert names == list(found)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected engines out of .*, got 'fast'"):
        verify(RNNCell, engines=["fast"])


# ------------------------------------------------------------------------------- the command

FAST = ["engines=[eager,native]", "speed=null", "num_threads=1"]


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def custom(name: str, *more: str) -> list[str]:
    target = f"model.cell._target_=faulty_cells.{name}"
    return ["verify", "model/cell=custom", target, *FAST, *more]


def test_the_command_prints_a_line_a_check(capsys: Any) -> None:
    assert main(["verify", "model/cell=gru", *FAST]) == 0
    out = capsys.readouterr().out
    for name, _ in CHECKS:
        assert f"│ {name} " in out
    assert "BPTT: native" in out
    assert "checks passed" in out


def test_the_status_is_1_where_a_check_fails(capsys: Any) -> None:
    assert main(custom("SeesTheFuture")) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "checks failed: causality" in out
    assert main(custom("Raises")) == 1
    captured = capsys.readouterr()
    assert "the projector is broken" in captured.out
    assert "Traceback" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model/cell=lstmm"], "did you mean"),
        (["model/cell=custom"], "needs model.cell._target_=package.Class"),
        (["model.cell.bias=maybe"], "model.cell.bias"),
        (["engines=[fast]"], "engines: expected engines out of"),
        (["speed=[1,2,3]", "seconds=0"], "2 problems"),
        (["hidden_size=0"], "hidden_size: expected at least 1"),
        (["num_threads=0"], "num_threads: expected at least 1"),
        (custom("Good", "+model.cell.scale=-1.0")[1:], "model.cell: expected scale > 0, got -1.0"),
    ],
)
def test_a_wrong_configuration_is_status_2(words: list[str], says: str, capsys: Any) -> None:
    assert main(["verify", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err


def test_a_cell_in_a_file_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    source = "from faulty_cells import Good\n\n\nclass Mine(Good):\n    pass\n"
    (tmp_path / "verify_mine.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["verify", "model/cell=custom", "model.cell._target_=verify_mine.Mine", *FAST]
    try:
        assert main([*arguments, "+model.cell.scale=0.5"]) == 0
    finally:
        sys.modules.pop("verify_mine", None)
    assert "verify_mine.Mine(3, 5)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch in its own inductor
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_everything_with_the_real_compiler(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES["compiled"], "backend", "inductor")
    found = verify(
        factory(case),
        speed=(5, 3, 4, 4),
        seconds=0.1,
    )
    assert [check for check in found if check.status == "failed"] == []
    assert {f"BPTT: {name}" for name in ENGINES} <= {check.name for check in found}
