"""Solvers that plan from counts: everything about them that is not the optimisation itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..model import History, Prediction
from ..skyline import IntArray, Skyline, ordered
from .base import Solver, SolverSettings
from .demand import Demand, Demands, demands
from .kernel import Plan


class MatrixSolver(Solver):
    """Makes counts of a history, has each problem planned, and makes a prediction of the plans."""

    optimises: bool = True
    """Whether ``Plan.objective`` and ``Plan.gap`` mean something: baselines say no."""

    @abstractmethod
    def plan(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        """Plan one problem.

        Args:
            counts: ``int64[n, N]``, not negative, runs in the order of their adding; at least one of each.
            warm: ``Plan.warm`` of an earlier solve, perhaps of other counts; not to be trusted.

        Raises:
            SolverError: the solver failed.
        """

    def solve(
        self, pipeline: str, history: History, settings: SolverSettings, *, warm: Mapping[str, Any] | None = None
    ) -> Prediction:
        """See :meth:`Solver.solve`."""
        found = demands(history, settings)
        plans = [self.plan(each.counts, settings.alpha, settings.beta, _hint(warm, each)) for each in found.problems]
        prediction = self._prediction(pipeline, found, plans, settings)
        if not settings.confidence:
            return prediction
        from .confidence import confidence

        return replace(prediction, confidence=confidence(self, history, settings, prediction))

    def _prediction(self, pipeline: str, found: Demands, plans: Sequence[Plan], settings: SolverSettings) -> Prediction:
        cost, bound = sum(plan.objective for plan in plans), sum(plan.lower_bound for plan in plans)
        hints = {_key(each): plan.warm for each, plan in zip(found.problems, plans, strict=True) if plan.warm}
        return Prediction(
            pipeline=pipeline,
            skyline=_skyline(found, plans, settings.interval),
            solver=self.name,
            kind=settings.kind,
            settings=settings.fingerprint(self.name),
            runs=found.runs,
            ignored=found.ignored,
            objective=cost if self.optimises else None,
            gap=((cost - bound) / cost if cost > 0 else 0.0) if self.optimises else None,
            warm=hints or None,
        )


def _skyline(found: Demands, plans: Sequence[Plan], interval: int) -> Skyline:
    """The plans in amounts of resources, over the intervals."""
    columns = {
        name: np.round(plan.counts * each.unit[name], 6)
        for each, plan in zip(found.problems, plans, strict=True)
        for name in each.resources
    }
    names = ordered(columns)
    nothing = np.zeros(len(plans[0].counts))
    rows = np.column_stack([columns.get(name, nothing) for name in names])
    return Skyline.sampled(rows, interval, names)


def _key(demand: Demand) -> str:
    """Names a problem within the hints of a prediction; a problem in other units is another one."""
    return ",".join(f"{name}={demand.unit[name]:g}" for name in demand.resources)


def _hint(warm: Mapping[str, Any] | None, demand: Demand) -> Mapping[str, Any] | None:
    hint = warm.get(_key(demand)) if isinstance(warm, Mapping) else None
    return hint if isinstance(hint, Mapping) else None
