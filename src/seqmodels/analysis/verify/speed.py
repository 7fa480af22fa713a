"""What a cell costs on each engine beside `torch.nn.LSTM`: a figure, no judgement."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmodels.analysis.timing import interleave, seconds_of
from seqmodels.analysis.verify.subject import Body, Measured, NotApplicableError, Subject, seeded
from seqmodels.engines import ENGINES

SPEED_SHAPE = (35, 20, 200, 200)  # T, B, I, H


def measure(name: str, shape: tuple[int, int, int, int], seconds: float) -> Body:
    """Forward and training step in float32, ratio of medians of interleaved pairs."""
    steps, batch, input_size, hidden_size = shape

    def body(subject: Subject) -> str:
        engine = ENGINES[name]
        with seeded(subject.seed):
            cell = subject.factory(input_size, hidden_size).float()
            lstm = nn.LSTM(input_size, hidden_size)
            x = torch.randn(steps, batch, input_size, requires_grad=True)
        reason = engine.why_not(cell, x, None, None)
        if reason is not None:
            raise NotApplicableError(f"may not run: {reason}")
        weights = [p for p in cell.parameters() if p.requires_grad]
        theirs = list(lstm.parameters())

        def forward() -> Tensor:
            return engine(cell, x)[0]

        def lstm_forward() -> Tensor:
            y: Tensor = lstm(x)[0]
            return y

        def step() -> None:
            torch.autograd.grad(forward().sum(), [x, *weights], allow_unused=True)

        def lstm_step() -> None:
            torch.autograd.grad(lstm_forward().sum(), [x, *theirs])

        with torch.no_grad():
            first = seconds_of(forward)
            forwards = interleave(forward, lstm_forward, seconds=seconds / 2)
        first += seconds_of(step)
        both = interleave(step, lstm_step, seconds=seconds / 2)
        return Measured(
            f"× {forwards.ratio:.2f} of nn.LSTM forward, × {both.ratio:.2f} training step "
            f"({1000 * both.seconds:.1f} ms) at T,B,I,H = {','.join(map(str, shape))}; "
            f"first calls {first:.1f} s"
        )

    return body
