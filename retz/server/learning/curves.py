"""The curve of a run: how much memory it held over its time, in 32 bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, inf

from retz.model.job import Usage

POINTS = 32
"""Points of a curve: more would cost memory (a byte each, of half a million runs) and tell nothing that recurs."""
_MOST = 255

Curve = bytes
"""The most that was held in each 32nd of the time, in 255ths of the peak, rounded up. All zero: not known."""
NO_CURVE: Curve = bytes(POINTS)


def curve_of(usage: Usage | None, duration_s: float, peak_mb: float | None) -> Curve:
    """The curve of an attempt that lasted so long, against the peak of its whole run (MiB).

    What was not measured was as before. Takes 15 µs: every end of a pipeline's job pays for it on the server's loop.
    """
    if usage is None or not usage.series or usage.interval_s <= 0 or duration_s <= 0 or not peak_mb:
        return NO_CURVE
    held = _highest([memory for _, memory in usage.series], duration_s / usage.interval_s / POINTS)
    return bytes([min(_MOST, -int(-memory * _MOST // peak_mb)) for memory in held])


def _highest(values: Sequence[int], each: float) -> list[int]:
    """The highest of every ``each`` of some values, for all points; where there are no more, the last one."""
    last, start, found = len(values) - 1, 0, []
    for number in range(1, POINTS + 1):
        first, end = min(start, last), min(number * each, last + 1.0)
        stop = ceil(end)
        found.append(values[first] if stop <= first + 1 else max(values[first:stop]))
        start = int(end)
    return found


def joined(curves: Iterable[tuple[Curve, float, float]], longest_s: float, peak_mb: float) -> Curve:
    """The highest of some curves, each with its seconds and its peak (MiB), over ``longest_s`` and against a peak."""
    known = [each for each in curves if each[0] != NO_CURVE]
    if not known or not peak_mb or longest_s <= 0:
        return NO_CURVE
    shown = [_as_part(*each, longest_s, peak_mb) for each in known]
    return bytes(map(max, *shown) if len(shown) > 1 else shown[0])


def _as_part(curve: Curve, seconds: float, peak_mb: float, longest_s: float, most_mb: float) -> Sequence[int]:
    """A curve over a longer time, in which nothing was held after its end, and against a higher peak."""
    held: Sequence[int] = curve
    if seconds != longest_s:
        held = _highest([*curve, 0], longest_s / seconds if seconds > 0 else inf)
    if peak_mb == most_mb:
        return held
    return [min(_MOST, ceil(value * peak_mb / most_mb)) for value in held]


def most_between(curve: Curve, peak_mb: float, start: float, end: float) -> float:
    """The most that was held between two shares of a run's time (0 to 1, of which the first may be below), MiB."""
    first = min(max(0, int(start * POINTS)), POINTS - 1)
    return max(curve[first : max(first + 1, -int(-end * POINTS // 1))]) * peak_mb / _MOST
