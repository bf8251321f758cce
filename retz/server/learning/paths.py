"""The path of a step: how long its past runs took and how much memory they held when, and where a run leaves it. Pure.

A run leaves the path where it is above the 90th percentile of those before it by as much again as that is above their
median, and more where few are known: so that of runs that are like those before, hardly any is flagged.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from .curves import NO_CURVE, POINTS, most_between
from .past import PastRun

MIN_RUNS = 5
LAST_RUNS = 30
"""Older ones tell little of what is usual today."""
LEAST_RATIO, MOST_RATIO = 1.1, 10.0
FEW, FEW_CURVES = 10.0, 16.0
"""How much wider a bound is for few runs, of one value or at each of many times."""
SLACK_S = 5.0
SLACK_MB = 32.0
EARLY, LATE = 0.75, 1.35
"""Stages come so much earlier or later than the durations of whole runs tell."""
STEPS = 64
"""Distinct times of a run at which the band is computed."""


class Bound(NamedTuple):
    """What is usual (the 90th percentile), what is too much, and from how many runs that is known."""

    usual: float
    most: float
    runs: int


class Band:
    """The memory that past runs held over their time: what is usual after so many seconds.

    How far a run is nobody knows while it runs: it may be as quick as the quick ones were, or as slow as the slow
    ones. So it is compared with the most that each of the others held anywhere between these two; a stage that only
    comes early is none that holds too much.

    Args:
        runs: Those with a curve; at least one.
    """

    def __init__(self, runs: Sequence[PastRun]) -> None:
        # Of the runs only this is kept: as they are they take 19 kB, and ten thousand steps may be watched.
        self._curves = b"".join([run.curve for run in runs])
        self._peaks = array("d", [run.peak_mb or 0.0 for run in runs])
        durations = sorted(run.longest_s for run in runs)
        self._quick, self._slow = _quantile(durations, 0.1), _quantile(durations, 0.9)
        self._step = max(self._slow / STEPS, 1e-3)
        self._known: dict[int, Bound | None] = {}

    def at(self, seconds: float) -> Bound | None:
        """The bound in MiB for a run that began so long ago; None when those before it had ended by then."""
        number = int(seconds / self._step)
        if number not in self._known:
            self._known[number] = self._bound(number * self._step, (number + 1) * self._step)
        return self._known[number]

    def _bound(self, start_s: float, end_s: float) -> Bound | None:
        first = EARLY * (start_s - SLACK_S) / max(self._slow, 1e-3)
        if first >= 1:
            return None
        last = LATE * (end_s + SLACK_S) / max(self._quick, 1e-3)
        return bound([self._most(number, first, last) for number in range(len(self._peaks))], SLACK_MB, FEW_CURVES)

    def _most(self, number: int, first: float, last: float) -> float:
        curve = self._curves[number * POINTS : (number + 1) * POINTS]
        return most_between(curve, self._peaks[number], first, last)


class Path(NamedTuple):
    """The bounds of a step, None where too little is known.

    Attributes:
        seconds: How long a run takes.
        mem_mb: The most that it holds.
        band: What it holds when.
    """

    seconds: Bound | None
    mem_mb: Bound | None
    band: Band | None = None


def path_of(runs: Sequence[PastRun]) -> Path:
    """The path of these runs, newest last. Of several jobs of one run that are of the same step the longest counts."""
    last = runs[-LAST_RUNS:]
    durations = [run.longest_s for run in last if run.outcome == "finished"]
    peaks = [run.peak_mb for run in last if run.peak_mb is not None and not run.partial]
    curves = [run for run in last if run.curve != NO_CURVE and not run.partial]
    return Path(bound(durations, SLACK_S), bound(peaks, SLACK_MB), Band(curves) if len(curves) >= MIN_RUNS else None)


def bound(values: Sequence[float], slack: float, few: float = FEW) -> Bound | None:
    """The bound of what is usual among these values; None if they are too few."""
    if len(values) < MIN_RUNS:
        return None
    ordered = sorted(values)
    usual, middle = _quantile(ordered, 0.9), _quantile(ordered, 0.5)
    ratio = min(max(LEAST_RATIO, usual / middle if middle > 0 else LEAST_RATIO), MOST_RATIO)
    most = max(usual * ratio ** (1 + few / len(ordered)), ordered[-1] * LEAST_RATIO, usual + slack)
    return Bound(usual, most, len(ordered))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
