"""Recurrent cells: one equation a file."""

from __future__ import annotations

from seqmodels.cells.antisymmetric import AntisymmetricCell
from seqmodels.cells.base import Affine, Cell, S, Stage
from seqmodels.cells.clockwork import ClockworkCell, ClockworkState
from seqmodels.cells.cornn import CoRNNCell
from seqmodels.cells.delay import Delay
from seqmodels.cells.exposed import Exposed
from seqmodels.cells.gate_noise import GateNoise
from seqmodels.cells.gru import GRUCell, GRUState
from seqmodels.cells.indrnn import IndRNNCell
from seqmodels.cells.leaky import LeakyCell
from seqmodels.cells.lem import LEMCell
from seqmodels.cells.lmu import LMUCell, LMUState
from seqmodels.cells.lru import LRUCell
from seqmodels.cells.lstm import LSTMCell, LSTMState
from seqmodels.cells.lstm_variant import LSTMVariantCell
from seqmodels.cells.min_gru import MinGRUCell
from seqmodels.cells.min_lstm import MinLSTMCell
from seqmodels.cells.neighbours import Neighbours
from seqmodels.cells.operators import BlockDiagonal, Dense, Diagonal, Nothing, Operator
from seqmodels.cells.pixel_lstm import PixelLSTMCell
from seqmodels.cells.probed import Probed
from seqmodels.cells.recurrent_dropout import RecurrentDropout
from seqmodels.cells.reservoir import ReservoirCell
from seqmodels.cells.rnn import RNNCell, RNNState
from seqmodels.cells.slstm import SLSTMCell, SLSTMState
from seqmodels.cells.ugrnn import UGRNNCell
from seqmodels.cells.weight_drop import WeightDrop
from seqmodels.cells.wrapper import Wrapper
from seqmodels.cells.zoneout import Zoneout

__all__ = [
    "Affine",
    "AntisymmetricCell",
    "BlockDiagonal",
    "Cell",
    "ClockworkCell",
    "ClockworkState",
    "CoRNNCell",
    "Delay",
    "Dense",
    "Diagonal",
    "Exposed",
    "GRUCell",
    "GRUState",
    "GateNoise",
    "IndRNNCell",
    "LEMCell",
    "LMUCell",
    "LMUState",
    "LRUCell",
    "LSTMCell",
    "LSTMState",
    "LSTMVariantCell",
    "LeakyCell",
    "MinGRUCell",
    "MinLSTMCell",
    "Neighbours",
    "Nothing",
    "Operator",
    "PixelLSTMCell",
    "Probed",
    "RNNCell",
    "RNNState",
    "RecurrentDropout",
    "ReservoirCell",
    "S",
    "SLSTMCell",
    "SLSTMState",
    "Stage",
    "UGRNNCell",
    "WeightDrop",
    "Wrapper",
    "Zoneout",
]
