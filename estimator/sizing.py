"""How much to ask for: a limit for the next run from the peaks of the last ones, after which it is killed.

Pure Python, because a queue's server asks it at every submit. The mathematics is in docs/estimator.md, "How peak
finds a limit". In short: what recurs every so many runs is taken out; the next peak is foretold from the present
*stage* of the history (its level, or its trend if it has one); the limit lies so many spreads above that as the cost
of a kill is worth, since a run that is killed is paid for twice; and peaks that could not be foretold are covered
where they come often.
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
_FEW = 3.0
"""With k peaks foretold their spread is known so badly that 3/k spreads more are needed (Student's t, about)."""
_PRIOR = 0.05
"""The spread expected before anything is known, weighing as much as one peak."""
_SURPRISE, _LEAST_SURPRISE = 5.0, math.log(1.125)
"""A peak so many spreads off what was foretold, or by an eighth if that is more, is no noise."""
_UP, _DOWN = 2, 3
"""So many peaks in a row above the limit, or surprisingly low, are a new stage. A missed fall is only waste."""
_OFTEN = 0.06
"""Surprises in such a share of the runs are too many to be killed each time: one in 16 runs, two in 33, three in 50."""
_TREND_WORTH = 4.0
_ROUNDING = 1e-9
"""Ties are not to be decided by it: the same history in another unit has the same limit."""
_TREND_FROM = 4
_CYCLES, _COMPARED = 3, 12
"""A period is seen where the last three cycles (and twelve runs) were each like the one before ..."""
_PERIODIC = 4.0
"""... so many times as much (in variance) as each run was like the run before."""


class Size(NamedTuple):
    """A limit, and the reasons for it.

    Attributes:
        limit: What to ask for; 0 if nothing was ever held.
        expected: The peak foretold for the next run.
        spread: How far peaks are from what was foretold, relative to them: 0.05 is 5 %.
        growth: By how much the peaks of this stage grow per run, relative to them.
        stage: Of how many runs the present stage is.
        outliers: Runs of this stage that were a surprise, and are above the limit.
        covered: Known runs that were a surprise, but come so often that the limit is above them.
        period: After how many runs peaks recur; 0 if that is not evident.
    """

    limit: float
    expected: float
    spread: float = 0.0
    growth: float = 0.0
    stage: int = 0
    outliers: int = 0
    covered: int = 0
    period: int = 0


class _Fit(NamedTuple):
    next: float
    growth: float
    off: float
    """How far the peaks are from the line, in total."""


def limit(peaks: Sequence[float], slack: float = 0.0) -> float:
    """The limit for the run after these; not rounded. See :func:`size`."""
    return size(peaks, slack).limit


def size(peaks: Sequence[float], slack: float = 0.0) -> Size:
    """The limit for the run after these, oldest first; in their unit, not rounded.

    Peaks of 0 are runs that did not hold the resource: they are left out. The limit is never below the last peak,
    except where peaks recur and neither of the next two is due to be as high.

    Args:
        slack: By how much measured peaks may differ though they never did: the limit is so much above what is
            foretold, and above the last peak, at least. 0 for what is counted, such as containers: what always was the
            same then stays the same.
    """
    held = [peak for peak in peaks[-SEEN:] if peak > 0]
    if not held or (min(held) == max(held) and not slack):
        return Size(held[0], held[0], stage=len(held)) if held else Size(0.0, 0.0)
    logs = [math.log(peak) for peak in held]
    period = _period(logs)
    found = _recurring(logs, period) if period else _size(logs, len(logs))
    least = found.expected if period else max(found.expected, held[-1])
    most = max(held)
    return found._replace(limit=max(min(found.limit, MOST * most), min(least, most) + slack))


def _recurring(logs: Sequence[float], period: int) -> Size:
    """For peaks with a period: the same once it is taken out. What it is like is known from as few runs as cycles."""
    season = _season(logs, period)
    found = _size([log - season[(place - len(logs)) % period] for place, log in enumerate(logs)], len(logs) // period)
    due = math.exp(max(season[:2]))  # where a run is left out, the one after it comes early
    return found._replace(limit=found.limit * due, expected=found.expected * math.exp(season[0]), period=period)


def _size(logs: Sequence[float], known: int) -> Size:
    """For peaks without a period. Their spread is known as if from so many runs, or from fewer."""
    past = _Past(logs)
    fit, spread = past.foretold(), past.spread()
    high = max(fit.next + _spreads(spread, min(past.known, known)) * spread * past.doubt(), logs[-1])
    if past.surprises > 0:  # an outlier, or the first run of a new stage: one limit is cheaper than a second kill
        high = max(high, logs[-1] + _LEAST_SPREADS * spread)
    often = _often(past, fit, spread, len(logs))
    high = max([high, *(log + _LEAST_SPREADS * spread for log in often)])
    started = len(logs) - len(past.stage)
    return Size(
        limit=math.exp(high),
        expected=math.exp(fit.next),
        spread=math.expm1(spread),
        growth=math.expm1(fit.growth),
        stage=len(past.stage),
        outliers=sum(place >= started and log > high for place, log in past.outliers.items()),
        covered=len(often),
    )


def _often(past: _Past, fit: _Fit, spread: float, runs: int) -> list[float]:
    """The outliers of so many runs if they come often, else nothing. With a rising level they rise too."""
    grown = [log + max(0.0, fit.growth) * (runs - place) for place, log in past.outliers.items()]
    far = [log for log in grown if log - fit.next > _SURPRISE * spread]
    return far if len(far) >= _OFTEN * runs else []


class _Past:
    """The peaks as they came, as logarithms: each foretold from those before it.

    Attributes:
        stage: The peaks of the present stage.
        growth: Per run, in the stage before; None in the first.
        outliers: Peaks that came as a surprise from below, by place; also the first ones of new stages.
        surprises: How many of the last peaks in a row were above their limit, or surprisingly low if negative.
        known: Of how many peaks the spread is known, counting what was expected before as one.
    """

    def __init__(self, logs: Sequence[float]) -> None:
        self.stage: list[float] = [logs[0]]
        self.growth: float | None = None
        self.outliers: dict[int, float] = {}
        self.surprises = 0
        self.known = 1
        self._squares = _PRIOR * _PRIOR
        self._grew = 0.0
        for place in range(1, len(logs)):
            self._take(place, logs[place])

    def foretold(self) -> _Fit:
        """The next peak."""
        return _fitted(self.stage, self.growth or 0.0)

    def spread(self) -> float:
        """Of the peaks that were no surprises, around what was foretold."""
        return math.sqrt(self._squares / self.known)

    def doubt(self) -> float:
        """How much further a median of few runs may be off; the first stage's spread has that in it."""
        return 1.0 if self.growth is None else math.sqrt(1 + math.pi / 2 / min(len(self.stage), FITTED))

    def _take(self, place: int, peak: float) -> None:
        fit, spread = self.foretold(), self.spread()
        miss = peak - fit.next
        above = miss > _spreads(spread, self.known) * spread * (1 + _ROUNDING)
        self.stage.append(peak)
        if not self.surprises:
            self._grew = fit.growth
        if abs(miss) > max(_SURPRISE * spread, _LEAST_SURPRISE) * (1 + _ROUNDING):
            self._count(1 if miss > 0 else -1)
            if miss > 0:
                self.outliers[place] = peak
            return
        self._squares += miss * miss
        self.known += 1
        self._count(1 if above else 0)

    def _count(self, sign: int) -> None:
        """One more peak: above its limit (1), surprisingly low (-1), or as foretold."""
        self.surprises = self.surprises + sign if self.surprises * sign > 0 else sign
        if self.surprises in (_UP, -_DOWN):
            self.stage = self.stage[-abs(self.surprises) :]
            self.growth = self._grew
            self.surprises = 0


def _spreads(spread: float, known: int) -> float:
    """How many spreads above the expected peak cost least, but no fewer than keep kills below 2 %.

    The expected cost of a limit z spreads s up, for normally distributed peaks, is least where s = K * density(z).
    """
    cheapest = math.sqrt(2 * max(0.0, math.log(_KILL / (spread * math.sqrt(2 * math.pi)))))
    return max(_LEAST_SPREADS, cheapest) + _FEW / known


def _fitted(stage: Sequence[float], growth: float) -> _Fit:
    """What comes after the last peaks of a stage: their median, or their trend if it explains them much better.

    Medians throughout: one outlier moves nothing. ``growth`` is that of the stage before: it goes on until the level
    alone explains the peaks as well.
    """
    last = stage[-FITTED:]
    count = len(last)
    if count < _TREND_FROM:
        return _along(last, growth)
    best = _along(last, 0.0)
    for slope, worth in ((growth, 0.0), (_slope(last), _TREND_WORTH / count)):
        if slope:
            fit = _along(last, slope)
            if fit.off * (1 + worth) < best.off * (1 - _ROUNDING):
                best = fit
    return best


def _slope(last: Sequence[float]) -> float:
    """That of peaks half their number apart."""
    pairs = len(last) // 2
    apart = len(last) - pairs
    return median([last[apart + place] - last[place] for place in range(pairs)]) / apart


def _along(last: Sequence[float], slope: float) -> _Fit:
    """A line of that slope through the peaks."""
    flat = [peak - slope * place for place, peak in enumerate(last)] if slope else last
    start = median(flat)
    return _Fit(start + slope * len(last), slope, sum([abs(peak - start) for peak in flat]))


def _period(logs: Sequence[float]) -> int:
    """After how many runs the peaks recur; 0 if that is not evident."""
    if max(logs) - min(logs) < _LEAST_SURPRISE:
        return 0
    for period in range(2, len(logs) // (_CYCLES + 1) + 1):
        compared = max(_CYCLES * period, _COMPARED)
        if len(logs) < compared + period:
            continue
        far = _changes(logs, period, compared)
        near = _changes(logs, 1, compared)
        # The least that counts is one run in each cycle that is higher by an eighth.
        if near * period >= 2 * _LEAST_SURPRISE**2 and near > _PERIODIC * far * (1 + _ROUNDING):
            return period
    return 0


def _changes(logs: Sequence[float], apart: int, compared: int) -> float:
    """Variance of the differences of the last peaks to those so many runs before; a trend does not add to it."""
    start = len(logs) - compared
    changes = [logs[place] - logs[place - apart] for place in range(start, len(logs))]
    mean = sum(changes) / compared
    return sum(change * change for change in changes) / compared - mean * mean


def _season(logs: Sequence[float], period: int) -> list[float]:
    """By how much each run of a cycle differs from the level of the cycle that ends with it; the next run first."""
    found: list[list[float]] = [[] for _ in range(period)]
    for place in range(period - 1, len(logs)):
        level = median(logs[place - period + 1 : place + 1])
        found[(place - len(logs)) % period].append(logs[place] - level)
    return [median(each) for each in found]
