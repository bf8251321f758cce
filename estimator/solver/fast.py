"""The default solver: the optimum of the linear programme without writing the programme down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..skyline import IntArray
from . import kernel
from .greedy import applies, greedy
from .kernel import Plan
from .lp import LpSolver
from .matrix import MatrixSolver


class FastSolver(MatrixSolver):
    """Exact; see docs/estimator-proofs.md. The order of the runs makes no difference."""

    name: ClassVar[str] = "fast"

    def plan(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        """See :meth:`MatrixSolver.plan`. For few runs it is the lexicographically smallest optimum."""
        kernel.check(counts)
        if applies(len(counts), alpha):
            plan = greedy(counts, alpha, beta)
            cost = kernel.objective(plan, counts, alpha, beta)
            return Plan(plan, cost, cost, 0.0)
        return LpSolver().plan(counts, alpha, beta, None)
