"""Ridge regression from a stream of rows: one pass, memory that does not grow with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Solver = Literal["gram", "qr"]


class RidgeStream:
    """min Σ_t ‖y_t − c − V z_t‖² + β ‖V‖², of rows that come in pieces; c has no penalty.

    "gram" adds up the products [1 z y]ᵀ[1 z y], whose condition is the square of the rows'; "qr"
    keeps the triangular factor of all rows so far instead, which costs three to four times as much
    and serves where β is very small (a noiseless signal forecast far ahead). Both in float64,
    whatever the rows are.

    Args:
        num_features: F.
        num_targets: O.
        solver: "gram" or "qr".
    """

    def __init__(self, num_features: int, num_targets: int, *, solver: Solver = "gram") -> None:
        if solver not in ("gram", "qr"):
            raise ValueError(f"expected the solver gram or qr, got {solver!r}")
        self.solver: Solver = solver
        self.num_features, self.num_targets = num_features, num_targets
        self.rows = 0
        size = 1 + num_features + num_targets if solver == "qr" else num_features
        # gram: zᵀz (its upper triangle as SciPy has it, our lower one); qr: R of [1 z y].
        self._sums = torch.zeros(size, size, dtype=torch.float64)
        # gram: [1 y]ᵀz, and the sum of y.
        self._across = torch.zeros(1 + num_targets, num_features, dtype=torch.float64)
        self._answers = torch.zeros(num_targets, dtype=torch.float64)

    @torch.no_grad()
    def add(self, features: Tensor, targets: Tensor) -> None:
        """features (N, F) and targets (N, O), on any device."""
        count = len(features)
        if count == 0:
            return
        device = features.device
        self._sums, self._across = self._sums.to(device), self._across.to(device)
        self._answers = self._answers.to(device)
        self.rows += count
        z = features.detach().to(self._sums.dtype).contiguous()
        y = targets.to(z)
        if self.solver == "qr":
            rows = torch.cat((z.new_ones(count, 1), z, y), 1)
            self._sums = torch.linalg.qr(torch.cat((self._sums, rows)), mode="r").R
            return
        self._across[0] += z.sum(0)
        self._across[1:].addmm_(y.t(), z)
        self._answers += y.sum(0)
        if z.is_cuda:
            self._sums.addmm_(z.t(), z)
        else:
            # Half the work of a general product, which torch does not offer.
            from scipy.linalg.blas import dsyrk

            made = dsyrk(1.0, z.numpy().T, beta=1.0, c=self._sums.numpy().T, overwrite_c=True)
            self._sums = torch.from_numpy(made.T)

    def solve(self, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
        """The weights for each penalty: V (P, O, F) and c (P, O), float64.

        Raises:
            ValueError: there are no rows, a penalty is negative, or the system is singular.
        """
        if self.rows == 0:
            raise ValueError("ridge regression needs at least one row: is the washout too long?")
        if not penalties or min(penalties) < 0:
            raise ValueError(f"expected penalties >= 0, got {list(penalties)}")
        if not all(bool(own.isfinite().all()) for own in self._tensors().values()):
            raise ValueError("the states or the targets are not finite: the reservoir has diverged")
        return self._solve_qr(penalties) if self.solver == "qr" else self._solve_gram(penalties)

    def _solve_gram(self, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
        lower = self._sums.tril()
        mean, answer = self._across[0] / self.rows, self._answers / self.rows  # of z, of y
        centred = lower + lower.tril(-1).t() - self.rows * torch.outer(mean, mean)
        right = self._across[1:] - self.rows * torch.outer(answer, mean)  # (O, F)
        weights = []
        for penalty in penalties:
            system = centred.clone()
            system.diagonal().add_(penalty)
            factor, info = torch.linalg.cholesky_ex(system)
            if int(info):
                raise ValueError(
                    f"the ridge system of {len(mean)} features is singular with the penalty "
                    f"{penalty:g}: raise it, or choose the solver qr"
                )
            weights.append(torch.cholesky_solve(right.t(), factor).t())
        v = torch.stack(weights)  # (P, O, F)
        return v, answer - v @ mean

    def _solve_qr(self, penalties: Sequence[float]) -> tuple[Tensor, Tensor]:
        r, f = self._sums, self.num_features
        # The column of ones comes first, so what is below its row is the centred problem.
        u, s, vh = torch.linalg.svd(r[1 : 1 + f, 1 : 1 + f], full_matrices=False)
        right = u.t() @ r[1 : 1 + f, 1 + f :]  # (F, O)
        weights = []
        for penalty in penalties:
            if penalty == 0 and float(s[-1]) <= float(s[0]) * 1e-15 * f:
                raise ValueError(
                    f"the ridge system of {f} features is singular without a penalty: add one"
                )
            weights.append((vh.t() @ (right * (s / (s.square() + penalty)).unsqueeze(1))).t())
        v = torch.stack(weights)
        mean = r[0, 1:] / r[0, 0]
        return v, mean[f:] - v @ mean[:f]

    def state_dict(self) -> dict[str, Tensor | int]:
        """What a checkpoint must hold to go on."""
        return {**self._tensors(), "rows": self.rows}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        for name, own in self._tensors().items():
            saved = state[name]
            if not isinstance(saved, Tensor) or saved.shape != own.shape:
                raise ValueError("the checkpoint's ridge sums are of another size")
            setattr(self, f"_{name}", saved.clone())
        self.rows = int(state["rows"])

    def _tensors(self) -> dict[str, Tensor]:
        return {"sums": self._sums, "across": self._across, "answers": self._answers}
