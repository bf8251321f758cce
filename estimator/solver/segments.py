"""What an interval of a plan costs on its own, as pieces of constant slope; the raw material of the fast solver.

With ``n`` runs, the cost of planning ``x`` in interval ``k`` (over-allocation and missing part, times ``n``) is convex
and piecewise linear: it bends at the runs' counts, and each run passed makes it steeper by ``alpha`` plus the run's own
weight ``beta / total``. Slopes are kept as whole numbers of a tiny unit, so that a sum of weights does not depend on
the order of adding and equal slopes compare equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..skyline import FloatArray, IntArray

_SLOPE_BITS = 61
"""Slopes use so many bits: some 2e-19 of the largest, beyond double precision."""
_LEAST_EXPONENT = -1021
"""Smaller powers of two are not normal numbers: dividing by them overflows, or is dividing by zero."""


@dataclass(frozen=True)
class Segments:
    """The pieces of ``N`` cost functions of ``n`` runs; piece ``r`` of ``k`` leads from ``levels[k, r]`` upwards.

    Attributes:
        levels: ``int64[N, n + 1]``: 0, then the counts of the interval in ascending order.
        slopes: ``int64[N, n + 1]``: slopes of the pieces in units, ascending; the last one goes on for ever.
        unit: Cost per unit of slope.
    """

    levels: IntArray
    slopes: IntArray
    unit: float

    @property
    def top(self) -> int:
        """The slope above all runs, the same everywhere."""
        return int(self.slopes[0, -1])

    def ranks(self, threshold: int) -> IntArray:
        """``int64[N]``: how many pieces of each interval have a slope below a threshold up to ``top``."""
        return np.asarray(search(self.slopes, np.full((1, len(self.slopes)), threshold))[0])

    def at(self, ranks: IntArray) -> IntArray:
        """``int64[N]``: what is planned if so many pieces of each interval are taken."""
        return np.take_along_axis(self.levels, ranks[:, None], axis=1)[:, 0]

    def costs(self) -> FloatArray:
        """``float64[N, n + 1]``: the cost of the first pieces, above that of planning nothing."""
        pieces = np.diff(self.levels, axis=1) * (self.slopes[:, :-1] * self.unit)
        costs = np.zeros(self.levels.shape)
        np.cumsum(pieces, axis=1, out=costs[:, 1:])
        return costs


def segments(counts: IntArray, alpha: float, weights: FloatArray) -> Segments:
    """The pieces for ``counts`` (``int64[n, N]``) and the runs' weights (``[n]``), in O(n N log n)."""
    n, number = counts.shape
    bits = n.bit_length()
    packed = (counts.T << bits) | np.arange(n)  # sorting numbers is much faster than sorting places by numbers
    packed.sort(axis=1)
    unit = _unit(n * alpha + float(weights.sum()))
    steps = round(alpha / unit) + _whole(weights, unit)
    levels = np.zeros((number, n + 1), dtype=np.int64)
    np.right_shift(packed, bits, out=levels[:, 1:])
    packed &= (1 << bits) - 1
    slopes = np.empty((number, n + 1), dtype=np.int64)
    slopes[:, 0] = -int(_whole(weights, unit).sum())
    slopes[:, 1:] = steps[packed]
    np.cumsum(slopes, axis=1, out=slopes)
    return Segments(levels, slopes, unit)


def search(slopes: IntArray, thresholds: IntArray) -> IntArray:
    """How many slopes of each row are below its thresholds.

    Args:
        slopes: ``int64[N, n + 1]``, each row ascending.
        thresholds: ``int64[m, N]``, none above the last slope of its row.

    Returns:
        ``int64[m, N]``, at most ``n``.
    """
    number, width = slopes.shape
    flat = slopes.ravel()
    base = np.arange(number) * width
    low, high = np.zeros_like(thresholds), np.full_like(thresholds, width - 1)
    for _ in range((width - 1).bit_length()):
        middle = (low + high) >> 1
        below = flat[base + middle] < thresholds
        low = np.where(below, middle + 1, low)
        high = np.where(below, high, middle)
    return low


def _unit(largest: float) -> float:
    """A power of two of which ``largest`` is about 2^61, at least the smallest that divides without loss."""
    return math.ldexp(1.0, max(math.frexp(largest)[1] - _SLOPE_BITS, _LEAST_EXPONENT)) if largest > 0 else 1.0


def _whole(weights: FloatArray, unit: float) -> IntArray:
    """Weights in units; one that is not zero stays so."""
    return np.where(weights > 0, np.maximum(np.rint(weights / unit), 1), 0).astype(np.int64)
