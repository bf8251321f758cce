"""The default solver: the optimum of the linear programme without writing the programme down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import SolverError
from ..skyline import IntArray
from . import kernel
from .blocks import Problem
from .greedy import applies, greedy
from .kernel import Plan
from .matrix import MatrixSolver

_AIM = 1e-10
_LP_CELLS = 20_000
"""So many counts the linear programme solves in seconds, should the block method ever not get to the end."""


class FastSolver(MatrixSolver):
    """Exact; see docs/estimator.md. The order of the runs makes no difference."""

    name: ClassVar[str] = "fast"

    def plan(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        """See :meth:`MatrixSolver.plan`. For few runs it is the lexicographically smallest optimum."""
        kernel.check(counts)
        if applies(len(counts), alpha):
            plan = greedy(counts, alpha, beta)
            cost = kernel.objective(plan, counts, alpha, beta)
            return Plan(plan, cost, cost, 0.0)
        return self._lazily(counts, alpha, beta, warm)

    def _lazily(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        from .lazy import lazy  # they load scipy, which takes longer than a prediction from few runs does
        from .lp import LpSolver

        n = len(counts)
        try:
            found = lazy(Problem(counts[_order(counts)], alpha, beta), warm, _AIM)
        except SolverError:
            return LpSolver().plan(counts, alpha, beta, None)
        cost, bound = found.cost / n, min(found.bound, found.cost) / n
        plan = Plan(found.plan, cost, bound, kernel.gap(cost, bound), found.hint)
        if plan.gap <= kernel.TOLERANCE or counts.size > _LP_CELLS:
            return plan
        other = LpSolver().plan(counts, alpha, beta, None)
        cost = min(plan.objective, other.objective)
        # The bound stays the proven one: that of HiGHS is only as good as its tolerances, which are absolute.
        better = other.counts if other.objective < plan.objective else plan.counts
        return Plan(better, cost, bound, kernel.gap(cost, bound), plan.warm)


def _order(counts: IntArray) -> list[int]:
    """Places of the runs in an order that depends on their counts only, so that rounding is the same too."""
    totals = counts.sum(axis=1).tolist()
    return sorted(range(len(counts)), key=lambda run: (totals[run], counts[run].tobytes()))
