"""The curve of a run in 32 bytes: never below what was measured, and close to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retz.model.job import Usage
from retz.server.learning.curves import NO_CURVE, POINTS, curve_of, joined, most_between

points = st.lists(st.tuples(st.integers(0, 800), st.integers(0, 10_000)), min_size=1, max_size=240)


def usage(*memory: int, interval_s: float = 1.0) -> Usage:
    return Usage(max_rss_mb=max(memory), interval_s=interval_s, series=tuple((100, mib) for mib in memory))


def shares(memory: bytes) -> list[int]:
    return [round(byte * 100 / 255) for byte in memory]


def test_a_curve_has_the_most_of_each_part() -> None:
    curve = curve_of(usage(*range(1, 65)), 64.0, 255.0)
    assert list(curve) == list(range(2, 65, 2))


def test_a_short_series_is_stretched_and_one_that_stops_early_goes_on() -> None:
    assert shares(curve_of(usage(50, 100), 2.0, 100.0)) == [50] * 16 + [100] * 16
    assert shares(curve_of(usage(50, 100), 4.0, 100.0)) == [50] * 8 + [100] * 24


@pytest.mark.parametrize(
    ("used", "seconds", "peak"),
    [(None, 9.0, 9.0), (Usage(max_rss_mb=5.0), 9.0, 5.0), (usage(5), 0.0, 5.0), (usage(5), 9.0, None),
     (usage(0), 9.0, 0.0), (usage(5, interval_s=0.0), 9.0, 5.0)],
)  # fmt: skip
def test_without_a_series_there_is_none(used: Usage | None, seconds: float, peak: float | None) -> None:
    assert curve_of(used, seconds, peak) == NO_CURVE


@given(points, st.floats(0.1, 100), st.floats(0.5, 2))
def test_it_is_never_below_the_series_and_never_above_its_peak(
    series: list[tuple[int, int]], interval_s: float, stretch: float
) -> None:
    peak, seconds = max(memory for _, memory in series) or 1, len(series) * interval_s * stretch
    curve = curve_of(Usage(interval_s=interval_s, series=tuple(series)), seconds, float(peak))
    for number, (_, memory) in enumerate(series):
        start, end = number * interval_s / seconds, (number + 1) * interval_s / seconds
        if end <= 1:
            assert most_between(curve, peak, start, end) >= min(memory, peak) * 0.999
    assert most_between(curve, peak, 0, 1) <= peak * 1.001


def test_of_several_jobs_of_a_run_the_highest_at_each_time_counts() -> None:
    long, short = curve_of(usage(10, 20), 2.0, 20.0), curve_of(usage(100), 1.0, 100.0)
    both = joined([(long, 2.0, 20.0), (short, 1.0, 100.0)], 2.0, 100.0)
    assert shares(both) == [100] * 16 + [20] * 16
    assert joined([(long, 2.0, 20.0), (NO_CURVE, 9.0, 500.0)], 2.0, 20.0) == long
    assert joined([(NO_CURVE, 9.0, 500.0)], 9.0, 500.0) == NO_CURVE == joined([], 0.0, 0.0)


@given(st.binary(min_size=POINTS, max_size=POINTS).filter(any), st.floats(0.1, 1e6), st.floats(1, 1e6))
def test_a_curve_stays_as_it_is_however_many_shorter_and_smaller_ones_are_joined(
    curve: bytes, seconds: float, peak: float
) -> None:
    """Of an array in a run every task is one more."""
    found = curve
    for _ in range(POINTS):
        found = joined([(found, seconds, peak), (bytes([1] * POINTS), seconds / 2, peak / 300)], seconds, peak)
    assert all(byte in (old, max(old, 1)) for byte, old in zip(found, curve, strict=True))


@given(points, st.floats(1, 1e6), points, st.floats(1, 1e6))
def test_joined_is_at_least_as_high_as_each(
    one: list[tuple[int, int]], one_s: float, other: list[tuple[int, int]], other_s: float
) -> None:
    runs = []
    for series, seconds in ((one, one_s), (other, other_s)):
        peak = float(max(memory for _, memory in series) or 1)
        used = Usage(interval_s=seconds / len(series), series=tuple(series))
        runs.append((curve_of(used, seconds, peak), seconds, peak))
    longest, highest = max(one_s, other_s), max(runs[0][2], runs[1][2])
    both = joined(runs, longest, highest)
    for curve, seconds, peak in runs:
        for number in range(POINTS):
            middle = (number + 0.5) / POINTS
            mine = most_between(curve, peak, middle, middle)
            at = middle * seconds / longest
            assert most_between(both, highest, at, at) >= mine * 0.999


@given(st.floats(-10, 10), st.floats(-10, 1e9))
def test_any_two_times_can_be_asked(start: float, end: float) -> None:
    assert 0 <= most_between(bytes(range(POINTS)), 255.0, start, end) <= POINTS
