"""The usage of a running job over time, in a bounded number of points."""

from __future__ import annotations

from array import array

MAX_POINTS = 240
"""A day of a busy job stays under 4 kB of JSON: 240 points of up to 14 characters."""
_LARGEST = 2**32 - 1


class Series:
    """Points ``(cpus in use x 100, peak MiB)`` at equal intervals from the start.

    When it is full, pairs are merged (mean of cpus, peak of memory) and the interval doubles.

    Args:
        most: So many points at most, an even number; each takes 8 bytes.
    """

    __slots__ = ("_cpu", "_most", "_peak", "_start", "_values", "interval")

    def __init__(self, interval: float, most: int = MAX_POINTS) -> None:
        self.interval = interval
        self._most = most
        self._values = array("I")  # cpus and memory in turn
        self._start = 0.0  # of the open interval, seconds since the job's start
        self._cpu = 0.0  # processor seconds used until then
        self._peak = 0.0

    @property
    def points(self) -> list[tuple[int, int]]:
        """The points, oldest first."""
        return list(zip(self._values[::2], self._values[1::2], strict=True))

    @property
    def latest(self) -> list[tuple[int, int]]:
        """The last of them, if there is one."""
        return [(self._values[-2], self._values[-1])] if self._values else []

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
        if self._values and length > 0.1 * self.interval:
            self._close(max(0.0, cpu_s - self._cpu) / length)

    def _close(self, rate: float) -> None:
        self._values.append(min(_LARGEST, round(rate * 100)))
        self._values.append(min(_LARGEST, round(self._peak)))
        self._start += self.interval
        self._cpu += rate * self.interval
        if len(self._values) >= 2 * self._most:
            self._halve()

    def _halve(self) -> None:
        points = self.points
        pairs = zip(points[::2], points[1::2], strict=True)
        self._values = array("I", (value for a, b in pairs for value in ((a[0] + b[0] + 1) // 2, max(a[1], b[1]))))
        self.interval *= 2
