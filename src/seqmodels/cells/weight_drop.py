"""Recurrent weights that are dropped for a whole call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.nn import functional

from seqmodels.cells.base import Cell, Stage
from seqmodels.cells.operators import Dense, Diagonal, Operator
from seqmodels.cells.past import Lagged
from seqmodels.cells.wrapper import Wrapper, checked_rate, probe


class WeightDrop(Wrapper):
    """DropConnect on the recurrent weights: the same weights are missing at every step of a call.

        W' = (m · W) / (1 - p)        m_ij ~ Bernoulli(1 - p), once a call; evaluation: W' = W

    The weights are the effective ones: of a cell that derives its matrix from parameters, the
    derived matrix. Biases stay.

    Args:
        cell: a cell whose recurrent maps are dense or diagonal; another is a ValueError.
        rate: p in [0, 1); 0.5 in the reference.

    Reference: Merity, Keskar & Socher, "Regularizing and optimizing LSTM language models", ICLR
    2018, https://arxiv.org/abs/1708.02182, after Wan et al., "Regularization of neural networks
    using DropConnect", ICML 2013.
    """

    def __init__(self, cell: Cell[Any], rate: float) -> None:
        super().__init__(cell)
        self.past_apart = cell.past_apart
        self.rate = checked_rate("weight_drop", rate)
        stages = probe(cell)[1]
        for stage in stages:
            _dropped(stage.operator, 0.0)
        if not any(stage.operator.weights for stage in stages):
            raise ValueError(f"weight_drop: {type(cell).__name__} has no recurrent weights")

    def prepare(self) -> tuple[Stage[Any], ...]:
        stages = self.cell.prepare()
        if not self.training:
            return stages
        return tuple(replace(s, operator=_dropped(s.operator, self.rate)) for s in stages)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def _dropped(operator: Operator, rate: float) -> Operator:
    if not operator.weights:
        return operator
    if type(operator) is Dense:
        return Dense(functional.dropout(operator.weight, rate), operator.bias)
    if type(operator) is Diagonal:
        return Diagonal(functional.dropout(operator.weight, rate))
    if type(operator) is Lagged:
        return operator.with_weight(functional.dropout(operator.weight, rate))
    raise ValueError(
        f"weight_drop is for dense and diagonal recurrent maps, got {type(operator).__name__}: "
        "use zoneout or recurrent_dropout"
    )
