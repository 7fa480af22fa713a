"""Trained models for use elsewhere: torch.export, ONNX, safetensors."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from seqmodels.engines import replaced
from seqmodels.engines.exported import Exported
from seqmodels.models import OneHot, RealInputs, TokenEmbedding

Format = Literal["torch_export", "onnx", "safetensors"]
SUFFIXES: dict[str, str] = {"torch_export": ".pt2", "onnx": ".onnx", "safetensors": ".safetensors"}
KEY = "seqmodels"  # under which a file holds `describe`
RELATIVE, ABSOLUTE = 1e-4, 1e-5  # float32 in another order of operations


class ExportError(ValueError):
    """A model that cannot be exported; the message says why and what can be done."""


class Streaming(nn.Module):
    """A model as a function of tensors alone: inputs and state in, outputs and state out.

    Shapes: inputs (B, T) int64 or (B, T, N), state a list of tensors (B, ·)
    -> outputs (B, T, O), the state after the last step as a list of the same form.

    Args:
        model: called as model(inputs, state) -> (outputs, state), with `initial_state`. One that
            reads the later inputs too has no state that could be handed on: its list is empty.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not hasattr(model, "initial_state"):
            raise ExportError(
                f"{type(model).__name__} carries no state from step to step and is not exported as "
                "a graph: use format=safetensors, which holds its weights"
            )
        self.model = model
        self.streams = all(getattr(m, "causal", True) is not False for m in model.modules())
        like = next(model.parameters())
        template = model.initial_state(1, like.detach())  # type: ignore[operator]
        self.names = list(_names(template)) if self.streams else []
        leaves, self._form = pytree.tree_flatten(template)
        self.first = [leaf.detach()[0] for leaf in leaves] if self.streams else []

    def initial(self, batch_size: int) -> list[Tensor]:
        """The state before the first step."""
        return [row.expand(batch_size, *row.shape).contiguous() for row in self.first]

    def forward(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        if not self.streams:
            return self.model(inputs)[0], []
        outputs, new = self.model(inputs, pytree.tree_unflatten(state, self._form))
        return outputs, pytree.tree_leaves(new)


def _names(state: Any, path: str = "state") -> Iterator[str]:
    """state_0_h, state_0_c, … in the order of the tensors."""
    if isinstance(state, Tensor):
        yield path
        return
    fields = getattr(state, "_fields", range(len(state)))
    for name, part in zip(fields, state, strict=True):
        yield from _names(part, f"{path}_{name}")


def describe(model: Streaming, more: Mapping[str, Any]) -> dict[str, Any]:
    """What a user of the file must know: the names, shapes and first values of the state."""
    states = []
    for name, row in zip(model.names, model.first, strict=True):
        zero = not bool(row.any())
        states.append(
            {
                "input": name,
                "output": f"next_{name}",
                "shape": ["batch", *row.shape],
                "dtype": str(row.dtype).removeprefix("torch."),
                "initial": 0 if zero else row.tolist(),  # of each row of the batch
            }
        )
    return {"state": states, **more}


def example(model: nn.Module, batch_size: int, steps: int) -> Tensor:
    """Inputs of the kind that the model reads, drawn from a fixed seed."""
    reader = getattr(model, "embedding", None) or getattr(model, "inputs", None)
    generator = torch.Generator().manual_seed(batch_size * 1000 + steps)
    if isinstance(reader, TokenEmbedding):
        return torch.randint(reader.num_tokens, (batch_size, steps), generator=generator)
    if isinstance(reader, OneHot):
        return torch.randint(reader.output_size, (batch_size, steps), generator=generator)
    if isinstance(reader, RealInputs):
        shape = (batch_size, steps, reader.output_size)
        return torch.randn(shape, generator=generator).to(next(model.parameters()).dtype)
    raise ExportError(
        f"what {type(model).__name__} reads is neither symbols nor numbers of a known size: use "
        "format=safetensors, which holds its weights"
    )


def trace(model: Streaming) -> Any:
    """The `torch.export.ExportedProgram` of the model, for any batch and any number of steps."""
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    inputs = example(model.model, 3, 5)
    state = model.initial(3)
    shapes = ({0: batch, 1: time}, [{0: batch} for _ in state])
    model.eval()
    try:
        with torch.no_grad(), replaced(Exported()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own parts about each other
            return torch.export.export(model, (inputs, state), dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch's tracer raises many types
        text = " ".join(str(error).split("\n")[:2])
        raise ExportError(
            f"torch.export cannot trace this model for any batch and length ({text}); "
            "format=safetensors holds its weights"
        ) from error


def export(
    model: nn.Module, form: Format, path: Path, more: Mapping[str, Any] | None = None
) -> float | None:
    """Writes the model to `path`, whole or not at all, and runs what was written.

    Args:
        model: trained; it is set to evaluation.
        form: "torch_export" and "onnx" are graphs with the weights in them, "safetensors" the
            weights alone, under the names of the model's parameters.
        path: written anew, or replaced.
        more: plain values to be put into the file beside what is said of the state.

    Returns:
        The largest difference between the outputs and states of the file and those of the model,
        for batches and lengths other than those that were traced; None for weights alone.

    Raises:
        ExportError: the model has parts that no graph has, or what was written computes something
            else; then nothing is left at `path`.
        ModuleNotFoundError: a package of the extra `export` is missing.
        OSError: the file cannot be written.
    """
    model.eval()
    beside = tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent)
    with _constant(model), beside as folder:
        fresh = Path(folder) / f"model{path.suffix}"
        difference = None
        if form == "safetensors":
            _write_weights(model, fresh, dict(more or {}))
        else:
            whole = Streaming(model)
            program = trace(whole)
            described = json.dumps(describe(whole, more or {}), ensure_ascii=False)
            write = _write_torch if form == "torch_export" else _write_onnx
            difference = _largest(whole, write(program, whole, fresh, described))
        fresh.replace(path)
    return difference


@contextmanager
def _constant(model: nn.Module) -> Iterator[None]:
    """Parameters without gradients: with them, the loop would be traced as one to differentiate."""
    trained = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


Run = Callable[[Tensor, list[Tensor]], list[Tensor]]  # inputs, state -> outputs, then the state


def _write_weights(model: nn.Module, path: Path, more: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    # Copies: the format has no shared tensors, such as tied weights.
    weights = {name: value.detach().clone().contiguous() for name, value in
               model.state_dict().items()}  # fmt: skip
    save_file(weights, path, metadata={KEY: json.dumps(more, ensure_ascii=False)})


def _write_torch(program: Any, model: Streaming, path: Path, described: str) -> Run:
    with _quiet("torch._export"):
        torch.export.save(program, path, extra_files={KEY: described})
    loaded = torch.export.load(path).module()

    def run(inputs: Tensor, state: list[Tensor]) -> list[Tensor]:
        outputs, new = loaded(inputs, state)
        return [outputs, *new]

    return run


def _write_onnx(program: Any, model: Streaming, path: Path, described: str) -> Run:
    import onnxruntime

    names = [*model.names]
    try:
        with _quiet("torch.onnx"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["inputs", *names],
                output_names=["outputs", *(f"next_{name}" for name in names)],
            )
    except Exception as error:  # the translator raises many types
        text = " ".join(str(error).split("\n")[:2])
        raise ExportError(
            f"torch.onnx cannot translate this model ({text}): use format=torch_export"
        ) from error
    made.model.metadata_props[KEY] = described
    made.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    known = {each.name for each in session.get_inputs()}

    def run(inputs: Tensor, state: list[Tensor]) -> list[Tensor]:
        feed = {"inputs": inputs} | dict(zip(names, state, strict=True))
        # A field that nothing depends on is no input of the graph.
        given = {name: value.numpy() for name, value in feed.items() if name in known}
        return [torch.from_numpy(array) for array in session.run(None, given)]

    return run


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Errors alone of a logger: what else it says is for those who write torch."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@torch.no_grad()
def _largest(model: Streaming, run: Run) -> float:
    """Compares what was written with the model, two calls with the state handed on."""
    largest = 0.0
    for batch, steps in ((2, 7), (1, 1), (4, 2)):
        state = model.initial(batch)
        for part in (steps, steps + 1):
            inputs = example(model.model, batch, part)
            outputs, new = model(inputs, state)
            for ours, theirs in zip([outputs, *new], run(inputs, state), strict=True):
                gap = (ours.double() - theirs.double()).abs()
                if bool((gap > ABSOLUTE + RELATIVE * ours.double().abs()).any()):
                    raise ExportError(
                        f"the exported model computes something else than the original: they are "
                        f"{float(gap.max()):.3g} apart for a batch of {batch} and {part} steps"
                    )
                largest = max(largest, float(gap.max()))
            state = [value.contiguous() for value in new]
    return largest
