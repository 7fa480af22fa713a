"""The console command: chooses a command, maps errors to exit statuses, prints help.

Nothing heavy is imported before a command is known to run.
"""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .errors import UserError, closest, did_you_mean, memory_problem
from .locations import config_dir, config_groups

OK, FAILED, USER_ERROR, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """One row of the table below; it runs `seqmodels.commands.NAME.run`."""

    summary: str
    examples: tuple[str, ...]
    notes: str = ""


COMMANDS = {
    "train": Command(
        "train a model: choose groups, override settings",
        (
            "seqmodels train",
            "seqmodels train model/cell=lstm model.layers.hidden_size=256 seed=1",
            "seqmodels train data=text data.path=FILE data.level=char trainer.max_steps=200",
            "seqmodels train clip=norm clip.max_norm=1.0 run_dir=DIR",
            "seqmodels train run_dir=DIR resume=true      # continue an interrupted run",
            "seqmodels train model/cell=custom model.cell._target_=my_file.MyCell",
            "seqmodels train -m model/cell=rnn,lstm,gru seed=1,2,3      # a sweep, on all cores",
            "seqmodels train -m sweep=cells sweep.tune='optimizer.lr=log(1e-4,1e-1)'",
        ),
        "Settings that most runs want: seed, run_dir, resume, num_threads, trainer.max_steps, "
        "trainer.max_epochs, trainer.max_time (DD:HH:MM:SS), trainer.val_check_interval, "
        "trainer.precision. All of them: seqmodels train --show.",
    ),
    "search": Command(
        "look for good settings with Optuna, on all cores or many machines",
        (
            "seqmodels search 'optimizer.lr=log(1e-4,1e-1)' 'model.layers.hidden_size=int(16,256)'",
            "seqmodels search search=lstm search.trials=40 search.dir=DIR",
            "seqmodels search model/cell=lstm,gru 'optimizer.lr=log(1e-4,1e-1)' data.path=FILE",
        ),
        "Ranges: log(a,b), uniform(a,b), int(a,b), log_int(a,b), or values a,b,c; everything else "
        "as in train. Settings: search.trials, seed, dir, jobs, metric, mode, sampler, startup, "
        "pruner, warmup, storage, launcher; docs/search.md. The same command again goes on, or "
        "joins in.",
    ),
    "eval": Command(
        "measure a trained run on its own or other data",
        ("seqmodels eval run=DIR", "seqmodels eval run=DIR data.path=FILE"),
    ),
    "sample": Command(
        "generate with a trained run",
        (
            "seqmodels sample run=DIR length=200 temperature=0.8",
            "seqmodels sample run=DIR num_images=64      # of a model of images: a picture",
        ),
    ),
    "complete": Command(
        "complete images with a trained model of images",
        (
            "seqmodels complete run=DIR keep=top_half",
            "seqmodels complete run=DIR data.path=FOLDER keep=mask.png completions=5",
        ),
        "Writes a picture with a column for each image: as it is, what of it is kept, completions.",
    ),
    "analyse": Command(
        "pictures of what happens inside a trained run's recurrent layers",
        ("seqmodels analyse run=DIR", "seqmodels analyse run=DIR checkpoint=last steps=500"),
        "Writes DIR/analysis/: gradient by lag and over training, Jacobian spectra, gates, states, "
        "clipping, and analysis.json with all the numbers; the pictures go to TensorBoard, too.",
    ),
    "replay": Command(
        "run a run again from its record, and compare the two step by step",
        ("seqmodels replay run=DIR", "seqmodels replay run=DIR tolerance=1e-4 run_dir=OTHER"),
        "What differs in versions, machine, threads, code or data is named first. Status 0: the "
        "same at every logged step; 1: not, with the first step and by how much.",
    ),
    "report": Command(
        "compare runs: tables, intervals, curves, on one page",
        (
            "seqmodels report outputs/sweeps/cells",
            "seqmodels report DIR1 DIR2 metric=val/accuracy baseline=lstm output=FOLDER",
        ),
        "Reads every run in and below the directories, and writes report.html (one file that needs "
        "nothing else), report.md and report.csv. Runs that did not finish are counted and named.",
    ),
    "export": Command(
        "write a trained model as one file for use elsewhere",
        (
            "seqmodels export run=DIR format=onnx",
            "seqmodels export run=DIR format=torch_export path=FILE.pt2",
            "seqmodels export run=DIR format=safetensors overwrite=true",
        ),
        "Graphs take any batch and number of steps, and carry the state in and out. What was "
        "written is run and compared with the model.",
    ),
    "tensorboard": Command(
        "show the runs under a directory in the browser",
        ("seqmodels tensorboard", "seqmodels tensorboard outputs/sweeps/cells port=6007"),
        "SCALARS: losses and gradients; IMAGES: pictures; TEXT: configuration and environment; "
        "HPARAMS: settings beside final metrics, to compare runs.",
    ),
    "verify": Command(
        "check any cell: gradients, causality, state, padding, engines, speed",
        (
            "seqmodels verify model/cell=gru",
            "seqmodels verify model/cell=rnn model.cell.nonlinearity=relu engines=[eager,native]",
            "seqmodels verify model/cell=custom model.cell._target_=my_file.MyCell",
        ),
        "Status 0: all checks passed; 1: one failed, with what was expected and what came; "
        "2: the configuration is wrong. Arguments of a custom cell: +model.cell.NAME=VALUE.",
    ),
    "bench": Command(
        "measure cells and engines beside torch.nn: time, memory, first call",
        (
            "seqmodels bench cells=[lstm,gru] engines=[native,eager] linear_shape=null",
            "seqmodels bench 'cells=[rnn nonlinearity=relu]' shapes=[[35,20,200,200]] pairs=5",
            "seqmodels bench output=docs/bench.json table=docs/bench.md measure=false",
        ),
        "Each measurement runs in a process of its own. An interrupt keeps what was measured.",
    ),
}

OPTIONS = """\
options:
  -m, --multirun     several values of a setting, a,b,c, make a sweep; sweep=NAME a ready one
  --config-dir DIR   look for groups in DIR too, such as DIR/experiment/mine.yaml (repeatable)
  --show             print the whole checked configuration, and stop
  -h, --help         this help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: done; 1: the run failed; 2: something the user can put right; 130: interrupted.
    """
    try:
        status = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"seqmodels: {error}", file=sys.stderr)
        return USER_ERROR
    except (RuntimeError, MemoryError) as error:
        problem = memory_problem(error)
        if "home directory" in str(error):  # pathlib's, of any path
            problem = "a path begins with ~NAME, and there is no such user"
        if problem is None:
            raise
        print(f"seqmodels: {problem}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("seqmodels: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has gone, as in `seqmodels train --show | head`
        _silence_stdout()
        return FAILED


def _silence_stdout() -> None:
    """Let the interpreter's own flush at exit write into nothing."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())
    os.close(sink)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return OK
    if argv[0] in ("-V", "--version"):
        print(f"seqmodels {__version__}")
        return OK
    name, *rest = argv
    if name not in COMMANDS:
        names = ", ".join(COMMANDS)
        kind = "option" if name.startswith("-") else "command"
        near = did_you_mean(closest(name, COMMANDS, 1))
        raise UserError(f"there is no {kind} {name!r}{near}; the commands are {names}")
    many = name == "train" and any(word in ("-m", "--multirun") for word in rest)
    rest = [word for word in rest if not (many and word in ("-m", "--multirun"))]
    overrides, config_dirs, show = _options(name, rest)
    if overrides is None:
        print(_command_help(name, config_dirs))
        return OK
    # As `python -m` has it, so that a cell in my_file.py of this folder can be named in
    # _target_; last, so that no file here hides an installed package.
    if os.getcwd() not in sys.path and "" not in sys.path:  # noqa: PTH109 - a string is wanted
        sys.path.append(os.getcwd())  # noqa: PTH109
    if many:
        from .commands.sweep import run as sweep

        return int(sweep(overrides, config_dirs=config_dirs, show=show))
    of_sweep = [word for word in overrides if word.startswith(("sweep=", "sweep."))]
    if name == "train" and of_sweep:
        raise UserError(f"{of_sweep[0]} is for a sweep: seqmodels train -m {of_sweep[0]} …")
    of_search = [word for word in overrides if word.startswith(("search=", "search."))]
    if name == "train" and of_search:
        raise UserError(f"{of_search[0]} is for a search: seqmodels search {of_search[0]} …")
    if show:
        return _show(name, overrides, config_dirs)
    run = importlib.import_module(f"seqmodels.commands.{name}").run
    return int(run(overrides, config_dirs=config_dirs))


def _options(name: str, words: list[str]) -> tuple[list[str] | None, list[Path], bool]:
    """Overrides (None: help is wanted), further configuration folders, and --show."""
    overrides: list[str] = []
    config_dirs: list[Path] = []
    show = wants_help = False
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option == "--config-dir":
            folder = value if equals else next(rest, "")
            if not folder:
                raise UserError("--config-dir needs a folder: --config-dir DIR")
            config_dirs.append(Path(folder))
        elif word == "--show" and name == "train":
            show = True
        elif word in ("-h", "--help"):
            wants_help = True
        elif word.startswith("-"):
            near = closest(option, ("--config-dir", "--show", "--multirun", "--help"), 1)
            hint = did_you_mean(near or ([option.lstrip("-") + "=…"] if equals else []))
            raise UserError(f"seqmodels {name} has no option {option!r}{hint}")
        else:
            overrides.append(word)
    return (None if wants_help else overrides), config_dirs, show


def _show(name: str, overrides: list[str], config_dirs: list[Path]) -> int:
    from omegaconf import OmegaConf

    from .config import check, compose, to_plain

    cfg = compose(name, overrides, config_dirs)
    check(cfg)
    print(OmegaConf.to_yaml(OmegaConf.create(to_plain(cfg))), end="")
    return OK


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}   {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Recurrent sequence models: write the equation, get everything else.",
            "",
            "usage: seqmodels COMMAND [group=option …] [key=value …]",
            "",
            *rows,
            "",
            "seqmodels COMMAND --help tells more; seqmodels --version tells the version.",
        ]
    )


def _command_help(name: str, config_dirs: list[Path]) -> str:
    command = COMMANDS[name]
    lines = [f"seqmodels {name}: {command.summary}", "", "examples:"]
    lines += [f"  {example}" for example in command.examples]
    if command.notes:
        lines += ["", *textwrap.wrap(command.notes, 96)]
    if name == "train":
        lines += ["", "groups and their options, chosen with group=option:"]
        lines += _group_rows([config_dir(), *config_dirs])
    else:
        lines += [
            "",
            "settings, changed with key=value:",
            *_settings(name),
        ]
    of_train = ("--show", "--multirun")
    options = [
        row
        for row in OPTIONS.splitlines()
        if name == "train" or not any(option in row for option in of_train)
    ]
    return "\n".join([*lines, "", *options])


def _group_rows(folders: list[Path]) -> list[str]:
    groups = config_groups(folders)
    width = max(map(len, groups), default=0)
    rows = []
    for group in sorted(groups):
        head = f"  {group:<{width}}   "
        text = ", ".join(groups[group])
        rows += textwrap.wrap(text, 96, initial_indent=head, subsequent_indent=" " * len(head))
    return rows


def _settings(name: str) -> list[str]:
    """The settings and comments of a command's own file, without its defaults list."""
    file = config_dir() / f"{name}.yaml"
    if not file.is_file():
        return []
    rows = []
    in_defaults = False
    for line in file.read_text(encoding="utf-8").splitlines():
        if line and not line[0].isspace() and not line.startswith(("#", "-")):
            in_defaults = line.startswith("defaults:")
        if line.strip() and not in_defaults:
            rows.append(f"  {line}")
    return rows
