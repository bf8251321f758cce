"""The optimisation problem that solvers share, without times, resources and units: a matrix of counts in, a plan out.

``counts[i, k]`` is what run ``i`` of ``n`` held in interval ``k`` of ``N``; a plan is one number per interval. What a
plan costs is the closed form of the linear programme in :mod:`estimator.solver.lp`; docs/estimator.md proves
what is used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SolverError
from ..skyline import FloatArray, IntArray

TOLERANCE = 1e-9
"""Relative distance from the optimum that a plan may have."""

MAX_TOTAL = 2**50
"""Largest sum of one run's counts: all sums stay exact in floating point."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Plan:
    """What one solve found.

    Attributes:
        counts: ``int64[N]``, the plan.
        objective: What it costs, see :func:`objective`.
        lower_bound: No plan costs less.
        gap: ``(objective - lower_bound) / objective``, 0 if that is 0 / 0.
        warm: Hints for the next solve of nearly the same counts; JSON-able.
    """

    counts: IntArray
    objective: float
    lower_bound: float
    gap: float
    warm: Mapping[str, Any] | None = None


def objective(x: npt.ArrayLike, counts: IntArray, alpha: float, beta: float) -> float:
    """What a plan costs; the smaller the better.

    The mean over the runs of: ``alpha`` times what was planned and not held, plus ``1 - alpha`` times the backlog that
    is left at the run's end if a deficit can be made up by any later surplus, plus ``beta`` times the part of the
    run's total that was not there when it was wanted. A run of zeros has no such part.

    Args:
        x: ``[N]``, not negative; fractions are allowed.
        counts: ``int64[n, N]``.
    """
    plan = np.asarray(x, dtype=np.float64)
    over = backlog = missing = 0.0
    for rows in row_chunks(counts):
        deficit = rows - plan
        backlog += float(np.maximum(suffix_sums(deficit).max(axis=1), 0.0).sum())
        over += float(np.maximum(-deficit, 0.0).sum())
        missing += float(np.maximum(deficit, 0.0).sum(axis=1) @ run_weights(rows))
    return float(alpha * over + (1 - alpha) * backlog + beta * missing) / len(counts)


def run_weights(counts: IntArray) -> FloatArray:
    """``1 / total`` of each run; 0 for a run of zeros, which can miss nothing."""
    totals = counts.sum(axis=1).astype(np.float64)
    return np.asarray(np.divide(1.0, totals, out=np.zeros(len(counts)), where=totals > 0))


def suffix_sums(values: FloatArray) -> FloatArray:
    """Sums from each position to the end, along the last axis."""
    return np.asarray(np.cumsum(values[..., ::-1], axis=-1)[..., ::-1])


def row_chunks(matrix: IntArray) -> Iterator[IntArray]:
    """The matrix in groups of rows small enough for temporary copies of them to cost nothing."""
    step = max(1, _CHUNK // max(1, matrix.shape[1]))
    for first in range(0, len(matrix), step):
        yield matrix[first : first + step]


def whole(x: FloatArray) -> IntArray:
    """A plan in whole numbers from one with fractions, as good if that was optimal: its suffix sums are rounded."""
    sums = np.floor(suffix_sums(x) + 0.5)
    return np.maximum(-np.diff(sums, append=0.0), 0.0).astype(np.int64)


def certified(
    x: FloatArray, counts: IntArray, alpha: float, beta: float, bound: float, warm: Mapping[str, Any] | None = None
) -> Plan:
    """The plan in whole numbers, with its true cost beside the bound that was proven."""
    plan = whole(x)
    cost = objective(plan, counts, alpha, beta)
    bound = min(max(bound, 0.0), cost)
    return Plan(plan, cost, bound, gap(cost, bound), warm)


def gap(cost: float, bound: float) -> float:
    """Relative distance of a cost from a lower bound."""
    return (cost - bound) / cost if cost > bound else 0.0


def check(counts: IntArray) -> None:
    """Refuse what is no matrix of counts.

    Raises:
        SolverError: it has no runs or no intervals, or a number is negative or too large.
    """
    if counts.ndim != 2 or 0 in counts.shape:
        raise SolverError(f"a solver needs at least one run and one interval, not a matrix of shape {counts.shape}")
    if counts.min() < 0:
        raise SolverError("a run held less than nothing: the history is damaged")
    if counts.sum(axis=1, dtype=np.float64).max() > MAX_TOTAL:
        raise SolverError("the amounts are too large to add up exactly; give resources in larger units")
