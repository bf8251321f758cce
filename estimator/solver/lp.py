"""The reference: Hadoop's linear programme, written down as it is and given to HiGHS.

Slow for large histories (its size is three times runs times intervals); :mod:`estimator.solver.fast` finds the same
optimum without writing it down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from ..errors import SolverError
from ..skyline import FloatArray, IntArray
from . import kernel
from .kernel import Plan
from .matrix import MatrixSolver

_TOLERANCE = 1e-10
"""The tightest that HiGHS takes: the weights of ``beta`` are tiny beside those of ``alpha``."""


class LpSolver(MatrixSolver):
    """Minimises over plans ``x`` and slack variables, all not negative, of ``n`` runs and ``N`` intervals:

    ``alpha/n · Σ over[i,k] + (1 - alpha)/n · Σ backlog[i,N-1] + beta/n · Σ missing[i,k] / total[i]`` where

    - ``over[i,k] >= x[k] - counts[i,k]``: planned, not held;
    - ``missing[i,k] >= counts[i,k] - x[k]``: held, not planned;
    - ``backlog[i,k] >= backlog[i,k-1] + counts[i,k] - x[k]``: work left behind, which any later surplus makes up for;
      only what is left at the end costs.
    """

    name: ClassVar[str] = "lp"
    time_limit: float | None = None
    """Seconds after which HiGHS gives up."""

    def plan(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        """See :meth:`MatrixSolver.plan`. Of several optima this is any one."""
        kernel.check(counts)
        x, value, _ = self.optimum(counts, alpha, beta)
        return kernel.certified(x, counts, alpha, beta, value / len(counts))

    def optimum(self, counts: IntArray, alpha: float, beta: float) -> tuple[FloatArray, float, FloatArray]:
        """An optimal plan ``[N]`` with fractions, its cost times ``n``, and the prices of the backlogs, ``[n, N]``.

        Raises:
            SolverError: HiGHS fails.
        """
        n, number = counts.shape
        scale = max(1.0, float(counts.max()))
        costs = np.concatenate([np.zeros(number), _costs(counts, alpha, beta)])
        matrix, bounds = _constraints(counts / scale)
        x, value, prices = self._minimise(costs, matrix, bounds)
        return x[:number] * scale, value * scale, prices[-n * number :].reshape(n, number)

    def _minimise(
        self, costs: FloatArray, matrix: sparse.csr_array, bounds: FloatArray
    ) -> tuple[FloatArray, float, FloatArray]:
        """Solution, value and prices of the rows; by the dual simplex, and if that fails by the interior point method.

        Raises:
            SolverError: neither succeeds; with what HiGHS says.
        """
        minimise: Callable[..., Any] = linprog  # its annotations know no variable for a method
        options = {
            "primal_feasibility_tolerance": _TOLERANCE,
            "dual_feasibility_tolerance": _TOLERANCE,
        }
        if self.time_limit is not None:
            options["time_limit"] = self.time_limit
        messages = []
        for method in ("highs-ds", "highs-ipm"):
            result = minimise(costs, A_ub=matrix, b_ub=bounds, method=method, options=options)
            if result.status == 0:
                prices = -np.asarray(result.ineqlin.marginals, dtype=np.float64)
                return np.asarray(result.x, dtype=np.float64), float(result.fun), prices
            messages.append(f"{method}: {result.message}")
            if result.status == 1:  # out of time: another method would take as long again
                break
        raise SolverError("the linear programme could not be solved: " + "; ".join(messages))


def _costs(counts: IntArray, alpha: float, beta: float) -> FloatArray:
    """Costs of over, missing and backlog, each ``[n · N]``, times ``n``: far above HiGHS' tolerances."""
    n, number = counts.shape
    over = np.full((n, number), alpha)
    missing = np.broadcast_to(beta * kernel.run_weights(counts)[:, None], (n, number))
    backlog = np.zeros((n, number))
    backlog[:, -1] = 1 - alpha
    return np.concatenate([over.ravel(), missing.ravel(), backlog.ravel()])


def _constraints(counts: FloatArray) -> tuple[sparse.csr_array, FloatArray]:
    """``matrix @ (x, over, missing, backlog) <= bounds``."""
    n, number = counts.shape
    ones = sparse.eye_array(n * number)
    plan = sparse.vstack([sparse.eye_array(number)] * n)  # x[k] in the row of (i, k)
    before = sparse.kron(sparse.eye_array(n), sparse.eye_array(number, k=-1))  # backlog[i, k - 1]
    matrix = sparse.block_array(
        [
            [plan, -ones, None, None],
            [-plan, None, -ones, None],
            [-plan, None, None, before - ones],
        ],
        format="csr",
    )
    held = counts.ravel()
    return matrix, np.concatenate([held, -held, -held])
