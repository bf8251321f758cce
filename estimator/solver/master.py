"""The master programme of the block method: few sums instead of a whole plan, few constraints instead of all.

Over the plan's sum ``X[b]`` from each block to the end, the cost of each block, and each run's backlog ``B[i]``:
minimise the block costs plus ``1 - alpha`` times the backlogs, where each block's cost lies above its tangents, and
``X[b] + B[i]`` is at least what run ``i`` held from block ``b`` on, for the chosen pairs (cuts). All times ``n``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from ..errors import SolverError
from ..skyline import FloatArray, IntArray
from .blocks import Block, Problem

_RANGES = (1e4, 1e2)
"""HiGHS is given sums up to this size, larger ones scaled down; and if it fails up to the next."""

_TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
"""The tightest that HiGHS takes: a bound from multipliers is as good as they are."""
_TIGHT_ROWS = 5_000
"""Programmes with more constraints often fail that way (status 4), after as long as a solve takes."""

_METHODS: tuple[tuple[str, dict[str, float]], ...] = (("highs-ds", _TIGHT), ("highs-ds", {}), ("highs-ipm", {}))


@dataclass(frozen=True)
class Cuts:
    """Pairs of a run and a column from which on what it held is to be covered.

    Attributes:
        runs, columns: ``int64[c]``; no pair twice, in the order of (column, run).
    """

    runs: IntArray
    columns: IntArray

    @classmethod
    def of(cls, runs: IntArray, columns: IntArray) -> Cuts:
        """The pairs, each once."""
        distinct = np.unique(np.column_stack([columns, runs]), axis=0)
        return cls(distinct[:, 1], distinct[:, 0])

    def plus(self, other: Cuts) -> Cuts:
        """Both."""
        return Cuts.of(np.concatenate([self.runs, other.runs]), np.concatenate([self.columns, other.columns]))


@dataclass(frozen=True)
class Solution:
    """An optimum of the master programme.

    Attributes:
        sums: ``float64[b]``: the plan's sum from each block to the end.
        backlogs: ``float64[n]``.
        multipliers: ``float64[c]``: what the demand of each cut costs, not negative.
        used: ``bool[t]``: the tangents that hold a block's cost up, in the order of blocks and slopes.
        value: The optimum, without the constant cost of planning nothing.
    """

    sums: FloatArray
    backlogs: FloatArray
    multipliers: FloatArray
    used: np.ndarray[tuple[int], np.dtype[np.bool_]]
    value: float


def solve(problem: Problem, blocks: Sequence[Block], cuts: Cuts) -> Solution:
    """Solve the master programme.

    Raises:
        SolverError: HiGHS fails with all its methods.
    """
    matrix, bounds = _constraints(problem, blocks, cuts)
    n, b = problem.shape[0], len(blocks)
    costs = np.concatenate([np.zeros(b), np.ones(b), np.full(n, 1 - problem.alpha)])
    least = np.concatenate([np.zeros(b), np.full(b, -np.inf), np.zeros(n)])
    result, scale = _minimise(costs, matrix, bounds, least, problem.scale)
    c = len(cuts.runs)
    tangents = len(bounds) - c - (b - 1)
    prices = -np.asarray(result.ineqlin.marginals, dtype=np.float64)
    return Solution(
        sums=result.x[:b] * scale,
        backlogs=result.x[2 * b :] * scale,
        multipliers=np.maximum(prices[len(bounds) - c :], 0.0),
        used=prices[:tangents] > 0,
        value=float(result.fun) * scale,
    )


def _constraints(problem: Problem, blocks: Sequence[Block], cuts: Cuts) -> tuple[sparse.csr_array, FloatArray]:
    """``matrix @ (X, costs, B) <= bounds``: tangents, sums that do not grow, cuts."""
    b = len(blocks)
    block = np.repeat(np.arange(b), [len(each.slopes) for each in blocks])
    slope = np.concatenate([each.slopes for each in blocks]) * problem.pieces.unit
    t, c = len(block), len(cuts.runs)
    inner = np.flatnonzero(block < b - 1)
    place = np.searchsorted([each.start for each in blocks], cuts.columns)
    rows = t + b - 1 + np.arange(c)
    entries = [
        (np.arange(t), block, slope),
        (inner, block[inner] + 1, -slope[inner]),
        (np.arange(t), b + block, np.full(t, -1.0)),
        (t + np.arange(b - 1), np.arange(b - 1), np.full(b - 1, -1.0)),
        (t + np.arange(b - 1), np.arange(1, b), np.ones(b - 1)),
        (rows, place, np.full(c, -1.0)),
        (rows, 2 * b + cuts.runs, np.full(c, -1.0)),
    ]
    row, column, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    shape = (t + b - 1 + c, 2 * b + problem.shape[0])
    bounds = np.concatenate(
        [*(each.conjugates for each in blocks), np.zeros(b - 1), -problem.sums[cuts.runs, cuts.columns]]
    )
    return sparse.csr_array((value, (row, column)), shape=shape), bounds


def _minimise(
    costs: FloatArray, matrix: sparse.csr_array, upper: FloatArray, least: FloatArray, largest: float
) -> tuple[Any, float]:
    """What HiGHS returns, and by how much the data were scaled down for it."""
    minimise: Callable[..., Any] = linprog  # its annotations know no variable for a method
    limits = np.column_stack([least, np.full(len(least), np.inf)])
    messages = []
    for allowed in _RANGES:
        scale = max(1.0, largest / allowed)
        for method, options in _METHODS[matrix.shape[0] > _TIGHT_ROWS :]:
            result = minimise(costs, A_ub=matrix, b_ub=upper / scale, bounds=limits, method=method, options=options)
            if result.status == 0:
                return result, scale
            messages.append(f"{method}: {result.message}")
    raise SolverError("the master programme could not be solved: " + "; ".join(messages))
