"""The path of a step: how long its past runs took and how much memory they held, and where a run leaves it. Pure.

A run leaves the path where it is above the 90th percentile of those before it by as much again as that is above their
median, and more where few are known: so that of runs that are like those before, hardly any is flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .past import PastRun

MIN_RUNS = 5
LAST_RUNS = 30
"""Older ones tell little of what is usual today."""
LEAST_RATIO, MOST_RATIO = 1.1, 10.0
FEW = 10.0
"""How much wider the band is for few runs. With this, 1-3 % of runs of a step that vary by 5-50 % are flagged."""
SLACK_S = 5.0
SLACK_MB = 32.0


class Bound(NamedTuple):
    """What is usual (the 90th percentile), what is too much, and from how many runs that is known."""

    usual: float
    most: float
    runs: int


class Path(NamedTuple):
    """The bounds of a step, None where too little is known."""

    seconds: Bound | None
    mem_mb: Bound | None


def path_of(runs: Sequence[PastRun]) -> Path:
    """The path of these runs, newest last.

    Where several jobs of a run are of the same step only the mean of their durations is known, which says nothing of
    one: such a step has no bound of time.
    """
    last = runs[-LAST_RUNS:]
    durations = [run.duration_s for run in last if run.outcome == "finished"]
    several = any(run.jobs > 1 for run in last)
    peaks = [run.peak_mb for run in last if run.peak_mb is not None and not run.partial]
    return Path(None if several else bound(durations, SLACK_S), bound(peaks, SLACK_MB))


def bound(values: Sequence[float], slack: float) -> Bound | None:
    """The bound of what is usual among these values; None if they are too few."""
    if len(values) < MIN_RUNS:
        return None
    ordered = sorted(values)
    usual, middle = _quantile(ordered, 0.9), _quantile(ordered, 0.5)
    ratio = min(max(LEAST_RATIO, usual / middle if middle > 0 else LEAST_RATIO), MOST_RATIO)
    most = max(usual * ratio ** (1 + FEW / len(ordered)), ordered[-1] * LEAST_RATIO, usual + slack)
    return Bound(usual, most, len(ordered))


def _quantile(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
