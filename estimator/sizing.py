"""How much to ask for: a limit for the next run from the peaks of the last ones, after which it is killed.

Pure Python, because a queue's server asks it at every submit. The mathematics is in docs/estimator.md, "Limits". In
short: the next peak is foretold from the present *stage* of the history (its level, or its trend if it has one), and
the limit lies so many spreads above that as the cost of a kill is worth: a run that is killed is paid for twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

SEEN = 50
"""Older peaks say nothing about the next one."""
FITTED = 20
"""Level and trend are those of so many of the last runs at most."""
MOST = 2.0
"""A limit never is more than so many times the largest peak: nothing in the past could justify it."""

_KILL = 2.5
"""What a killed run costs, in its own need: what it held in vain, and the generous request of its second try."""
_LEAST_SPREADS = 2.05
"""So far above what is expected lie 2 % of normally distributed peaks."""
_FEW = 4.0
"""With k peaks foretold their spread is known so badly that 4/k spreads more are needed (Student's t, about)."""
_PRIOR = 0.05
"""The spread expected before anything is known, weighing as much as one peak."""
_SURPRISE, _LEAST_SURPRISE = 5.0, math.log(1.125)
"""A peak so many spreads off what was foretold, and by an eighth at least, is no noise."""
_UP, _DOWN = 2, 3
"""So many surprises in a row are a new stage. A missed rise is a kill, a missed fall only waste."""
_OFTEN = 3
"""So many outliers among the peaks of a stage happen too often to be killed each time."""
_TREND_WORTH = 4.0
_ROUNDING = 1e-9
"""Ties are not to be decided by it: the same history in another unit has the same limit."""
_TREND_FROM = 4


class Size(NamedTuple):
    """A limit, and the reasons for it.

    Attributes:
        limit: What to ask for; 0 if nothing was ever held.
        expected: The peak foretold for the next run.
        spread: How far peaks are from what was foretold, relative to them: 0.05 is 5 %.
        growth: By how much the peaks of this stage grow per run, relative to them.
        stage: Of how many runs the present stage is.
        outliers: Runs of this stage that were a surprise, and are above the limit.
    """

    limit: float
    expected: float
    spread: float = 0.0
    growth: float = 0.0
    stage: int = 0
    outliers: int = 0


class _Fit(NamedTuple):
    next: float
    growth: float


def limit(peaks: Sequence[float]) -> float:
    """The limit for the run after these; not rounded. See :func:`size`."""
    return size(peaks).limit


def size(peaks: Sequence[float]) -> Size:
    """The limit for the run after these, oldest first; in their unit, not rounded.

    Peaks of 0 are runs that did not hold the resource: they are left out. What always was the same stays the same.
    The limit is never below the last peak.
    """
    held = [peak for peak in peaks[-SEEN:] if peak > 0]
    if not held or min(held) == max(held):
        return Size(held[0], held[0], stage=len(held)) if held else Size(0.0, 0.0)
    logs = [math.log(peak) for peak in held]
    past = _Past(logs)
    spread = past.spread()
    fit = _fitted(past.stage)
    high = max(fit.next + _spreads(spread, len(past.misses) + 1) * spread, logs[-1])
    if past.surprises > 0:  # an outlier, or the first run of a new stage: one limit is cheaper than a second kill
        high = max(high, logs[-1] + _LEAST_SPREADS * spread)
    if len(past.outliers) >= _OFTEN:
        high = max(high, *past.outliers)
    high = min(high, max(logs) + math.log(MOST))
    return Size(
        limit=max(math.exp(high), held[-1]),
        expected=math.exp(fit.next),
        spread=math.expm1(spread),
        growth=math.expm1(fit.growth),
        stage=len(past.stage),
        outliers=sum(outlier > high for outlier in past.outliers),
    )


class _Past:
    """The peaks as they came, as logarithms: each foretold from those before it.

    Attributes:
        stage: The peaks of the present stage.
        misses: By how much those that were no surprises missed what was foretold.
        outliers: Peaks of this stage that came as a surprise from below.
        surprises: How many of the last peaks were surprises in a row: above what was foretold, or below if negative.
    """

    def __init__(self, logs: Sequence[float]) -> None:
        self.stage: list[float] = [logs[0]]
        self.misses: list[float] = []
        self.outliers: list[float] = []
        self.surprises = 0
        for peak in logs[1:]:
            self._take(peak)

    def _take(self, peak: float) -> None:
        miss = peak - _fitted(self.stage).next
        self.stage.append(peak)
        if abs(miss) <= max(_SURPRISE * self.spread(), _LEAST_SURPRISE) * (1 + _ROUNDING):
            self.misses.append(miss)
            self.surprises = 0
            return
        sign = 1 if miss > 0 else -1
        self.surprises = self.surprises + sign if self.surprises * sign > 0 else sign
        if self.surprises in (_UP, -_DOWN):
            self.stage = self.stage[-abs(self.surprises) :]
            self.outliers = []
            self.surprises = 0
        elif miss > 0:
            self.outliers.append(peak)

    def spread(self) -> float:
        last = self.misses[-SEEN:]
        return math.sqrt((sum(miss * miss for miss in last) + _PRIOR * _PRIOR) / (len(last) + 1))


def _spreads(spread: float, known: int) -> float:
    """How many spreads above the expected peak cost least, but no fewer than keep kills below 2 %.

    The expected cost of a limit z spreads s up, for normally distributed peaks, is least where s = K * density(z).
    """
    cheapest = math.sqrt(2 * max(0.0, math.log(_KILL / (spread * math.sqrt(2 * math.pi)))))
    return max(_LEAST_SPREADS, cheapest) + _FEW / known


def _fitted(stage: Sequence[float]) -> _Fit:
    """What comes after the last peaks of a stage: their median, or their trend if it explains them much better.

    Medians throughout: one outlier moves nothing. The slope is that of peaks half the stage apart.
    """
    last = stage[-FITTED:]
    count = len(last)
    level = median(last)
    if count < _TREND_FROM:
        return _Fit(level, 0.0)
    pairs = count // 2
    growth = median((last[count - pairs + place] - last[place]) / (count - pairs) for place in range(pairs))
    start = median(peak - growth * place for place, peak in enumerate(last))
    off_trend = sum(abs(peak - growth * place - start) for place, peak in enumerate(last))
    off_level = sum(abs(peak - level) for peak in last)
    if off_trend * (1 + _TREND_WORTH / count) < off_level * (1 - _ROUNDING):
        return _Fit(start + growth * count, growth)
    return _Fit(level, 0.0)
