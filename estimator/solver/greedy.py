"""The exact method for few runs: where ``n · alpha <= 1 - alpha``, leaving a deficit never pays.

So some optimum leaves no run a backlog, and what remains is: the cheapest plan whose sum from each interval to the end
is at least the largest such sum of any run. Those demands are nested, and for nested demands taking always the
cheapest piece that is left, from the last interval back to the first, is optimal.
"""

from __future__ import annotations

import heapq

import numpy as np

from ..skyline import IntArray
from .kernel import run_weights
from .segments import Segments, segments

_EQUAL = 1e-12


def applies(runs: int, alpha: float) -> bool:
    """Whether the method is exact for so many runs."""
    return runs * alpha <= (1 - alpha) * (1 + _EQUAL)


def greedy(counts: IntArray, alpha: float, beta: float) -> IntArray:
    """The optimum without backlogs that is lexicographically smallest: late pieces first among equally cheap ones.

    Args:
        counts: ``int64[n, N]``. The order of the runs makes no difference.

    Returns:
        ``int64[N]``.
    """
    pieces = segments(counts, alpha, beta * run_weights(counts))
    classes = _classes(pieces, len(counts))
    taken = (classes < 0).sum(axis=1)  # whatever makes the plan cheaper is taken at once
    plan = pieces.at(taken)
    needed = np.cumsum(counts[:, ::-1], axis=1).max(axis=0)[::-1]
    missing = needed - np.cumsum(plan[::-1])[::-1]
    _raise(plan, missing, taken, pieces.levels, classes)
    return plan


def _raise(plan: IntArray, missing: IntArray, taken: IntArray, levels: IntArray, classes: IntArray) -> None:
    """Take pieces until nothing is missing; ``plan`` and ``taken`` change in place.

    Args:
        missing: ``int64[N]``: by how much the plan's sum from there on falls short at first; negative if it does not.
        taken: ``int64[N]``: pieces taken at first; of an interval they go in order.
    """
    heap: list[tuple[int, int]] = []
    added = 0
    endless = levels.shape[1] - 1
    for k in range(len(plan) - 1, -1, -1):
        heapq.heappush(heap, (int(classes[k, taken[k]]), -k))
        while (lacking := int(missing[k]) - added) > 0:
            column = -heap[0][1]
            rank = taken[column]
            room = lacking if rank == endless else int(levels[column, rank + 1] - plan[column])
            amount = min(room, lacking)
            plan[column] += amount
            added += amount
            if amount == room and rank < endless:
                taken[column] += 1
                heapq.heapreplace(heap, (int(classes[column, rank + 1]), -column))


def _classes(pieces: Segments, runs: int) -> IntArray:
    """``int64[N, n + 1]``: slopes by rank, below zero where they are; those equal but for rounding share one.

    Each of the weights in a slope is rounded by at most half a unit.
    """
    distinct, place = np.unique(pieces.slopes, return_inverse=True)
    ranks = np.cumsum(np.diff(distinct, prepend=distinct[0]) > runs, dtype=np.int64)
    below = int(np.searchsorted(distinct, -runs))
    first = ranks[below] if below < len(ranks) else ranks[-1] + 1
    return np.asarray((ranks - first)[place.reshape(pieces.slopes.shape)], dtype=np.int64)
