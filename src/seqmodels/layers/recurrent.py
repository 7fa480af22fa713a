"""A cell run over batches of sequences: lengths, direction, carried state, engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic

import torch
from torch import Tensor, nn

from seqmodels.cells import Cell, S
from seqmodels.cells.exposed import Exposed
from seqmodels.cells.gate_noise import GateNoise
from seqmodels.cells.probed import Probed
from seqmodels.cells.recurrent_dropout import RecurrentDropout
from seqmodels.cells.weight_drop import WeightDrop
from seqmodels.cells.wrapper import adopt, release
from seqmodels.cells.zoneout import Zoneout
from seqmodels.engines import check_name, choose
from seqmodels.layers.recompute import Recompute, check_recompute, in_pieces

# (layer, the cell that runs, x, state, lengths) -> what the layer gives.
Watcher = Callable[[Any, Cell[Any], Tensor, Any, Tensor | None], tuple[Tensor, Any]]


class Recurrent(nn.Module, Generic[S]):
    """One recurrent layer in one direction.

    Args:
        cell: the equation, or a function without arguments that makes it.
        reverse: run from the last step of each sequence to its first; the output stays beside its
            input step.
        engine: "auto" (the fastest that may run), or the one engine that must run.
        learned_state: the state before the first step is learned, from zero on; used where a call
            gives no state. Its parameters are named initial_h and so on, after the state's fields.
        zoneout: in [0, 1), or by the state's field; see `seqmodels.cells.zoneout.Zoneout`.
        weight_drop: in [0, 1); see `seqmodels.cells.weight_drop.WeightDrop`.
        recurrent_dropout: in [0, 1); see `seqmodels.cells.recurrent_dropout.RecurrentDropout`.
            Each call draws its masks anew.
        noise: σ >= 0 of the gates; see `seqmodels.cells.gate_noise.GateNoise`.
        recompute: store the state only every so many steps ("sqrt": √T) and compute the rest again
            on the way back, for long sequences; see `seqmodels.layers.recompute.in_pieces`. None
            is off.

    The state is the cell's own whatever the options, and so are the names of the parameters: what
    was trained with them loads without them.

    Shapes: x (B, T, I), T >= 1, state fields (B, ·), lengths (B,) int64 with 1 <= length <= T
    -> outputs (B, T, H), zero at padding, and the state after each sequence's own last step
    (its first one when reversed). Padding may hold anything.

    Attributes:
        output_size: H.
        causal: whether no output depends on later inputs: False when reversed.
        engine_used: name of the engine that ran the last call, None before the first.
    """

    def __init__(
        self,
        cell: Cell[S] | Callable[[], Cell[S]],
        *,
        reverse: bool = False,
        engine: str = "auto",
        learned_state: bool = False,
        zoneout: float | Mapping[str, float] = 0.0,
        weight_drop: float = 0.0,
        recurrent_dropout: float = 0.0,
        noise: float = 0.0,
        recompute: Recompute = None,
    ) -> None:
        super().__init__()
        check_name(engine)
        check_recompute(recompute)
        self.cell = cell if isinstance(cell, Cell) else cell()
        self.reverse = reverse
        self.engine = engine
        self.recompute: Recompute = recompute
        self.causal = not reverse
        self.output_size = self.cell.output_size
        self.engine_used: str | None = None
        self._rates = {
            "zoneout": zoneout,
            "weight_drop": weight_drop,
            "recurrent_dropout": recurrent_dropout,
            "noise": noise,
        }
        # What runs, in training and in evaluation. In a tuple and a dict, so that parameters are
        # known under the name of the cell alone.
        self._running = (self._wrapped(True), self._wrapped(False))
        self._exposed: dict[bool, Exposed] = {}
        self._around: dict[str, Callable[[Cell[Any]], Cell[Any]]] = {}
        self._watcher: Watcher | None = None
        self.learned_state = learned_state
        if learned_state:
            self._learn()

    def _wrapped(self, training: bool) -> Cell[Any]:
        cell: Cell[Any] = self.cell
        zoneout, weight_drop, dropout, noise = self._rates.values()
        wrappers = (
            (GateNoise, noise),  # first: the others put masks beside the gates
            (WeightDrop, weight_drop),
            (Zoneout, zoneout),
            (RecurrentDropout, dropout),
        )
        for kind, rate in wrappers:
            # Only zoneout does anything in evaluation. What is 0 or less is the wrapper's to judge.
            if rate == 0.0 or rate == {} or isinstance(rate, bool):
                if isinstance(rate, bool):
                    raise ValueError(f"expected a rate in [0, 1), got {rate!r}")
                continue
            made: Cell[Any] = kind(cell, rate)  # type: ignore[arg-type]
            if training or kind is Zoneout:
                cell = made
                cell.training = training
        return cell

    def _learn(self) -> None:
        like = self.cell.like()
        template: Any = self.cell.initial_state(1, like.detach())
        for name, row in zip(template._fields, template, strict=True):
            if row.is_floating_point() and name not in self.cell.not_activations:
                self.register_parameter(f"initial_{name}", nn.Parameter(row[0].clone()))

    def initial_state(self, batch_size: int, like: Tensor) -> Any:
        """The state before the first step, with the dtype and device of `like`."""
        state: Any = self.cell.initial_state(batch_size, like)
        if not self.learned_state:
            return state
        fields = []
        for name, zeros in zip(state._fields, state, strict=True):
            learned = getattr(self, f"initial_{name}", None)
            fields.append(zeros if learned is None else zeros + learned.to(zeros))
        return type(state)(*fields)

    def forward(
        self, x: Tensor, state: S | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, S]:
        cell = self._running[not self.training]
        if self._watcher is not None and self.training and torch.is_grad_enabled():
            return self._watcher(self, cell, x, state, lengths)
        return self.run(cell, x, state, lengths)

    def wrap_training(self, name: str, wrap: Callable[[Cell[Any]], Cell[Any]]) -> None:
        """Run, in training, what `wrap` makes of the cell with all that the layer puts round it.

        Args:
            name: of this wrapper; another of the same name takes its place.

        Raises:
            EngineError: the layer's engine does not run the wrapped cell.
        """
        around = {**self._around, name: wrap}
        cell = self._wrapped(True)
        for each in around.values():
            cell = each(cell)
        like = self.cell.like()
        choose(self.engine, cell, like.new_zeros(1, 1, self.cell.input_size), None, None)
        self._around, self._running = around, (cell, self._running[1])
        self._exposed.clear()

    @property
    def training_cell(self) -> Cell[Any]:
        """What runs in training: the cell with all that is put round it."""
        return self._running[0]

    def watch_training(self, watcher: Watcher) -> None:
        """Let `watcher` make the calls that a gradient is asked of, by way of `run`."""
        self._watcher = watcher

    @contextmanager
    def probing(self) -> Iterator[tuple[Probed, Probed]]:
        """While it lasts, calls leave zeros whose gradients are those of the states.

        Yields:
            What runs in training and what in evaluation; time goes as the engine goes.

        Raises:
            ValueError: the layer recomputes its states, which then have no one gradient.
        """
        if self.recompute is not None:
            raise ValueError(f"{type(self).__name__} recomputes its states: set recompute to null")
        running = self._running
        probes = (Probed(running[0]), Probed(running[1]))
        for each, cell in zip(probes, running, strict=True):
            each.training = cell.training
        self._running = probes
        self._exposed.clear()
        try:
            yield probes
        finally:
            self._running = running
            self._exposed.clear()

    def trajectory(
        self, x: Tensor, state: S | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, S, S]:
        """The state after every step, as the engine went through it.

        Shapes: x, state, lengths as for a call -> outputs (B, T, H), the trajectory, a state with
        fields (B, T, ·), zero at padding, and the state after the last step.
        """
        if self.training not in self._exposed:
            own: Any = self.cell.initial_state(1, x)
            made = Exposed(self._running[not self.training], own._fields)
            made.training = self.training
            self._exposed[self.training] = made
        cell = self._exposed[self.training]
        joined, last = self.run(cell, x, state, lengths)  # (B, T, all widths)
        fields = cell.split(joined)
        return fields[0], type(last)(*fields), last

    def run(
        self, cell: Cell[Any], x: Tensor, state: S | None, lengths: Tensor | None
    ) -> tuple[Tensor, S]:
        """A call of the layer with a wrapper round its cell in the place of the cell."""
        if x.dim() != 3:
            raise ValueError(f"expected x of shape (B, T, I), got {tuple(x.shape)}")
        x = x.transpose(0, 1)  # (B, T, I) -> (T, B, I)
        keep = None if lengths is None else prefix_mask(lengths, x)  # (T, B)
        if self.reverse:
            x = reverse_time(x, keep)
        own: Any = state
        if self.learned_state or cell is not self.cell:
            self.cell.check(x, state, keep)
            own = adopt(cell, self.cell, self.initial_state(x.shape[1], x) if own is None else own)
        pieces = self.recompute is not None and torch.is_grad_enabled()
        # cuDNN wants each sequence to have its first step, which a later piece may lack.
        hardest = keep.flip(0) if keep is not None and pieces and x.is_cuda else keep
        engine = choose(self.engine, cell, x, own, hardest)
        self.engine_used = engine.name
        y, own = in_pieces(engine, cell, x, own, keep, self.recompute)  # (T, B, H)
        if self.reverse:
            y = reverse_time(y, keep)
        return y.transpose(0, 1), release(cell, self.cell, own)  # (T, B, H) -> (B, T, H)

    def extra_repr(self) -> str:
        rates = [f"{name}={rate}" for name, rate in self._rates.items() if rate]
        options = [f"reverse={self.reverse}", f"engine={self.engine!r}", *rates]
        options += ["learned_state=True"] if self.learned_state else []
        options += [f"recompute={self.recompute!r}"] if self.recompute is not None else []
        return ", ".join(options)


def prefix_mask(lengths: Tensor, x: Tensor) -> Tensor | None:
    """keep (T, B) for x (T, B, ·): True on the first `length` steps; None where all are full.

    Raises:
        ValueError: lengths is not (B,) int64, or not within 1 … T.
    """
    steps, batch = x.shape[0], x.shape[1]
    if lengths.shape != (batch,) or lengths.dtype != torch.int64:
        raise ValueError(
            f"expected lengths of shape (B,) = ({batch},) and torch.int64, "
            f"got {tuple(lengths.shape)} {lengths.dtype}"
        )
    shortest, longest = (int(v) for v in torch.aminmax(lengths))
    if shortest < 1 or longest > steps:
        raise ValueError(
            f"expected 1 <= length <= T = {steps}, got lengths from {shortest} to {longest}"
        )
    if shortest == steps:
        return None
    steps_first = torch.arange(steps, device=x.device).unsqueeze(1)  # (T, 1)
    return steps_first < lengths.to(x.device)  # (T, B)


def reverse_time(x: Tensor, keep: Tensor | None) -> Tensor:
    """Turn each sequence of x (T, B, ·) round within its own prefix; padding stays where it is."""
    if keep is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device).unsqueeze(1)  # (T, 1)
    source = torch.where(keep, keep.sum(0) - 1 - steps, steps)  # (T, B)
    return x.gather(0, source.unsqueeze(-1).expand_as(x))
