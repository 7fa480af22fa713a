"""What `malformed.py` draws from: valid command lines, and the mistakes that are made in them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from forked import Case
from seqmodels.config import compose

TEXT = ("the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n" * 60).encode()
TABLE = "text,label\n" + "".join(
    f"{'a good day for all' if n % 2 else 'what a bad and sad day'} {n},{n % 2}\n"
    for n in range(60)
)
SERIES = "".join(f"{n % 7},{(n * n) % 11}\n" for n in range(400))
FILES: dict[str, bytes] = {
    "text.txt": TEXT, "table.csv": TABLE.encode(), "series.csv": SERIES.encode(),
    "pairs.tsv": b"".join(b"a b %d\tb a %d\n" % (n % 9, n % 9) for n in range(60)),
}  # fmt: skip
SMALL = ("trainer.max_steps=1", "trainer.val_check_interval=1", "trainer.accelerator=cpu",
         "trainer.enable_progress_bar=false", "logger=none", "num_threads=1")  # fmt: skip
# Valid trainings, one for each kind of task.
BASES: dict[str, tuple[str, ...]] = {
    "text": ("data.path=text.txt", "data.batch_size=4", "data.seq_len=8"),
    "classes": ("experiment=temporal_order", "data.length=[10,12]", "data.valid_lengths=[10]",
                "data.test_lengths=[10]"),
    "series": ("model=prediction_real", "data=series", "data.path=series.csv", "task=regression",
               "data.window=20", "data.washout=5"),
    "reservoir": ("experiment=mackey_glass_esn", "data.train=300", "data.valid=100",
                  "data.test=200", "data.washout=50", "data.free_starts=2", "data.free_steps=10",
                  "model.layers.hidden_size=20"),
    "pairs": ("experiment=depth_ablation", "data.valid_sequences=8", "data.test_sequences=8"),
    "texts": ("experiment=sentiment_lstm", "data.path=table.csv"),
    "tags": ("experiment=context_tagging",),
    "pixels": ("experiment=pixelrnn_digits", "model.layers.num_layers=1",
               "model.layers.hidden_size=4"),
}  # fmt: skip
# Other options that the first of them, the language model, takes.
CELLS = ("rnn", "leaky", "lstm", "lstm_variant", "gru", "ugrnn", "indrnn", "antisymmetric", "cornn",
         "lem", "min_gru", "min_lstm", "lru", "slstm", "lmu", "clockwork", "delay")  # fmt: skip
OPTIONS: dict[str, tuple[str, ...]] = {
    "model/cell": CELLS,
    "model/layers": ("plain", "residual", "dense", "dilated"),
    "clip": ("none", "norm", "value", "per_layer", "adaptive", "auto", "skip", "step"),
    "init": ("default", "uniform", "orthogonal", "identity"),
    "optimizer": ("sgd", "adam", "adamw"),
    "scheduler": ("none", "cosine", "decay", "plateau"),
}
RUNS = ("run_text", "run_pixels")
# Of each other command: its settings with a valid value.
COMMANDS: dict[str, dict[str, str]] = {
    "eval": {"run": "run_text", "checkpoint": "last", "split": "valid", "batch_size": "2",
             "accelerator": "cpu", "num_threads": "1", "cache": "50", "cache_theta": "0.3"},
    "sample": {"run": "run_text", "length": "5", "temperature": "0.8", "seed": "1", "top_k": "3",
               "top_p": "0.9", "num_samples": "2", "num_threads": "1"},
    "complete": {"run": "run_pixels", "keep": "top_half", "num_images": "2", "completions": "1",
                 "temperature": "1.0", "seed": "0", "num_threads": "1"},
    "analyse": {"run": "run_text", "checkpoint": "best", "split": "valid", "sequences": "2",
                "steps": "10", "points": "2", "lags": "[1,2]", "most_units": "64",
                "num_threads": "1"},
    "replay": {"run": "run_text", "tolerance": "0.1", "num_threads": "1"},
    "export": {"run": "run_text", "format": "safetensors", "checkpoint": "best",
               "num_threads": "1"},
    "verify": {"input_size": "3", "hidden_size": "4", "engines": "[eager]", "speed": "null",
               "seconds": "0.1", "seed": "0", "num_threads": "1"},
    "bench": {"cells": "[gru]", "engines": "[eager]", "shapes": "[[2,2,2,2]]", "dtype": "float32",
              "num_threads": "1", "seconds": "0.1", "linear_shape": "null", "limit": "5.0",
              "seed": "0"},
    "report": {"metric": "val/loss"},
    "tensorboard": {"port": "6006"},
}  # fmt: skip
PLACES = {"report": "run_text", "tensorboard": "run_text"}  # named without a key


def runs_to_make(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The trainings of RUNS, and the files that they need, written here."""
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    for name, base in zip(RUNS, ("text", "pixels"), strict=True):
        words = [w.replace("=text.txt", f"={folder / 'text.txt'}") for w in BASES[base]]
        yield name, ["train", *words, *SMALL, f"run_dir={folder / name}"]


def case(kind: str, *argv: str, **files: bytes | None) -> Case:
    """A case that finds the usual files, and these."""
    named = {name.replace("__", "/").replace("_dot_", "."): c for name, c in files.items()}
    return Case(kind, argv, {**FILES, **named})


def base(draw: random.Random, *more: str, name: str | None = None) -> list[str]:
    """A valid training of some kind; of the language model also with other options."""
    name = name or draw.choice(("text", *BASES))
    words = list(BASES[name])
    if name == "text":
        for group in draw.sample(sorted(OPTIONS), 3):
            words.append(f"{group}={draw.choice(OPTIONS[group])}")
    return ["train", *words, *SMALL, *more]


@cache
def leaves(words: tuple[str, ...]) -> dict[str, Any]:
    """Of a valid training: every dotted key with a plain value or a list, and its value."""
    found: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else str(key))
        else:
            found[path] = node

    walk(OmegaConf.to_container(compose("train", words[1:]), resolve=True), "")
    return found


# --- keys ----------------------------------------------------------------------------------------


def misspell(draw: random.Random, word: str) -> str:
    """One letter too many, too few, changed, or two exchanged; never the word itself."""
    at = draw.randrange(len(word))
    letter = draw.choice("aeiklnrstxz")
    spelt = draw.choice((
        word[:at] + word[at + 1 :], word[:at] + letter + word[at:],
        word[:at] + letter + word[at + 1 :], word[:at] + word[at : at + 2][::-1] + word[at + 2 :],
    ))  # fmt: skip
    return spelt if spelt not in (word, "") else word + "x"


def misspelt(draw: random.Random) -> Case:
    if draw.random() < 0.35:
        command, settings = draw.choice(sorted(COMMANDS.items()))
        key = draw.choice(sorted(settings))
        words = _command(command, settings, without=key)
        return case("misspelt", *words, f"{misspell(draw, key)}={settings[key]}")
    words = base(draw)
    key = draw.choice([k for k in leaves(tuple(words)) if not k.endswith("_")])
    parts = key.split(".")
    at = draw.randrange(len(parts))
    parts[at] = misspell(draw, parts[at])
    return case("misspelt", *words, f"{'.'.join(parts)}=1")


def misspelt_option(draw: random.Random) -> Case:
    group, options = draw.choice(sorted(OPTIONS.items()))
    wrong = misspell(draw, draw.choice(options))
    if draw.random() < 0.3:
        return case("misspelt option", *base(draw, name="text"), f"{misspell(draw, group)}=none")
    return case("misspelt option", *base(draw, f"{group}={wrong}9", name="text"))


def _command(command: str, settings: dict[str, str], without: str = "") -> list[str]:
    place = [PLACES[command]] if command in PLACES else []
    keep = {k: v for k, v in settings.items() if k == "run" or (without != "" and k != without)}
    keep.pop(without, None)
    return [command, *place, *(f"{k}={v}" for k, v in keep.items())]


# --- values --------------------------------------------------------------------------------------

# A list may be right where one number is, and none of these may.
WRONG: dict[type, tuple[str, ...]] = {
    bool: ("maybe", "3", "[true]", "{a: 1}", "0.5"),
    int: ("fast", "1.5", "[x]", "{a: 1}", "nan", "''"),
    float: ("fast", "[x]", "{a: 1}", "''", "true"),
    str: ("[a]", "{a: 1}"),
}
# Names of files, of people's own symbols, and what is anything at all.
ANY_TEXT = ("_target_", "path", "prompt", "monitor", "name", "vocab", "run_dir", "separator")


def wrong_type(draw: random.Random) -> Case:
    if draw.random() < 0.3:
        command, settings = draw.choice(sorted(COMMANDS.items()))
        key = draw.choice([k for k in sorted(settings) if k != "run"])
        kind = type(OmegaConf.create(f"x: {settings[key]}").x)
        wrong = draw.choice(WRONG.get(kind, ("{a: 1}", "7.5")))
        return case("wrong type", *_command(command, settings, key), f"{key}={wrong}")
    words = base(draw)
    plain = leaves(tuple(words))
    key = draw.choice([k for k, v in plain.items() if type(v) in WRONG and k[-8:] != "_target_"])
    return case("wrong type", *words, f"{key}={draw.choice(WRONG[type(plain[key])])}")


def not_finite(draw: random.Random) -> Case:
    """nan for a number; infinities where a number has an end."""
    if draw.random() < 0.3:
        command, settings = draw.choice(sorted(COMMANDS.items()))
        numbers = [k for k, v in settings.items() if v.replace(".", "").isdigit()]
        if numbers:
            key = draw.choice(numbers)
            wrong = draw.choice(("nan", "-inf", "inf" if key != "tolerance" else "nan"))
            return case("not finite", *_command(command, settings, key), f"{key}={wrong}")
    words = base(draw)
    plain = leaves(tuple(words))
    key = draw.choice([k for k, v in plain.items() if type(v) in (int, float)])
    return case("not finite", *words, f"{key}={draw.choice(('nan', 'nan', '-inf'))}")


def negative(draw: random.Random) -> Case:
    """Less than nothing of something, where there is no such thing."""
    if draw.random() < 0.3:
        command, settings = draw.choice(sorted(COMMANDS.items()))
        numbers = [k for k, v in settings.items() if v.replace(".", "").isdigit()]
        if numbers:
            key = draw.choice(numbers)
            return case("negative", *_command(command, settings, key), f"{key}=-7")
    words = base(draw)
    plain = leaves(tuple(words))
    signed = ("bias", ".seed")  # numbers that may be less than 0
    key = draw.choice([
        k for k, v in plain.items() if type(v) in (int, float) and not k.endswith(signed)
    ])  # fmt: skip
    return case("negative", *words, f"{key}=-7")


HUGE = ("model.layers.hidden_size", "model.embedding.size", "data.batch_size", "data.seq_len",
        "num_threads", "seed", "data.eval_batch_size", "model.layers.num_layers",
        "budget.parameters", "budget.state", "trainer.devices", "trainer.num_nodes")  # fmt: skip


def huge(draw: random.Random) -> Case:
    """More than any machine has."""
    key = draw.choice(HUGE)
    size = draw.choice(("1000000000000", "99999999999999999999", "1000000000"))
    if key == "seed" or (key.startswith("budget") and size == "1000000000"):  # a machine has that
        size = "99999999999999999999"
    if draw.random() < 0.25:
        word = draw.choice((
            "sample run=run_text length=5 seed=99999999999999999999",
            "sample run=run_text length=5 num_samples=1000000000000",
            "sample run=run_text length=5 num_threads=1000000000000",
            "sample run=run_pixels num_images=1000000000000",
            "eval run=run_text batch_size=99999999999999999999",
            "eval run=run_text batch_size=1000000000000",
            "tensorboard run_text port=1000000",
            "verify hidden_size=1000000000 speed=null",
            "complete run=run_pixels completions=1 num_images=99999999999999999999",
            "train -m seed=range(0,1000000000) sweep.dir=s",
            "search optimizer.lr=log(1e-4,1) search.trials=1 search.seed=99999999999999999999",
            "analyse run=run_text num_threads=99999999999",
        ))  # fmt: skip
        return case("huge", *word.split())
    return case("huge", *base(draw, f"{key}={size}", name="text"))


# --- files ---------------------------------------------------------------------------------------


def missing_file(draw: random.Random) -> Case:
    command, settings = draw.choice(
        [(c, s) for c, s in sorted(COMMANDS.items()) if "run" in s or c in PLACES]
    )
    kind = draw.randrange(6)
    if kind < 2:
        name = draw.choice(("text", "series", "texts"))
        path = draw.choice(("nowhere.txt", "nowhere/*.txt", "", "text.txt/below", "\\0", "~no/x",
                            "nowhere.csv", "x" * 300))  # fmt: skip
        return case("missing file", *base(draw, f"data.path='{path}'", name=name))
    words = [command]
    wrong = draw.choice(("nowhere", "text.txt", ".", "''", "empty", "broken", "list", "half"))
    files: dict[str, bytes | None] = {
        "empty": None, "broken__run.json": b'{"status": "fin', "list__run.json": b"[1, 2]",
        "half__run.json": json.dumps({"status": "finished", "data": {}}).encode(),
    }  # fmt: skip
    shown = [wrong.strip("'") or "empty"] if command in PLACES else [f"run={wrong}"]
    if command == "tensorboard" and wrong == ".":
        shown = ["nowhere"]
    if command == "report" and wrong in (".", "half"):
        shown = ["broken"]
    more = [f"{k}={v}" for k, v in settings.items() if k in ("format", "seconds")]
    return case("missing file", *words, *shown, *more, **files)


def wrong_way_round(draw: random.Random) -> Case:
    """A folder for a file, a file for a folder, a place that is taken or cannot be written to."""
    good = [*base(draw, name="text")]
    taken: dict[str, bytes | None] = {"taken__notes.txt": b"mine", "folder": None}
    chosen = draw.choice((
        [*good, "run_dir=text.txt"], [*good, "run_dir=text.txt/below"], [*good, "run_dir=taken"],
        [*good, "run_dir=/proc/nothing"], [*good, "run_dir=/dev/null"], [*good, "run_dir=' '"],
        [*good, "run_dir=run_text"], [*good, "data.path=folder"], [*good, "data.path=/dev/null"],
        [*good, f"run_dir={'x' * 300}"], [*good, "resume=true"],
        [*good, "resume=true", "run_dir=taken"],
        ["train", *BASES["series"], *SMALL, "data.path=folder"],
        ["train", *BASES["texts"], *SMALL, "data.path=folder"],
        ["export", "run=run_text", "format=safetensors", "path=folder"],
        ["export", "run=run_text", "format=safetensors", "path=nowhere/x.safetensors"],
        ["export", "run=run_text", "format=safetensors", "path=/proc/x.safetensors"],
        ["export", "run=run_text", "format=onnx", "path=x.txt"],
        ["report", "run_text", "output=text.txt"], ["report", "run_text", "output=/proc/x"],
        ["complete", "run=run_pixels", "keep=folder"],
        ["complete", "run=run_pixels", "keep=text.txt"],
        ["complete", "run=run_pixels", "data.path=text.txt"],
        ["complete", "run=run_pixels", "num_images=1", "completions=1", "output=folder"],
        ["sample", "run=run_pixels", "num_images=1", "output=nowhere/x.png"],
        ["sample", "run=run_pixels", "num_images=1", "output=x.bmpp"],
        ["bench", "output=folder", "cells=[gru]", "engines=[eager]", "seconds=0.1"],
        ["bench", "output=text.txt/x.json", "cells=[gru]", "engines=[eager]", "seconds=0.1"],
        ["bench", "output=nowhere.json", "measure=false"],
        ["bench", "output=text.txt", "measure=false"],
        ["replay", "run=run_text", "run_dir=taken"], ["replay", "run=run_text", "run_dir=text.txt"],
        ["train", "-m", *good[1:], "seed=1,2", "sweep.dir=text.txt"],
        ["train", "-m", *good[1:], "seed=1,2", "sweep.dir=/proc/nothing"],
        ["search", *good[1:], "optimizer.weight_decay=uniform(0,1)", "search.dir=text.txt"],
        ["train", *good[1:], "--config-dir", "text.txt"],
        ["train", *good[1:], "--config-dir", "nowhere"],
    ))  # fmt: skip
    return case("wrong way round", *chosen, **taken)


MINE: tuple[bytes | None, ...] = (
    b"", b"# @package _global_\nseed: [1\n", b"# @package _global_\n\tseed: 1\n",
    b"# @package _global_\nsede: 1\n", b"# @package _global_\nseed: fast\n", b"- 1\n- 2\n",
    b"# @package _global_\ndefaults:\n  - override /clip: nomr\n",
    b"# @package _global_\ndefaults:\n  - override /clipp: norm\n",
    b"# @package _global_\ndefaults:\n  - nowhere\n", b"# @package _global_\ndefaults: norm\n",
    b"# @package _global_\nseed: ${seed}\n", b"# @package _global_\nseed: ${nothing.here}\n",
    b"# @package _global_\nrun_dir: ${oc.env:NO_SUCH_VARIABLE}\n",
    b"# @package _global_\nrun_dir: ${nothing:1}\n", b"# @package _global_\nrun_dir: ${\n",
    b"\xff\xfe\x00", b"# @package _global_\nseed: 1\x00\n", b"# @package _global_\nmodel: 3\n",
    b"# @package _global_\nmodel:\n  layers: [1]\n", b"# @package _global_\ntrainer: null\n",
    b"# @package _global_\nmodel:\n  cell:\n    _target_: nowhere.Cell\n",
    b"# @package _global_\nmodel:\n  cell:\n    _target_: os.system\n",
    b"# @package _global_\nmodel:\n  cell:\n    _target_: 3\n", b"just words\n",
    b"# @package _global_\nseed: 1\nseed: 2\n", b"# @package nowhere\nseed: 1\n",
    b"# @package _global_\n? [a, b]\n: 1\n",
    b"# @package _global_\nseed: !!python/name:os.system\n",
    b"# @package _global_\n1: 2\n", b"# @package _global_\nlogger:\n  mine: 3\n",
    b"# @package _global_\nclip: &a [*a]\n", b"seed: 3\n", b"%YAML 9.9\n---\nseed: 1\n",
    b"# @package _global_\ncallbacks:\n  mine:\n    _target_: nowhere.Callback\n",
)  # fmt: skip


def broken_file(draw: random.Random) -> Case:
    """A file of one's own with a mistake."""
    content = draw.choice([c for c in MINE if c])
    group = draw.choice(("experiment", "experiment", "sweep", "search"))
    files: dict[str, bytes | None] = {f"mine__{group}__own_dot_yaml": content}
    if group == "experiment":
        words = ["train", "data.path=text.txt", *SMALL, "experiment=own"]
    else:
        words = [*({"sweep": ("train", "-m"), "search": ("search",)}[group]), f"{group}=own"]
    return case("broken file", *words, "--config-dir=mine", **files)


# --- words ---------------------------------------------------------------------------------------

SYNTAX = ("seed", "=3", "seed=[1", "seed={a", "seed=1,2", "+seed=1", "++sead=1", "~nothing",
          "~seed=7", "~trainer", "seed=${nothing}", "seed=${seed}", "run_dir=${oc.env:NO_SUCH}",
          "run_dir=${", "run_dir=${nothing:3}", "seed=choice(1,2)", "seed=range(1,3)",
          "seed=nothing(3)", "clip=null", "clip=[norm,value]", "clip.norm=1", "clip=", "seed=",
          "model=", "hydra.run.dir=x", "hydra/launcher=basic", "model.cell=lstm", "trainer=3",
          "model.cell._target_=nowhere.Cell", "model.cell._target_=",
          "model.cell._target_=os.system",
          "model.cell._target_=seqmodels.cells.Nothing", "+model.cell.extra=1", "a b=3", "[]", "{}",
          "--seed=3", "-x", "--show=1", "model/cell@other=lstm", "+callbacks.mine=3", "seed=0x1g",
          "+callbacks.mine._target_=nowhere.Callback", "model.layers=3", "trainer.max_time=1 day",
          "trainer.max_time=00:99:00:00", "optimizer.lr=1e", "sweep=cells", "sweep.dir=x",
          "search.trials=3", "experiment=", "experiment=nothing", "data.path=[a,b]", "\x00=1",
          "seed=\u0663\u0663x", "=", "", " ", "seed==1", "seed=1=2", "run_dir=a\x00b",
          "model.cell=null", "model=null", "data=null", "task=null", "optimizer=null",
          "trainer.max_steps=0", "trainer.limit_train_batches=0", "~callbacks.nothing",
          "callbacks.checkpoint.monitor=val/nothing", "trainer.accelerator=gpu",
          "trainer.precision=7", "trainer.strategy=ddpp", "trainer.max_steps=-1")  # fmt: skip


def syntax(draw: random.Random) -> Case:
    words = base(draw, name=draw.choice(("text", "classes")))
    wrong = draw.choice(SYNTAX)
    return case("syntax", *words, wrong)


CONTRADICTIONS: tuple[tuple[str, ...], ...] = (
    (*BASES["text"], "model/layers=bidirectional"),
    (*BASES["text"], "task=classification"), (*BASES["text"], "task=regression"),
    (*BASES["text"], "task=tagging"), (*BASES["text"], "task=notes"),
    (*BASES["text"], "task=seq2seq"), (*BASES["text"], "task=ridge"),
    (*BASES["text"], "task=pixels"),
    (*BASES["text"], "model=prediction_real"), (*BASES["text"], "model=classifier"),
    (*BASES["text"], "model=echo_state"), (*BASES["text"], "model=pixelrnn"),
    (*BASES["text"], "model=seq2seq"), (*BASES["text"], "data=copy"),
    (*BASES["series"], "task=language_model"), (*BASES["series"], "task=classification"),
    (*BASES["series"], "model=prediction"), (*BASES["series"], "task=ridge"),
    (*BASES["reservoir"], "optimizer=adam"), (*BASES["reservoir"], "clip=norm"),
    (*BASES["reservoir"], "scheduler=cosine"), (*BASES["reservoir"], "task=regression"),
    (*BASES["reservoir"], "task.solver=nothing"), (*BASES["reservoir"], "task.penalties=[]"),
    (*BASES["pairs"], "task=language_model"), (*BASES["pairs"], "model=sequence"),
    (*BASES["texts"], "task=language_model"), (*BASES["texts"], "task=tagging"),
    (*BASES["texts"], "model=sequence"),
    (*BASES["tags"], "task=regression"), (*BASES["pixels"], "task=language_model"),
    (*BASES["pixels"], "model/layers=plain"), (*BASES["pixels"], "data=images"),
    (*BASES["classes"], "optimizer=none"), (*BASES["text"], "optimizer=none"),
    (*BASES["text"], "budget.parameters=1000", "budget.state=10"),
    (*BASES["text"], "budget.parameters=3"), (*BASES["text"], "budget.flops=1"),
    (*BASES["text"], "trainer.devices=2"), (*BASES["text"], "trainer.devices=[]"),
    (*BASES["text"], "trainer.strategy=ddp", "trainer.devices=8"),
    (*BASES["text"], "trainer.precision=transformer-engine"),
    (*BASES["text"], "model/layers=residual", "model.layers.hidden_size=[8,9]"),
    (*BASES["text"], "model.layers.hidden_size=[]"),
    (*BASES["text"], "model.layers.num_layers=2", "model.layers.hidden_size=[8,8,8]"),
    (*BASES["text"], "data.batch_size=100000"), (*BASES["text"], "data.seq_len=100000"),
    (*BASES["text"], "data.fractions=[0.5,0.6,0.7]"), (*BASES["text"], "data.level=letters"),
    (*BASES["text"], "model/cell=lmu", "model.layers.zoneout=0.5", "model.layers.hidden_size=0"),
    (*BASES["text"], "model/cell=custom"), (*BASES["text"], "model/head=adaptive"),
    (*BASES["text"], "model.layers.engine=native", "model/cell=leaky"),
    (*BASES["text"], "model.layers.engine=parallel", "model/cell=lstm"),
    (*BASES["text"], "model.layers.dropout=1.5"), (*BASES["text"], "init=chrono", "model/cell=rnn"),
    (*BASES["text"], "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=0.5"),
    (*BASES["text"], "scheduler=cosine", "scheduler.warmup_steps=1000000"),
    (*BASES["classes"], "task.omega=-1"), (*BASES["classes"], "data.length=[12,10]"),
    (*BASES["text"], "model.tie_weights=true", "model.layers.hidden_size=9",
     "model.embedding.size=5"),
)  # fmt: skip
OTHERS = (
    "eval run=run_text cache_weight=0.1", "eval run=run_pixels cache=10", "eval",
    "eval run=run_text data.nothing=3", "eval run=run_text data=copy",
    "eval run=run_text data.path=nowhere", "eval run=run_text split=vaild",
    "eval run=run_text cache=10 cache_weight=2", "eval run=run_text cache=10 cache_theta=nan",
    "sample run=run_text num_images=3", "sample run=run_pixels prompt=a", "sample",
    "sample run=run_text top_k=1000000 top_p=2", "sample run=run_pixels label=3",
    "sample run=run_text prompt=[a]", "sample run=run_text run_text", "sample run_text",
    "complete run=run_text", "complete run=run_pixels data.path=nowhere", "complete",
    "complete run=run_pixels keep=upper_half", "analyse run=run_pixels lags=[]",
    "analyse run=run_text lags=[0]", "analyse run=run_text lags=[1,x]", "analyse",
    "analyse run=run_text checkpoint=newest", "replay", "replay run=run_text tolerance=-1",
    "replay run=run_text tolerance=nan", "report", "report run_text nowhere",
    "report run_text metric=val/nothing", "report run_text baseline=nothing",
    "report run=run_text", "export", "export run=run_text format=onxn",
    "export run=run_text format=safetensors checkpoint=first", "tensorboard nowhere",
    "tensorboard run_text", "tensorboard run_text text.txt", "tensorboard run_text port=-1",
    "tensorboard run_text port=99999", "verify model/cell=lstn", "verify engines=[egaer]",
    "verify engines=[]", "verify speed=[1,2] seconds=0.1", "verify model/cell=custom",
    "verify seconds=0", "bench cells=[nothing]", "bench cells=[]",
    "bench shapes=[[1,2,3]]", "bench engines=[nothing]", "bench cells=['gru hidden=3']",
    "bench linear_steps=[5] linear_shape=[1,2,3]", "bench reference=transformer", "bench pairs=0",
    "bench dtype=float8", "train -m", "train -m seed=1", "train -m sweep=nothing",
    "train -m sweep=cells seed=1,1", "train -m sweep=cells sweep.jobs=0",
    "train -m seed=1,2 sweep.launcher=ssh", "train -m seed=1,2 sweep.partition=a",
    "train -m seed=1,2 sweep.nothing=3", "train -m seed=1,2 sweep.lease=-1",
    "train -m seed=1,2 sweep.lease=nan", "train -m seed=1,2 run_dir=x",
    "train -m seed=1,2 resume=true", "train -m seed=1,x", "train -m clip=norm,nomr",
    "train -m seed=1,2 sweep.mode=most", "train -m seed=1,2 sweep.tune_trials=3",
    "train -m sweep=cells sweep.tune=optimizer.lr", "train -m seed=1,2 sweep.tune=lr=log(1,2)",
    "train -m seed=1,2 sweep.tune='optimizer.lr=log(2,1)'", "train -m seed=1,2 sweep=cells,leak",
    "train -m seed=1,2 sweep.metric=",
    "train -m seed=1,2 sweep.jobs=1.5", "train -m seed=1,2 data.path=nowhere",
    "train -m sweep=cells --nothing", "train -m optimizer.lr=-1,0.1", "search",
    "search optimizer.lr=log(0,1)", "search optimizer.lr=log(1)", "search optimizer.lr=log(a,b)",
    "search optimizer.lr=log(nan,1)", "search optimizer.lr=uniform(1,inf)",
    "search model.layers.hidden_size=int(9,2)", "search model.layers.hidden_size=int(1.5,2)",
    "search optimizer.lr=log(1e-3,1) search.trials=0", "search optimizer.lrr=log(1e-3,1)",
    "search optimizer.lr=log(1e-3,1) search.sampler=best", "search seed=1", "search search=nothing",
    "search optimizer.lr=log(1e-3,1) search.sampler=grid", "search clip=norm,nomr",
    "search optimizer.lr=log(1e-3,1) search.storage=nothing://x", "search search.trials=3",
    "search optimizer.lr=log(1e-3,1) search.startup=-1", "search optimizer.lr=log(-2,1)",
    "search optimizer.lr=log(1e-3,1) search.pruner=all", "search optimizer.lr=log(1e-3,1) -m",
    "search optimizer.lr=log(1e-3,1) data.path=nowhere", "nothing", "-x", "trian", "train extra",
    "search optimizer.lr=log(1e-3,1) trainer.strategy=ddp trainer.devices=2",
)  # fmt: skip


def contradiction(draw: random.Random) -> Case:
    if draw.random() < 0.35:
        return case("contradiction", "train", *draw.choice(CONTRADICTIONS), *SMALL)
    return case("other commands", *draw.choice(OTHERS).split(" "))


CASES: dict[str, Callable[[random.Random], Case]] = {
    "misspelt": misspelt, "misspelt option": misspelt_option, "wrong type": wrong_type,
    "not finite": not_finite, "negative": negative, "huge": huge, "missing file": missing_file,
    "wrong way round": wrong_way_round, "broken file": broken_file, "syntax": syntax,
    "contradiction": contradiction,
}  # fmt: skip
KINDS = tuple(CASES)
