"""What people do without a model: plans to hold the others against, and good enough for some pipelines.

They minimise nothing, so their predictions report neither objective nor gap. They ignore alpha and beta.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ..skyline import IntArray
from .kernel import Plan, objective
from .matrix import MatrixSolver
from .quantiles import quantile


class Baseline(MatrixSolver):
    """A solver whose plan is a simple function of the counts."""

    optimises = False

    @abstractmethod
    def expect(self, counts: IntArray) -> IntArray:
        """The plan, ``int64[N]``, of ``counts``, ``int64[n, N]``, runs in the order of their adding."""

    def plan(self, counts: IntArray, alpha: float, beta: float, warm: Mapping[str, Any] | None) -> Plan:
        """See :class:`MatrixSolver`. What the plan costs is the linear programme's closed form, to compare by."""
        expected = self.expect(counts)
        cost = objective(expected, counts, alpha, beta)
        return Plan(expected, objective=cost, lower_bound=0.0, gap=1.0 if cost > 0 else 0.0)


class LastRunSolver(Baseline):
    """The same as last time."""

    name = "last"

    def expect(self, counts: IntArray) -> IntArray:
        """See :class:`Baseline`."""
        last: IntArray = counts[-1]
        return last


class MaxSolver(Baseline):
    """The most that any run held in each interval."""

    name = "max"

    def expect(self, counts: IntArray) -> IntArray:
        """See :class:`Baseline`."""
        most: IntArray = counts.max(axis=0)
        return most


class MeanOfTwoSolver(Baseline):
    """The mean of the last two runs in each interval, rounded up; of a single run, that run."""

    name = "mean2"

    def expect(self, counts: IntArray) -> IntArray:
        """See :class:`Baseline`."""
        newest = counts[-2:]
        mean: IntArray = -(-newest.sum(axis=0) // len(newest))
        return mean


class PercentileSolver(Baseline):
    """What 95 % of the runs did not exceed in each interval: an amount that a run held; the most of up to 20 runs."""

    name = "p95"
    percent = 95

    def expect(self, counts: IntArray) -> IntArray:
        """See :class:`Baseline`."""
        return quantile(counts, self.percent)
