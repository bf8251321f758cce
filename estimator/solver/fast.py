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
from .segments import segments

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
            return _certain(greedy(counts, alpha, beta), counts, alpha, beta)
        if alpha == 1:  # backlogs cost nothing: each interval is planned for itself
            pieces = segments(counts, alpha, beta * kernel.run_weights(counts))
            return _certain(pieces.at(pieces.ranks(0)), counts, alpha, beta)
        return self._lazily(counts[_order(counts)], alpha, beta, warm)

    def _lazily(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        from .lazy import by_programme, lazy  # they load scipy, which takes longer than a prediction from few runs does
        from .lp import LpSolver

        try:
            problem = Problem(counts, alpha, beta)
            found = lazy(problem, warm, _AIM)
            if not found.closed(kernel.TOLERANCE) and counts.size <= _LP_CELLS:
                by_programme(problem, found)
        except SolverError:
            if counts.size > _LP_CELLS:  # the whole programme would fill the memory
                raise
            return LpSolver().plan(counts, alpha, beta, None)
        n = len(counts)
        cost, bound = found.cost / n, min(found.bound, found.cost) / n
        return Plan(found.plan, cost, bound, kernel.gap(cost, bound), found.hint)


def _certain(plan: IntArray, counts: IntArray, alpha: float, beta: float) -> Plan:
    """A plan that needs no proof."""
    cost = kernel.objective(plan, counts, alpha, beta)
    return Plan(plan, cost, cost, 0.0)


def _order(counts: IntArray) -> list[int]:
    """Places of the runs in an order that depends on their counts only, so that rounding is the same too."""
    totals = counts.sum(axis=1).tolist()
    return sorted(range(len(counts)), key=lambda run: (totals[run], counts[run].tobytes()))
