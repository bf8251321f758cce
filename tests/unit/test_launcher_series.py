"""The series of a job's usage: bounded, and true to what was used."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from retz.engine.local.job import Job
from retz.engine.series import MAX_POINTS, Series


def test_a_week_stays_under_ten_kilobytes() -> None:
    series = Series(5.0)
    cpu = 0.0
    for step in range(1, 7 * 86400 // 5):
        cpu += 5.0 * 127.9
        series.add(step * 5.0, cpu, 1_999_999.0)
        assert len(series.points) < MAX_POINTS
    assert len(json.dumps(series.points)) < 10_000
    assert series.interval * len(series.points) <= 7 * 86400 < series.interval * (len(series.points) + 1)


def test_mean_of_cpu_and_peak_of_memory() -> None:
    series = Series(1.0)
    series.add(0.5, 0.5, 900.0)  # inside the first interval
    series.add(1.0, 1.0, 100.0)
    series.add(3.0, 2.0, 50.0)  # two intervals late: the mean over both
    assert series.points == [(100, 900), (50, 100), (50, 100)] or series.points == [(100, 900), (50, 100), (50, 50)]


def test_merging_keeps_peaks_and_totals() -> None:
    series = Series(1.0)
    for step in range(1, 4 * MAX_POINTS + 1):
        series.add(float(step), step * 0.5, 7.0 if step != 100 else 4000.0)
    assert series.interval == 8.0 or series.interval == 4.0
    assert max(mem for _, mem in series.points) == 4000
    total = sum(cpus for cpus, _ in series.points) / 100 * series.interval
    assert abs(total - len(series.points) * series.interval * 0.5) < 1e-6


def test_a_job_shorter_than_the_interval_has_no_points() -> None:
    series = Series(5.0)
    series.add(0.2, 0.1, 10.0)
    series.end(0.3, 0.2)
    assert series.points == []


def test_the_last_part_of_an_interval_counts() -> None:
    series = Series(5.0)
    series.add(5.0, 5.0, 10.0)
    series.end(7.5, 10.0)
    assert series.points == [(100, 10), (200, 10)]


@given(st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 400), st.floats(0, 1e6)), max_size=400))
def test_never_negative_never_too_long(steps: list[tuple[float, float, float]]) -> None:
    series, now, cpu = Series(5.0), 0.0, 0.0
    for length, used, rss in steps:
        now, cpu = now + length, cpu + used
        series.add(now, cpu, rss)
    series.end(now, cpu)
    assert len(series.points) <= MAX_POINTS
    assert all(cpus >= 0 and mem >= 0 for cpus, mem in series.points)
    assert series.interval * max(0, len(series.points) - 1) <= now + 1e-6


def test_usage_of_a_job_never_falls() -> None:
    job = Job("1.1", 10, "", started=0.0, born=100.0, interval_s=5.0)
    job.sample(105.0, 3.0, 50.0)
    job.sample(110.0, 1.0, 20.0)  # a child died unwaited: its share left the sum
    job.charge(0.5, 30 * 1024)
    job.over(0, 2.0, 10 * 1024, 111.0, 1000.0)
    assert job.usage() == [3.0, 50.0, 5.0, [(60, 50), (0, 50), (0, 20)]]
    assert job.usage(series=False) == [3.0, 50.0, 5.0, [(0, 20)]]
    assert job.final(9)[:8] == ["e", 9, "ended", "1.1", 1000.0, 0.0, 0, None]
