"""The usage of a running job over time, in a bounded number of points."""

from __future__ import annotations

MAX_POINTS = 240
"""A day of a busy job stays under 4 kB of JSON: 240 points of up to 14 characters."""


class Series:
    """Points ``(cpus in use x 100, peak MiB)`` at equal intervals from the start.

    When it is full, pairs are merged (mean of cpus, peak of memory) and the interval doubles.
    """

    __slots__ = ("_cpu", "_peak", "_start", "interval", "points")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.points: list[tuple[int, int]] = []
        self._start = 0.0  # of the open interval, seconds since the job's start
        self._cpu = 0.0  # processor seconds used until then
        self._peak = 0.0

    def add(self, elapsed: float, cpu_s: float, rss_mb: float) -> None:
        """Note the totals at ``elapsed`` seconds: processor seconds so far, memory now (MiB)."""
        self._peak = max(self._peak, rss_mb)
        length = elapsed - self._start
        if length < self.interval:
            return
        rate = max(0.0, cpu_s - self._cpu) / length
        while elapsed - self._start >= self.interval:
            self._close(rate)
        self._peak = rss_mb

    def end(self, elapsed: float, cpu_s: float) -> None:
        """Add what is left as a last point, unless the job was too short to have any."""
        length = elapsed - self._start
        if self.points and length > 0.1 * self.interval:
            self._close(max(0.0, cpu_s - self._cpu) / length)

    def _close(self, rate: float) -> None:
        self.points.append((round(rate * 100), round(self._peak)))
        self._start += self.interval
        self._cpu += rate * self.interval
        if len(self.points) >= MAX_POINTS:
            self._halve()

    def _halve(self) -> None:
        pairs = zip(self.points[::2], self.points[1::2], strict=True)
        self.points = [((a[0] + b[0] + 1) // 2, max(a[1], b[1])) for a, b in pairs]
        self.interval *= 2
