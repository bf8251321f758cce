"""Blocks of neighbouring intervals within which only the sum of the plan matters.

The cost of a block as a function of its sum takes the cheapest pieces of all its intervals first (an infimal
convolution). It is known to the master programme by tangents; each is named by its slope, and remembers of every
interval how many pieces are cheaper than that, so that a block can be split without looking at the pieces again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..skyline import FloatArray, IntArray
from .kernel import run_weights, suffix_sums
from .segments import Segments, segments

_NEIGHBOURS = 12
"""Tangents on either side of a block's sum that are never forgotten."""
_CHUNK = 1 << 16
_NEAR = 1e-11
"""Slopes closer than this part of the largest are one slope to the master programme."""


class Problem:
    """Counts with equal neighbouring intervals merged, and what is derived from them once.

    Attributes:
        counts: ``int64[n, M]``, neighbouring columns differ.
        original: The counts as they were.
        starts, lengths: ``int64[M]``: first interval of each column, and how many it stands for.
        nothing: Cost of planning nothing, but for the backlogs, times ``n``.
        scale: The largest sum of a run.
        sums: ``float64[n, M]``: what a run held from each column to the end.
        pieces, costs: See :mod:`estimator.solver.segments`.
    """

    def __init__(self, counts: IntArray, alpha: float, beta: float) -> None:
        changes = np.flatnonzero((counts[:, 1:] != counts[:, :-1]).any(axis=0)) + 1
        self.starts: IntArray = np.concatenate([np.zeros(1, dtype=np.int64), changes])
        self.lengths: IntArray = np.diff(self.starts, append=counts.shape[1])
        self.alpha, self.beta = alpha, beta
        self.original = counts
        self.weights = beta * run_weights(counts)
        self.counts = counts if len(self.starts) == counts.shape[1] else np.ascontiguousarray(counts[:, self.starts])
        self.sums = suffix_sums((self.counts * self.lengths).astype(np.float64))
        self.pieces: Segments = segments(self.counts, alpha, self.weights)
        self.costs: FloatArray = self.pieces.costs()
        self.nothing = float((self.counts @ self.lengths) @ self.weights)
        self.scale = max(1.0, float(self.sums[:, 0].max()))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of runs, number of columns."""
        return self.counts.shape[0], self.counts.shape[1]

    def own_cost(self, plan: FloatArray) -> float:
        """Over-allocation and missing part of a plan (``[M]``), times ``n``."""
        n, number = self.shape
        step = max(1, _CHUNK // number)
        over = missing = 0.0
        for first in range(0, n, step):
            surplus = plan - self.counts[first : first + step]
            over += float((np.maximum(surplus, 0.0) @ self.lengths).sum())
            np.minimum(surplus, 0.0, out=surplus)
            missing -= float((surplus @ self.lengths) @ self.weights[first : first + step])
        return self.alpha * over + missing

    def backlogs(self, plan: FloatArray, starts: IntArray) -> tuple[FloatArray, FloatArray]:
        """Backlog of each run under a plan, ``[n]``, and how far it falls behind at worst in each block, ``[n, b]``.

        Args:
            starts: First column of each block.
        """
        n, number = self.shape
        planned = suffix_sums(plan * self.lengths)
        step = max(1, _CHUNK // number)
        worst = np.empty((n, len(starts)))
        for first in range(0, n, step):
            rows = slice(first, first + step)
            np.maximum.reduceat(self.sums[rows] - planned, starts, axis=1, out=worst[rows])
        return np.maximum(worst.max(axis=1), 0.0), worst


@dataclass
class Block:
    """Columns ``start`` to ``end`` and ``m`` tangents in the order of their slopes.

    Attributes:
        slopes: ``int64[m]``, in the units of the pieces.
        ranks: ``int64[m, end - start]``: pieces of each column that are cheaper than the slope.
        amounts: ``float64[m]``: their sum, ascending.
        conjugates: ``float64[m]``: the tangent is ``slope * sum - conjugate``.
        idle: ``int64[m]``: for how many rounds the tangent has made no difference.
    """

    start: int
    end: int
    slopes: IntArray
    ranks: IntArray
    amounts: FloatArray
    conjugates: FloatArray
    idle: IntArray

    @classmethod
    def make(
        cls, problem: Problem, start: int, end: int, slopes: IntArray, ranks: IntArray, idle: IntArray | None = None
    ) -> Block:
        """A block with these tangents."""
        order = np.argsort(slopes, kind="stable")
        slopes, ranks = slopes[order], ranks[order]
        width = problem.pieces.levels.shape[1]
        lengths = problem.lengths[start:end].astype(np.float64)
        flat = ranks + np.arange(start, end) * width
        amounts = problem.pieces.levels.ravel()[flat] @ lengths
        costs = problem.costs.ravel()[flat] @ lengths
        conjugates = slopes * problem.pieces.unit * amounts - costs
        idle = np.zeros(len(slopes), dtype=np.int64) if idle is None else idle[order]
        return cls(start, end, slopes, ranks, amounts, conjugates, idle)

    def split(self, problem: Problem, positions: list[int]) -> list[Block]:
        """Cut before each of these columns; the parts know the same slopes."""
        edges = [self.start, *positions, self.end]
        return [
            Block.make(problem, a, b, self.slopes, self.ranks[:, a - self.start : b - self.start], self.idle)
            for a, b in pairwise(edges)
        ]

    def forget(self, amount: float, patience: int) -> None:
        """Forget tangents that were idle for so long; never the flattest, the steepest and those around ``amount``."""
        chosen = self.idle < patience
        chosen[[0, -1]] = True
        here = int(np.searchsorted(self.amounts, amount))
        chosen[max(0, here - _NEIGHBOURS) : here + _NEIGHBOURS] = True
        if chosen.all():
            return
        self.slopes, self.ranks = self.slopes[chosen], self.ranks[chosen]
        self.amounts, self.conjugates, self.idle = self.amounts[chosen], self.conjugates[chosen], self.idle[chosen]

    def fill(self, problem: Problem, amount: float, plan: FloatArray, reach: Sequence[int] = (1,)) -> Block:
        """Spend ``amount`` on the cheapest pieces, late ones first among equals; write the plan of these columns.

        Args:
            reach: How many pieces away from the last one taken, on either side, to look for more tangents.

        Returns:
            The block with tangents at the slope that was reached and at those.
        """
        above = int(np.searchsorted(self.amounts, amount, side="right"))
        if above == len(self.slopes):
            return self._overfill(problem, amount, plan)
        widened = 1 if len(reach) > 1 else 0  # what is looked for may lie beyond the next tangent
        below, beyond = above - 1 - widened, min(above + widened, len(self.slopes) - 1)
        columns, width = self.end - self.start, problem.pieces.levels.shape[1]
        low = self.ranks[below] if below >= 0 else np.zeros(columns, dtype=np.int64)
        spent = float(self.amounts[below]) if below >= 0 else 0.0
        base = np.arange(self.start, self.end) * width
        part = problem.pieces.levels.ravel()[base + low].astype(np.float64)
        column, rank, slope, length = _between(problem, base, low, self.ranks[beyond])
        ends = np.cumsum(length)
        last = min(int(np.searchsorted(ends, amount - spent)), len(ends) - 1)
        taken = length[: last + 1].copy()
        taken[-1] -= ends[last] - min(amount - spent, ends[last])
        part += np.bincount(column[: last + 1], taken, columns) / problem.lengths[self.start : self.end]
        plan[self.start : self.end] = part
        new = self._news(problem, _around(slope, last, reach))
        if not new:
            return self
        ranks = []
        for each in new:
            cheaper = slice(0, int(np.searchsorted(slope, each)))
            row = low.copy()
            row[column[cheaper]] = rank[cheaper] + 1  # of several pieces of a column the last one stays
            ranks.append(row)
        slopes = np.concatenate([self.slopes, new])
        order = np.argsort(slopes, kind="stable")
        # Pieces without length were left out above but are counted in ranks that were searched for.
        together = np.maximum.accumulate(np.vstack([self.ranks, ranks])[order], axis=0)
        idle = np.concatenate([self.idle, np.zeros(len(new), dtype=np.int64)])[order]
        return Block.make(problem, self.start, self.end, slopes[order], together, idle)

    def _overfill(self, problem: Problem, amount: float, plan: FloatArray) -> Block:
        """Spend more than the pieces below the last tangent, which are all; the rest goes to the last column."""
        plan[self.start : self.end] = problem.pieces.levels[self.start : self.end, -1]
        plan[self.end - 1] += max(0.0, amount - float(self.amounts[-1])) / problem.lengths[self.end - 1]
        return self

    def _news(self, problem: Problem, slopes: list[int]) -> list[int]:
        near = _NEAR * problem.pieces.top
        return [slope for slope in slopes if np.abs(self.slopes - slope).min() > near]


def _between(
    problem: Problem, base: IntArray, low: IntArray, high: IntArray
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    """The pieces from ``low`` to ``high`` in the order of their slopes, of the latest column first among equals.

    Returns:
        Column of the block, rank, slope and length of each.
    """
    width = problem.pieces.levels.shape[1]
    widths = high - low
    column = np.repeat(np.arange(len(widths)), widths)
    flat = np.arange(len(column)) + np.repeat(base + low - (np.cumsum(widths) - widths), widths)
    levels = problem.pieces.levels.ravel()
    length = levels[flat + 1] - levels[flat]
    some = np.flatnonzero(length)[::-1]
    slope = problem.pieces.slopes.ravel()[flat[some]]
    order = np.argsort(slope, kind="stable")
    some = some[order]
    column = column[some]
    lengths = problem.lengths[base // width]
    return column, flat[some] - base[column], slope[order], length[some] * lengths[column].astype(np.float64)


def _around(slopes: IntArray, place: int, reach: Sequence[int]) -> list[int]:
    """The slope at a place of ascending ones, and others so many different places below and above."""
    here = slopes[place]
    before, after = int(np.searchsorted(slopes, here)), int(np.searchsorted(slopes, here, side="right"))
    places = [before - far for far in reach if before >= far] + [after + far - 1 for far in reach]
    return list(dict.fromkeys([int(here), *(int(slopes[each]) for each in places if each < len(slopes))]))
