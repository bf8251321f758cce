"""The curve of a run: how much memory it held over its time, in 32 bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from retz.model.job import Usage

POINTS = 32
"""Points of a curve: more would cost memory (a byte each, of half a million runs) and tell nothing that recurs."""
_MOST = 255

Curve = bytes
"""The most that was held in each 32nd of the time, in 255ths of the peak, rounded up. All zero: not known."""
NO_CURVE: Curve = bytes(POINTS)


def curve_of(usage: Usage | None, duration_s: float, peak_mb: float | None) -> Curve:
    """The curve of an attempt that lasted so long, against the peak of its whole run (MiB)."""
    if usage is None or not usage.series or usage.interval_s <= 0 or duration_s <= 0 or not peak_mb:
        return NO_CURVE
    each = duration_s / POINTS
    return bytes(
        _share(max(memory for _, memory in _between(usage, number * each, (number + 1) * each)), peak_mb)
        for number in range(POINTS)
    )


def _between(usage: Usage, start_s: float, end_s: float) -> Sequence[tuple[int, int]]:
    """The points of a series that lie in this time, at least the nearest: what was not measured was as before."""
    last = len(usage.series) - 1
    first = min(int(start_s / usage.interval_s), last)
    return usage.series[first : max(first + 1, min(-int(-end_s // usage.interval_s), last + 1))]


def _share(memory_mb: float, peak_mb: float) -> int:
    return min(_MOST, -int(-memory_mb * _MOST // peak_mb))


def joined(curves: Iterable[tuple[Curve, float, float]], longest_s: float, peak_mb: float) -> Curve:
    """The highest of some curves, each with its seconds and its peak (MiB), over ``longest_s`` and against a peak."""
    known = [each for each in curves if each[0] != NO_CURVE]
    if not known or not peak_mb or longest_s <= 0:
        return NO_CURVE
    if len(known) == 1 and known[0][1:] == (longest_s, peak_mb):
        return known[0][0]
    return bytes(
        _share(max(_held(*each, number * longest_s / POINTS, longest_s / POINTS) for each in known), peak_mb)
        for number in range(POINTS)
    )


def _held(curve: Curve, seconds: float, peak_mb: float, start_s: float, length_s: float) -> float:
    """The most that a curve of so many seconds says from ``start_s`` on, MiB; 0 after its end."""
    if seconds <= 0 or start_s >= seconds:
        return 0.0
    first = min(int(start_s * POINTS / seconds), POINTS - 1)
    end = max(first + 1, -int(-(start_s + length_s) * POINTS // seconds))
    return max(curve[first:end]) * peak_mb / _MOST


def most_between(curve: Curve, peak_mb: float, start: float, end: float) -> float:
    """The most that was held between two shares of a run's time (0 to 1, of which the first may be below), MiB."""
    first = min(max(0, int(start * POINTS)), POINTS - 1)
    return max(curve[first : max(first + 1, -int(-end * POINTS // 1))]) * peak_mb / _MOST
