"""Does a cell keep what the framework builds on? Any cell, third parties' too.

from seqmodels.analysis.verify import verify
for check in verify(MyCell):
    print(check.name, check.status, check.detail)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from seqmodels.analysis.verify import contract, mathematics, numbers, running, sequences
from seqmodels.analysis.verify.speed import SPEED_SHAPE, measure
from seqmodels.analysis.verify.subject import Body, CellFactory, Check, Subject, perform
from seqmodels.engines import ENGINES

__all__ = ["SPEED_SHAPE", "Check", "verify", "verify_one_by_one"]

# The first is what all others stand on.
CHECKS: tuple[tuple[str, Body], ...] = (
    ("contract", contract.contract),
    ("no state in the module", contract.no_state_in_the_module),
    ("gradcheck: inputs", mathematics.gradcheck_inputs),
    ("gradcheck: state", mathematics.gradcheck_state),
    ("gradcheck: parameters", mathematics.gradcheck_parameters),
    ("causality", mathematics.causality),
    ("rows independent", mathematics.rows_independent),
    ("carried state", sequences.carried_state),
    ("stepping", sequences.stepping),
    ("padding", sequences.padding),
    ("dtype", numbers.dtype),
    ("autocast", numbers.autocast),
    ("state_dict", numbers.state_dict),
)


def verify(
    cell_factory: CellFactory,
    *,
    input_size: int = 3,
    hidden_size: int = 5,
    engines: Sequence[str] | None = None,
    speed: tuple[int, int, int, int] | None = SPEED_SHAPE,
    seconds: float = 1.0,
    seed: int = 0,
    starting: Callable[[str], None] | None = None,
) -> list[Check]:
    """Check a cell; a cell that raises makes a failed check with its message.

    Args:
        cell_factory: called with (input_size, hidden_size), as layers call it.
        input_size, hidden_size: of the small cell that everything but the speed is checked with.
        engines: names of those whose back-propagation through time is held against autograd
            through the reference loop, and which are timed; None: all.
        speed: (T, B, I, H) of the timing beside `torch.nn.LSTM`; None: no timing.
        seconds: how long each timing may take.
        seed: of weights and inputs.
        starting: called with the name of each check before it runs.

    Returns:
        One `Check` a line of the report, in order.

    Raises:
        ValueError: a name is no engine's.
    """
    return list(
        verify_one_by_one(
            cell_factory,
            input_size=input_size,
            hidden_size=hidden_size,
            engines=engines,
            speed=speed,
            seconds=seconds,
            seed=seed,
            starting=starting,
        )
    )


def verify_one_by_one(
    cell_factory: CellFactory,
    *,
    input_size: int,
    hidden_size: int,
    engines: Sequence[str] | None,
    speed: tuple[int, int, int, int] | None,
    seconds: float,
    seed: int,
    starting: Callable[[str], None] | None,
) -> Iterator[Check]:
    """As `verify`; each check comes as soon as it is done."""
    names = list(ENGINES) if engines is None else list(engines)
    unknown = [name for name in names if name not in ENGINES]
    if unknown:
        raise ValueError(f"expected engines out of {', '.join(ENGINES)}, got {unknown[0]!r}")
    subject = Subject(cell_factory, input_size, hidden_size, seed)
    bodies = [*CHECKS, *((f"BPTT: {name}", running.agrees(name)) for name in names)]
    if speed is not None:
        bodies += [(f"speed: {name}", measure(name, speed, seconds)) for name in names]
    sound = True
    for name, body in bodies:
        if not sound:
            yield Check(name, "skipped", "not run: the contract is broken")
            continue
        if starting is not None:
            starting(name)
        check = perform(name, body, subject)
        sound = name != "contract" or check.status == "passed"
        yield check
