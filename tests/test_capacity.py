"""Memory capacity, where it is known."""

from __future__ import annotations

import pytest
import torch

from seqmodels.analysis.capacity import memory_capacity
from seqmodels.cells import GRUCell, LSTMCell, RNNCell


def delay_line(size: int) -> RNNCell:
    """h_1 = u, h_k = the old h_{k−1}: it holds the last `size` inputs. Sigmoid-free by relu of
    shifted numbers: u + 1 > 0."""
    cell = RNNCell(1, size, nonlinearity="relu").double()
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.weight_ih[0] = 1.0
        cell.weight_hh.copy_(torch.eye(size).roll(1, 0))
        cell.weight_hh[0] = 0.0
        assert cell.bias_ih is not None and cell.bias_hh is not None
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
        cell.bias_ih[0] = 1.0
    return cell


def test_a_delay_line_holds_as_many_inputs_as_it_has_units() -> None:
    found = memory_capacity(delay_line(8), steps=4000, lags=20)
    # s_t holds u_t … u_{t−7}: lags 1 … 7 are past ones.
    torch.testing.assert_close(found.by_lag[:7], torch.ones(7).double(), rtol=1e-6, atol=0)
    assert float(found.by_lag[7:].max()) < 0.01
    assert found.total <= found.bound == 8
    with_present = memory_capacity(delay_line(8), steps=4000, lags=20, first_lag=0)
    torch.testing.assert_close(with_present.by_lag[:8], torch.ones(8).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(with_present.by_lag[1:], found.by_lag)
    assert with_present.total == pytest.approx(8, abs=0.05)  # chance correlations beyond lag 7


def test_the_chunks_do_not_matter() -> None:
    torch.manual_seed(0)
    cell = RNNCell(1, 10).double()
    whole = memory_capacity(cell, steps=1000, lags=12, chunk=5000)
    parts = memory_capacity(cell, steps=1000, lags=12, chunk=37)
    torch.testing.assert_close(whole.by_lag, parts.by_lag, rtol=1e-6, atol=1e-9)
    assert 0 < whole.total < 10


def test_what_is_not_fitted_is_not_remembered() -> None:
    """A state that does not know its input: on fitted data its capacity would not be nought."""
    cell = RNNCell(1, 10).double()
    with torch.no_grad():
        cell.weight_ih.zero_()
    assert memory_capacity(cell, steps=1000, lags=12).total < 0.2


@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_gated_cells_have_one_too_and_the_cell_state_adds(kind: type) -> None:
    torch.manual_seed(0)
    cell = kind(1, 8).double()
    outputs = memory_capacity(cell, steps=2000, lags=20, outputs_only=True)
    whole = memory_capacity(cell, steps=2000, lags=20)
    assert outputs.bound == 8 and 1 < outputs.total < 8
    assert whole.bound >= outputs.bound and whole.total > outputs.total - 0.2
    assert len(whole.as_dict()["by_lag"]) == 20


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="one input signal"):
        memory_capacity(RNNCell(2, 3))
    with pytest.raises(ValueError, match=r"steps >= 4 \* \(lags \+ 1\)"):
        memory_capacity(RNNCell(1, 3), steps=10)
    with pytest.raises(ValueError, match="first_lag 0 or 1"):
        memory_capacity(RNNCell(1, 3), first_lag=2)
    with pytest.raises(ValueError, match="penalties > 0"):
        memory_capacity(RNNCell(1, 3), penalties=())
    wild = RNNCell(1, 3, nonlinearity="relu").double()
    with torch.no_grad():
        wild.weight_hh.fill_(10.0)
        wild.weight_ih.fill_(1.0)
    with pytest.raises(ValueError, match="left all bounds"):
        memory_capacity(wild, steps=2000, lags=10)
