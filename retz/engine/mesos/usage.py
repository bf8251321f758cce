"""What running tasks use, as their agents measure it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from retz.engine.series import Series
from retz.model.job import Usage

from .wire import Sample

INTERVAL_S = 10.0
POINTS = 80
"""Of a series at most. A cluster has 100 000 of them, which take about 120 MB."""
GAP_S = 86_400.0
"""No two samples of a task lie further apart; if they seem to, a clock was set."""
FRESH = 3
"""After so many intervals without a sample nobody knows what a task holds now."""


class _Use:
    """One task. ``cpu_s`` is the sum over all executors that it had, ``before`` that of those that are over."""

    __slots__ = ("at", "before", "counter", "elapsed", "heard", "peak_mb", "series")

    def __init__(self, at: float, elapsed: float, interval_s: float) -> None:
        self.at = at
        self.elapsed = elapsed
        self.heard = 0.0
        self.before = 0.0
        self.counter = 0.0
        self.peak_mb = 0.0
        self.series = Series(interval_s, POINTS)

    @property
    def cpu_s(self) -> float:
        return self.before + self.counter

    def add(self, sample: Sample) -> None:
        """Note a sample. Of the agents' clocks only the steps count, and only those that a clock can make."""
        step = sample.at - self.at
        self.at = sample.at
        if 0 < step <= GAP_S:
            self.elapsed += step
        if sample.cpu_s < self.counter:
            self.before += self.counter
        self.counter = sample.cpu_s
        self.peak_mb = max(self.peak_mb, sample.rss_mb)
        self.series.add(self.elapsed, self.cpu_s, sample.rss_mb)

    def usage(self, points: Sequence[tuple[int, int]]) -> Usage:
        return Usage(
            cpu_s=round(self.cpu_s, 4),
            max_rss_mb=round(self.peak_mb, 1),
            interval_s=self.series.interval if points else 0.0,
            series=tuple(points),
        )


class UsageBook:
    """Sums and series of all running tasks, in bounded memory.

    Args:
        interval_s: Seconds between two points of a series, at first.
        ticks: Seconds that never jump.
    """

    def __init__(self, interval_s: float = INTERVAL_S, ticks: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._ticks = ticks
        self._tasks: dict[str, _Use] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def apply(self, samples: Iterable[Sample], started: Callable[[str], float | None]) -> None:
        """Take in measurements.

        Args:
            started: When a task started, seconds since the epoch; None if it does not run: its sample is dropped.
        """
        for sample in samples:
            use = self._tasks.get(sample.task)
            if use is None:
                since = started(sample.task)
                if since is None:
                    continue
                age = sample.at - since
                use = _Use(sample.at, age if 0 < age < 365 * GAP_S else 0.0, self._interval_s)
                self._tasks[sample.task] = use
            use.add(sample)
            use.heard = self._ticks()

    def usage(self, task: str, *, series: bool = True) -> Usage | None:
        """What a task used so far; None if nobody measured it.

        Args:
            series: Whether with the series; if not, it has its latest point, and none if that is old.
        """
        use = self._tasks.get(task)
        if use is None:
            return None
        if series:
            return use.usage(use.series.points)
        fresh = self._ticks() - use.heard <= FRESH * self._interval_s
        return use.usage(use.series.latest if fresh else ())

    def end(self, task: str) -> Usage | None:
        """The same, for the last time: it is forgotten."""
        use = self._tasks.pop(task, None)
        if use is None:
            return None
        use.series.end(use.elapsed, use.cpu_s)
        return use.usage(use.series.points)
