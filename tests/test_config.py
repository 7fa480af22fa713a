"""Configuration: every mistake is found, said once and clearly, before anything is built."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

import config_toys
from seqmodels.config import (
    apply_overrides,
    check,
    compose,
    config_dir,
    diff,
    from_plain,
    instantiate,
    static,
    to_plain,
)
from seqmodels.config.checking import check_problems
from seqmodels.config.matching import Built, mismatch
from seqmodels.config.signatures import inspect_callable, locate
from seqmodels.errors import UserError
from seqmodels.locations import config_groups


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = config_toys.write_configs(tmp_path / "configs")
    monkeypatch.setattr("seqmodels.config.composition.config_dir", lambda: folder)
    return folder


def complaint(*overrides: str, name: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        check(compose(name, overrides))
    return str(caught.value)


# ---------------------------------------------------------------------------------- composing


@pytest.mark.usefixtures("toys")
def test_compose_gives_the_typed_configuration() -> None:
    cfg = compose("train", ["experiment=good", "seed=3", "clip=norm", "clip.max_norm=0.5"])
    check(cfg)
    assert cfg.seed == 3
    assert cfg.clip.max_norm == 0.5
    assert cfg.model.layers.hidden_size == [4, 4]
    assert cfg.trainer.max_steps == 10
    assert cfg.trainer.log_every_n_steps == 50  # from the schema
    assert "hydra" not in cfg


@pytest.mark.usefixtures("toys")
def test_compose_writes_nothing_and_leaves_hydra_as_it_was(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    cwd = Path.cwd()
    compose("train", ["seed=1"])
    complaint("seeed=1")
    assert Path.cwd() == cwd
    assert sorted(tmp_path.rglob("*")) == before
    assert not GlobalHydra.instance().is_initialized()


def test_compose_works_inside_another_hydra_program(toys: Path) -> None:
    with initialize_config_dir(str(toys), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        compose("train")
        complaint("seeed=1")
        assert GlobalHydra.instance().hydra is outer
        assert hydra_compose("train").seed == 0


BAD_OVERRIDES = [
    # misspelt keys
    ("model.hidden_size=8", ["'model.hidden_size'", "did you mean 'model.layers.hidden_size'?"]),
    ("model.layers.hiden_size=8", ["did you mean 'model.layers.hidden_size'?"]),
    ("model.cell.nonlinearty=relu", ["did you mean 'model.cell.nonlinearity'?"]),
    ("sead=1", ["'sead' is not a setting", "did you mean 'seed'?"]),
    ("trainer.max_stepz=1", ["did you mean 'trainer.max_steps'?"]),
    ("~trainer.max_stepz", ["no 'trainer.max_stepz' to delete", "'trainer.max_steps'"]),
    ("~trainer.max_steps", ["cannot be deleted"]),
    ("~clip", ["clip is missing", "clip=NAME"]),
    # unknown keys that are added by force
    ("+oops=1", ["oops is not a setting"]),
    ("+trainer.max_stepz=1", ["trainer.max_stepz is not", "'trainer.max_steps'"]),
    ("+model.cell.biass=true", ["model.cell: Cell has no argument 'biass'", "mean 'bias'?"]),
    # groups and options
    ("model/cell=rn", ["'model/cell' has no option 'rn'", "mean 'rnn'?", "it has: rnn, custom"]),
    ("clip=null", ["clip=null", "did you mean clip=none?", "norm"]),
    ("clip=[norm,none]", ["clip: NoClip has no argument 'max_norm'"]),
    ("model/cel=rnn", ["no group 'model/cel'", "did you mean 'model/cell'?"]),
    ("cell=rnn", ["cell=rnn: write model/cell=rnn"]),
    ("model.cell=rnn", ["model.cell=rnn: write model/cell=rnn"]),
    ("model.cell=lstm", ["no option 'lstm'", "custom, rnn"]),
    ("+model/cell=rnn", ["+model/cell=rnn", "more than once"]),
    ("modle=sequence", ["'modle' is not a setting", "did you mean 'model'?"]),
    ("model/cell=custom", ["model.cell._target_ is missing", "_target_=package.Class"]),
    # wrong types
    ("trainer.max_steps=two", ["trainer.max_steps: expected int or null, got 'two'"]),
    ("trainer.max_epochs=x", ["trainer.max_epochs: expected int or null, got 'x'"]),
    ("trainer=3", ["trainer: expected a mapping, got 3"]),
    ("seed=true", ["seed: expected int, got true"]),
    ("seed=1.5", ["seed: expected int, got 1.5"]),
    ("model.layers.num_layers=two", ["model.layers.num_layers: expected int, got 'two'"]),
    ("model.layers.num_layers=true", ["model.layers.num_layers: expected int, got true"]),
    ("model.layers.num_layers=null", ["model.layers.num_layers: expected int, got null"]),
    ("model.layers.hidden_size=[4,x]", ["expected int or a list of int, got [4, 'x']"]),
    ("model.cell.bias=yes", ["model.cell.bias: expected bool, got 'yes'"]),
    ("model.cell.bias=1", ["model.cell.bias: expected bool, got 1"]),
    (
        "model.cell.nonlinearity=tan",
        ["expected one of 'tanh', 'sigmoid', 'relu'; got 'tan' (did you mean 'tanh'?)"],
    ),
    ("data.path=3", ["data.path: expected str or a path or null, got 3"]),
    ("data.level=chr", ["data.level: expected one of 'char', 'word'; got 'chr'", "mean 'char'?"]),
    ("data.split=[0.5,0.5]", ["data.split: expected a list of 3 values", "got [0.5, 0.5]"]),
    ("optimizer.lr=fast", ["optimizer.lr: expected float", "got 'fast'"]),
    ("optimizer.betas=0.9", ["optimizer.betas: expected a list of 2 values", "got 0.9"]),
    ("scheduler.warmup_steps=0.5", ["scheduler.warmup_steps: expected int, got 0.5"]),
    ("model.layers=3", ["model.layers=3: the group 'model/layers' has no option '3'"]),
    ("model=null", ["model=null", "sequence"]),
    # targets
    ("optimizer._target_=torch.optim.Adm", ["cannot import 'torch.optim.Adm'", "'Adam'"]),
    ("clip._target_=seqmodels.training.clippin.NoClip", ["cannot import", "'clipping'"]),
    ("clip._target_=seqmodels.training.clipping.NoClp", ["cannot import", "'NoClip'"]),
    ("clip._target_=config_toys.Prt", ["cannot import 'config_toys.Prt'", "'Part'"]),
    ("clip._target_=config_toyz.Part", ["cannot import 'config_toyz.Part'", "'config_toys'"]),
    ("clip._target_=config_toys.NUMBER", ["'config_toys.NUMBER' is not a class or function"]),
    ("clip._target_=config_toys.Part.nothing", ["cannot import 'config_toys.Part.nothing'"]),
    ("clip._target_=3", ["clip._target_: expected the name package.Class, got 3"]),
    ("clip._target_=Part", ["expected _target_=package.Class, got 'Part'"]),
    ("clip._target_=config_toys.Settings", ["Settings needs the argument 'factor'"]),
    ("+clip._partial_=1", ["clip._partial_: expected bool, got 1"]),
    ("+clip._partail_=true", ["no argument '_partail_'", "did you mean '_partial_'?"]),
    # nested nodes
    ("task.parts=[1,{_target_:config_toys.Prt}]", ["task.parts.1: cannot import"]),
    ("task.named={a:{_target_:config_toys.Cell,_partial_:true,bia:1}}", ["task.named.a: Cell has"]),
    ("+callbacks.x.parts=3", ["callbacks.x: expected a mapping with _target_"]),
    ("+callbacks.x=3", ["callbacks.x: expected a mapping with _target_, got 3"]),
    # values that types cannot tell
    ("seed=-1", ["seed: expected 0 <= seed < 2^32, got -1"]),
    ("num_threads=0", ["num_threads: expected at least 1 or null, got 0"]),
    ("resume=true", ["resume=true needs run_dir=DIR"]),
    ("run_dir=' '", ["run_dir: expected the path of a folder"]),
    ("trainer.max_steps=-1", ["nothing ends the run"]),
    ("trainer.max_steps=0", ["trainer.max_steps: expected at least 1 or -1 or null, got 0"]),
    ("trainer.max_epochs=0", ["trainer.max_epochs: expected at least 1 or -1 or null, got 0"]),
    ("trainer.max_time=3h", ["trainer.max_time: expected DD:HH:MM:SS", "'3h'"]),
    ("trainer.devices=0", ["trainer.devices", "got 0"]),
    ("trainer.devices=[]", ["trainer.devices", "got []"]),
    ("trainer.devices=2", ["trainer.devices=2", "trainer.strategy=ddp"]),
    ("trainer.strategy=dpp", ["trainer.strategy", "did you mean 'ddp'?"]),
    ("trainer.devices=many", ["trainer.devices", "'many'"]),
    ("trainer.precision=32", ["trainer.precision", "did you mean '32-true'?"]),
    ("trainer.accelerator=gpuu", ["trainer.accelerator", "did you mean 'gpu'?"]),
    ("trainer.val_check_interval=2.0", ["trainer.val_check_interval", "got 2.0"]),
    ("trainer.val_check_interval=0", ["trainer.val_check_interval", "got 0"]),
    ("trainer.limit_train_batches=0", ["trainer.limit_train_batches", "a number of batches >= 1"]),
    ("trainer.check_val_every_n_epoch=null", ["trainer.check_val_every_n_epoch", "got null"]),
    ("trainer.limit_val_batches=1.5", ["trainer.limit_val_batches", "got 1.5"]),
    ("trainer.limit_val_batches=-1", ["trainer.limit_val_batches", "got -1"]),
    ("trainer.accumulate_grad_batches=0", ["trainer.accumulate_grad_batches", "got 0"]),
    # grammar
    ("foo", ["'foo' cannot be read", "key=value"]),
    ("=3", ["'=3' cannot be read", "key=value"]),
    ("data.path=a=b", ["'data.path=a=b' cannot be read", "quote"]),
    ("data.split=[1,2", ["'data.split=[1,2' cannot be read"]),
    ("seed=1,2", ["several values make a sweep", "seed=[1,2]"]),
    ("data.path=${nope}", ["data.path", "nope"]),
    ("hydra.run.dir=x", ["no effect", "run_dir=DIR"]),
    # files
    ("experiment=typo_in_leaf", ["model.cell: Cell has no argument 'nonlinearty'"]),
    ("experiment=typo_in_root", ["typo_in_root.yaml: 'trainer.max_stepz'", "'trainer.max_steps'"]),
    (
        "experiment=wrong_type",
        ["wrong_type.yaml: trainer.max_steps: expected int or null, got 'many'"],
    ),
    ("experiment=not_yaml", ["not_yaml.yaml", "line", "not YAML"]),
    ("experiment=wrong_option", ["experiment=wrong_option", "clip=norn", "none, norm"]),
]


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("override", "fragments"), BAD_OVERRIDES, ids=[o for o, _ in BAD_OVERRIDES]
)
def test_a_mistake_is_named(override: str, fragments: list[str]) -> None:
    message = complaint(override)
    assert [f for f in fragments if f not in message] == [], message
    assert "Traceback" not in message


@pytest.mark.usefixtures("toys")
def test_every_problem_comes_in_one_message() -> None:
    message = complaint(
        "model/cell=rnnn",
        "trainer.max_steps=two",
        "sead=1",
        "a=[",
        "optimizer.lr=fast",
        "seed=1",
    )
    assert message.startswith("4 problems in the configuration:\n  - ")
    for fragment in ("'rnnn'", "'two'", "'sead'", "'a=['"):
        assert fragment in message


@pytest.mark.usefixtures("toys")
def test_problems_of_leaves_come_with_those_of_overrides() -> None:
    message = complaint("trainer.max_steps=two", "optimizer.lr=fast", "data.level=chr", "seed=-1")
    assert message.startswith("4 problems")
    assert all(f in message for f in ("'two'", "'fast'", "'chr'", "-1"))


@pytest.mark.usefixtures("toys")
def test_keys_of_an_option_that_was_not_found_are_not_blamed() -> None:
    message = complaint("model/cell=rnnn", "model.cell.peephole=true")
    assert "peephole" not in message
    assert "rnnn" in message


@pytest.mark.usefixtures("toys")
def test_a_cell_of_a_third_party_goes_in_with_its_own_arguments() -> None:
    overrides = ["model/cell=custom", "model.cell._target_=config_toys.Cell"]
    check(compose("train", [*overrides, "+model.cell.nonlinearity=relu"]))
    assert "model.cell: Cell has no argument 'peephole'" in complaint(
        *overrides, "+model.cell.peephole=true"
    )


def test_a_broken_module_of_the_users_is_reported_with_its_line(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del toys
    (tmp_path / "broken_cells.py").write_text("x = 1\nraise RuntimeError('no licence')\n")
    (tmp_path / "garbled_cells.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "needy_cells.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for module, wanted in [
        ("broken_cells", "RuntimeError: no licence"),
        ("garbled_cells", "SyntaxError"),
        ("needy_cells", "a_package_that_is_not_there"),
    ]:
        message = complaint("model/cell=custom", f"model.cell._target_={module}.Cell")
        assert f"cannot import '{module}.Cell'" in message
        assert wanted in message
        assert f"{module}.py:{1 if module == 'needy_cells' else 2}" in message


# ------------------------------------------------------------------- folders of the user's own


def test_a_folder_of_the_users_own_adds_options(toys: Path, tmp_path: Path) -> None:
    del toys
    mine = {"experiment/mine.yaml": "# @package _global_\nseed: 7\n"}
    folder = config_toys.write_configs(tmp_path / "it's mine, (really)", mine)
    assert compose("train", ["experiment=mine"], [folder]).seed == 7
    with pytest.raises(UserError, match=r"no option 'mien'.*did you mean 'mine'"):
        compose("train", ["experiment=mien"], [folder])
    with pytest.raises(UserError, match="no option 'mine'"):
        compose("train", ["experiment=mine"])


@pytest.mark.usefixtures("toys")
def test_a_folder_of_the_users_own_must_exist_and_hide_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        compose("train", [], [tmp_path / "nowhere"])
    folder = config_toys.write_configs(tmp_path / "mine", {"clip/norm.yaml": "a: 1"})
    with pytest.raises(UserError, match="rename it"):
        compose("train", [], [folder])


# -------------------------------------------------------------------------- values, signatures


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        ("1", int, False),
        (1, float, True),
        (True, float, False),
        (1.5, float, True),
        (1, bool, False),
        (False, bool, True),
        ("a", str, True),
        (1, str, False),
        (None, str, False),
        (None, str | None, True),
        (None, None, True),
        ("a", Literal["a", 1], True),
        (True, Literal["a", 1], False),
        ("b", Literal["a", 1] | None, False),
        ([1, 2], list[int], True),
        ([1, "x"], list[int], False),
        ("ab", list[str], False),
        ([1, 2], tuple[int, ...], True),
        ([1, 2], tuple[int, int], True),
        ([1], tuple[int, int], False),
        ({"a": 1}, dict[str, int], True),
        ({"a": "x"}, dict[str, int], False),
        ({"a": 1}, int, False),
        ("x", Path, True),
        (3, Path, False),
        (3, DictConfig, False),
        (Built(), int, True),
        (3, Any, True),
        ([[1]], list[list[int]], True),
        (3, functools.partial, False),
    ],
)
def test_values_against_annotations(value: Any, annotation: Any, fits: bool) -> None:
    assert (mismatch(value, annotation) is None) == fits


STATIC_TARGETS = [
    "torch.optim.Adam",
    "torch.optim.SGD",
    "torch.optim.lr_scheduler.StepLR",
    "torch.nn.modules.dropout.Dropout",
    "seqmodels.cells.RNNCell",
    "seqmodels.layers.Stacked",
    "seqmodels.models.SequenceModel",
    "seqmodels.training.schedules.CosineSchedule",
    "seqmodels.training.clipping.NormClip",
    "seqmodels.training.clipping.NoClip",
]
VALUES = [None, True, 3, 0.5, "text", "tanh", [1, 2], [0.1, 0.2], ["a"], {"a": 1}]


@pytest.mark.parametrize("target", STATIC_TARGETS)
def test_source_and_import_tell_the_same_signature(target: str) -> None:
    read, imported = static.signature(target), inspect_callable(locate(target), target)
    assert read.names == imported.names
    assert read.open == imported.open
    for name in read.names:
        assert read[name].required == imported[name].required
        assert read[name].none_default == imported[name].none_default
        for value in VALUES:
            told = [mismatch(value, s[name].annotation) is None for s in (read, imported)]
            assert told[0] == told[1], (name, value)


def test_what_the_source_does_not_tell_is_left_to_the_import() -> None:
    with pytest.raises(static.UncertainError):
        static.signature("torch.nn.LayerNorm")  # a star import
    cfg = OmegaConf.create({"norm": {"_target_": "torch.nn.LayerNorm", "normalised_shape": 3}})
    with pytest.raises(UserError, match=r"did you mean 'normalized_shape'"):
        check(cfg)


def test_functions_dataclasses_and_open_signatures() -> None:
    def read(name: str) -> Any:
        return inspect_callable(getattr(config_toys, name), f"config_toys.{name}")

    assert read("quadruple").names == ["x"]
    assert read("Settings").names == ["factor", "steps"]
    assert read("anything").open
    assert not read("Part")["parts"].required


def test_arguments_that_a_base_class_would_swallow_are_refused(monkeypatch: Any) -> None:
    from torch import nn

    class Bare(nn.Module):
        pass

    monkeypatch.setattr(config_toys, "Bare", Bare, raising=False)
    cfg = OmegaConf.create({"part": {"_target_": "config_toys.Bare", "size": 3}})
    with pytest.raises(UserError, match="part: Bare has no argument 'size'"):
        check(cfg)


def test_checking_imports_neither_torch_nor_lightning(toys: Path) -> None:
    program = f"""
import sys
from pathlib import Path
import seqmodels.locations as locations
locations.config_dir = lambda: Path({str(toys)!r})
from seqmodels.config import check, compose
from seqmodels.errors import UserError
stop = "lightning.pytorch.callbacks.EarlyStopping"
cfg = compose("train", [f"+callbacks.stop._target_={{stop}}", "+callbacks.stop.monitor=loss"])
check(cfg)
try:
    check(compose("train", [f"+callbacks.stop._target_={{stop}}", "+callbacks.stop.mod=min"]))
except UserError as error:
    assert "has no argument 'mod' (did you mean 'mode'?)" in str(error), error
    assert "needs the argument 'monitor'" in str(error), error
else:
    raise AssertionError("accepted")
loaded = {{"torch", "lightning", "pytorch_lightning"}} & set(sys.modules)
assert not loaded, loaded
"""
    path = os.pathsep.join([str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------ building


@pytest.mark.usefixtures("toys")
def test_instantiate_builds_plain_values_and_factories() -> None:
    cfg = compose("train", ["model.cell.nonlinearity=relu"])
    assert type(instantiate(cfg.data).split) is list
    cell = instantiate(cfg.model.cell)
    assert isinstance(cell, functools.partial)
    assert cell(2, 3).sizes == (2, 3)
    model = instantiate(cfg.model, num_tokens=5)()
    assert model.cell.nonlinearity == "relu"
    assert model.cell.sizes == (5, 4)
    assert instantiate(None) is None


@pytest.mark.usefixtures("toys")
def test_a_constructors_error_keeps_its_type_and_names_the_node() -> None:
    cfg = compose("train", ["data.path=nowhere"])
    with pytest.raises(FileNotFoundError, match=r"^data: there is no file nowhere$"):
        instantiate(cfg.data)
    with pytest.raises(ValueError, match="hidden_size must be >= 1"):
        instantiate(cfg.model.cell)(1, 0)


@pytest.mark.usefixtures("toys")
def test_plain_round_trip_and_diff() -> None:
    cfg = compose("train", ["data.path=x", "run_dir=${data.path}/r"])
    plain = to_plain(cfg)
    assert type(plain["trainer"]) is dict
    assert plain["run_dir"] == "x/r"
    assert to_plain(from_plain(plain)) == plain
    other = to_plain(compose("train", ["data.path=x", "run_dir=x/r", "seed=2", "clip=norm"]))
    assert diff(plain, plain) == []
    assert diff(plain, other) == [
        "clip._target_: 'seqmodels.training.clipping.NoClip'"
        " -> 'seqmodels.training.clipping.NormClip'",
        "seed: 0 -> 2",
        "clip.max_norm: (absent) -> 1.0",
    ]


@pytest.mark.usefixtures("toys")
def test_to_plain_refuses_what_is_missing() -> None:
    with pytest.raises(UserError, match=r"model.cell._target_"):
        to_plain(compose("train", ["model/cell=custom"]))


@pytest.mark.usefixtures("toys")
def test_overrides_of_a_stored_configuration() -> None:
    plain = to_plain(compose("train"))
    cfg = apply_overrides(
        plain, ["data.path=y", "data.split=[1,0,0]", "+task.extra=1", "~task.named"]
    )
    assert cfg.data.path == "y"
    assert cfg.data.split == [1, 0, 0]
    assert cfg.task.extra == 1
    assert "named" not in cfg.task
    assert plain["data"]["path"] is None
    with pytest.raises(UserError) as caught:
        apply_overrides(
            plain,
            ["data.paht=y", "trainer.max_steps=x", "data=other", "clip/a=b", "a", "data.path=1,2"],
        )
    message = str(caught.value)
    assert message.startswith("6 problems in the overrides")
    for fragment in (
        "'data.paht' is not a setting (did you mean 'data.path'?)",
        "trainer.max_steps: expected int or null, got 'x'",
        "'a' cannot be read",
        "data=other: the options of data cannot be chosen",
        "clip/a=b: a stored configuration takes key=value only",
        "data.path=1,2: a stored configuration takes key=value only",
    ):
        assert fragment in message


def test_a_stored_configuration_of_another_version_is_refused() -> None:
    with pytest.raises(UserError, match=r"stored configuration.*colour"):
        from_plain({"seed": 1, "colour": "red"})


# ------------------------------------------------------------------------- eval's and sample's


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("name", "override", "fragment"),
    [
        ("eval", "seed=1", "'seed' is not a setting"),
        ("eval", "split=tset", "did you mean 'test'?"),
        ("eval", "batch_size=0", "batch_size: expected at least 1 or null, got 0"),
        ("eval", "checkpoint=worst", "expected one of 'best', 'last'"),
        ("sample", "length=long", "length: expected int or null, got 'long'"),
        ("sample", "length=0", "length: expected at least 1 or null, got 0"),
        ("sample", "temperature=-1", "temperature: expected a number >= 0"),
        ("sample", "top_p=1.5", "top_p: expected a probability"),
        ("sample", "top_k=0", "top_k: expected at least 1 or null"),
        ("sample", "seed=-1", "seed: expected 0 <= seed"),
    ],
)
def test_settings_of_eval_and_sample_are_checked(name: str, override: str, fragment: str) -> None:
    assert fragment in complaint("run=x", override, name=name)


@pytest.mark.usefixtures("toys")
def test_a_run_must_be_named() -> None:
    assert complaint(name="eval") == "run is missing: set run=DIR"
    check(compose("eval", ["run=x", "split=test"]))


# ------------------------------------------------------------------- the configuration we ship

SHIPPED = [
    f"{group}={option}"
    for group, options in config_groups([config_dir()]).items()
    # Many configurations at once: tests/test_sweep_plan.py, tests/test_search.py.
    if group not in ("sweep", "search")
    for option in options
]
# Arguments that have a default and are nevertheless supplied by the program.
SUPPLIED = {"data": {"seed"}, "model": {"num_classes"}, "logger": {"resume_step"}}


def shipped(override: str) -> DictConfig:
    needed = {
        "model/cell=custom": ["model.cell._target_=config_toys.Cell"],
        "data=generated_series": ["data.source._target_=seqmodels.data.series.Lorenz"],
        "data=synthetic": ["data.problem._target_=seqmodels.data.synthetic.Adding"],
        "data=pairs": ["data.problem._target_=seqmodels.data.pairs.Reverse"],
    }
    return compose("train", [override, *needed.get(override, [])])


@pytest.mark.parametrize("override", SHIPPED)
def test_every_shipped_file_composes_and_checks(override: str) -> None:
    problems = check_problems(shipped(override))
    assert [p for p in problems if " is missing: set " not in p] == []


@pytest.mark.parametrize("override", [o for o in SHIPPED if not o.startswith("experiment")])
def test_a_leaf_lists_every_argument_that_has_a_default(override: str) -> None:
    group, _, option = override.partition("=")
    supplied = SUPPLIED.get(group, set())
    leaf = OmegaConf.load(config_dir() / group / f"{option}.yaml")
    for path, node in targets(leaf, ""):
        target = str(node._target_) if not OmegaConf.is_missing(node, "_target_") else ""
        if target.startswith("seqmodels."):
            parameters = inspect.signature(locate(target)).parameters.values()
            optional = {p.name for p in parameters if p.default is not p.empty}
            assert optional - supplied - {str(k) for k in node} == set(), path or override


def targets(node: Any, path: str) -> list[tuple[str, DictConfig]]:
    if not isinstance(node, DictConfig):
        return []
    own = [(path, node)] if "_target_" in node.keys() else []  # noqa: SIM118
    children = [(f"{path}.{k}", node._get_node(k)) for k in node]
    return own + [found for p, child in children for found in targets(child, p)]


@pytest.mark.parametrize("name", ["train", "eval", "sample"])
def test_the_commands_own_files_compose(name: str) -> None:
    problems = check_problems(compose(name))
    assert [p for p in problems if " is missing: set " not in p] == []
