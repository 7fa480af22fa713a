"""Recurrent cells: one equation a file."""

from __future__ import annotations

from seqmodels.cells.antisymmetric import AntisymmetricCell
from seqmodels.cells.base import Cell, S, Stage
from seqmodels.cells.delay import Delay
from seqmodels.cells.gru import GRUCell, GRUState
from seqmodels.cells.indrnn import IndRNNCell
from seqmodels.cells.leaky import LeakyCell
from seqmodels.cells.lstm import LSTMCell, LSTMState
from seqmodels.cells.lstm_variant import LSTMVariantCell
from seqmodels.cells.operators import BlockDiagonal, Dense, Diagonal, Operator
from seqmodels.cells.rnn import RNNCell, RNNState
from seqmodels.cells.slstm import SLSTMCell, SLSTMState
from seqmodels.cells.ugrnn import UGRNNCell

__all__ = [
    "AntisymmetricCell",
    "BlockDiagonal",
    "Cell",
    "Delay",
    "Dense",
    "Diagonal",
    "GRUCell",
    "GRUState",
    "IndRNNCell",
    "LSTMCell",
    "LSTMState",
    "LSTMVariantCell",
    "LeakyCell",
    "Operator",
    "RNNCell",
    "RNNState",
    "S",
    "SLSTMCell",
    "SLSTMState",
    "Stage",
    "UGRNNCell",
]
