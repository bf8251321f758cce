"""Per-minute aggregates: gathering them, keeping them, reading them in steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retz.model.job import Job
from retz.model.resources import Resources
from retz.store.aggregates import MAX_HOLD_S, AggregatePoint, AggregateStore, MinuteCollector

MINUTE = 1_800_000_000  # a multiple of 60; 2027-01-15
TOTAL = Resources(cpus=8, mem=16_000)
JOB = Job(id=1, owner="ann", command="true", resources=Resources(cpus=1), submitted=0.0)
FAILED = Job(id=2, owner="ann", command="true", resources=Resources(cpus=1), submitted=0.0, state="FAILED")


def sample(
    collector: MinuteCollector, now: float, queued: int = 0, running: int = 0, used: float = 0.0
) -> list[AggregatePoint]:
    amount = Resources(cpus=used)
    return collector.sample(now, queued, running, TOTAL, amount, {"ann": amount} if used else {})


def test_a_minute_is_given_out_when_it_is_over_with_time_weighted_means() -> None:
    collector = MinuteCollector()
    assert sample(collector, MINUTE, queued=10, running=2, used=2.0) == []
    collector.submitted(JOB)
    collector.launched(JOB, 1.0)
    collector.ended(JOB)
    collector.ended(FAILED)
    assert sample(collector, MINUTE + 45, queued=2, running=6, used=4.0) == []
    (point,) = sample(collector, MINUTE + 61)
    assert (point.time, point.covered_s) == (MINUTE, 60.0)
    assert (point.queued, point.running) == pytest.approx((8.0, 3.0))
    assert (point.total, point.used, point.by_user) == (TOTAL, Resources(cpus=2.5), {"ann": Resources(cpus=2.5)})
    assert (point.submitted, point.started, point.ended, point.failed) == (1, 1, 2, 1)
    (following,) = sample(collector, MINUTE + 120)
    assert (following.time, following.started) == (MINUTE + 60, 0)
    assert following.queued == pytest.approx(2 / 60)


def test_first_minute_says_how_much_of_it_was_seen() -> None:
    collector = MinuteCollector()
    sample(collector, MINUTE + 40, queued=3)
    (point,) = sample(collector, MINUTE + 60)
    assert (point.queued, point.covered_s) == (3.0, 20.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_waiting_time_percentiles_are_within_five_per_cent(waits: list[float]) -> None:
    collector = MinuteCollector()
    sample(collector, MINUTE)
    for wait in waits:
        collector.launched(JOB, wait)
    (point,) = sample(collector, MINUTE + 60)
    ordered = sorted(waits)
    for found, part in ((point.wait_p50_s, 50), (point.wait_p90_s, 90)):
        true = ordered[-(-part * len(ordered) // 100) - 1]
        assert found == pytest.approx(true, rel=0.05, abs=0.001)


def test_negative_wait_counts_as_none() -> None:
    collector = MinuteCollector()
    sample(collector, MINUTE)
    collector.launched(JOB, -5.0)
    (point,) = sample(collector, MINUTE + 60)
    assert (point.started, point.wait_p50_s) == (1, 0.0)


def test_short_silence_is_filled_a_long_one_is_not() -> None:
    collector = MinuteCollector()
    sample(collector, MINUTE, queued=5)
    filled = sample(collector, MINUTE + MAX_HOLD_S)
    assert [(point.time, point.queued) for point in filled] == [(MINUTE, 5.0), (MINUTE + 60, 5.0)]
    sample(collector, MINUTE + 130, queued=7)
    jumped = sample(collector, MINUTE + 10_000, queued=1)
    assert [(point.time, point.covered_s) for point in jumped] == [(MINUTE + 120, 10.0)]
    (after,) = sample(collector, MINUTE + 10_020)
    assert (after.time, after.queued) == ((MINUTE + 10_000) // 60 * 60, 1.0)


def test_clock_set_back_gives_the_minute_out_and_starts_anew(tmp_path: Path) -> None:
    collector = MinuteCollector()
    sample(collector, MINUTE + 3600, queued=4)
    collector.ended(JOB)
    sample(collector, MINUTE + 3630, queued=4)
    back = sample(collector, MINUTE, queued=8)
    assert [(point.time, point.ended, point.covered_s) for point in back] == [(MINUTE + 3600, 1, 30.0)]
    (point,) = sample(collector, MINUTE + 60)
    assert (point.time, point.queued) == (MINUTE, 8.0)


def test_clock_set_back_inside_the_minute_counts_no_time_twice_backwards() -> None:
    collector = MinuteCollector()
    sample(collector, MINUTE + 10, queued=1)
    sample(collector, MINUTE + 30, queued=1)
    sample(collector, MINUTE + 20, queued=1)
    (point,) = sample(collector, MINUTE + 60)
    assert (point.queued, point.covered_s) == (1.0, 60.0)  # 20 s, then 40 s from where the clock was set to


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-500, 500), st.integers(0, 9)), max_size=40))
def test_no_event_is_lost_and_no_level_made_up_whatever_the_clock_does(steps: list[tuple[float, int]]) -> None:
    collector, now, points = MinuteCollector(), float(MINUTE), []
    for jump, queued in steps:
        now += jump
        points += sample(collector, now, queued=queued)
        collector.ended(JOB)
    points += sample(collector, now + 60)
    assert sum(point.ended for point in points) == len(steps)
    highest = max((queued for _, queued in steps), default=0)
    assert all(0 <= point.queued <= highest + 1e-9 for point in points)
    assert all(point.time % 60 == 0 and point.covered_s >= 0 for point in points)


def point(minute: int, **fields: object) -> AggregatePoint:
    return AggregatePoint(**{"time": MINUTE + 60 * minute, **fields})  # type: ignore[arg-type]


def test_minutes_come_back_as_they_were(tmp_path: Path) -> None:
    store = AggregateStore(tmp_path / "aggregates")
    points = [point(n, queued=n + 0.5, started=n + 1, wait_p50_s=1.5, used=Resources(cpus=0.5)) for n in range(5)]
    for one in points:
        store.append(one)
    assert AggregateStore(tmp_path / "aggregates").read(MINUTE, MINUTE + 300) == points
    assert store.read(MINUTE + 60, MINUTE + 180) == points[1:3]
    assert store.read(MINUTE - 600, MINUTE) == []


def test_steps_are_means_of_levels_sums_of_events_and_the_worst_p90(tmp_path: Path) -> None:
    store = AggregateStore(tmp_path)
    ann, bob = Resources(cpus=1, mem=100), Resources(cpus=2)
    store.append(
        point(0, queued=10, running=1, started=1, ended=2, wait_p50_s=4.0, wait_p90_s=9.0, by_user={"ann": ann})
    )
    store.append(
        point(1, queued=20, running=3, started=3, failed=1, wait_p50_s=8.0, wait_p90_s=8.5, by_user={"bob": bob})
    )
    store.append(point(5, queued=7))
    first, second = store.read(MINUTE, MINUTE + 600, 290)  # rounded up to 300 s
    assert (first.time, first.queued, first.running) == (MINUTE, 15.0, 2.0)
    assert (first.started, first.ended, first.failed, first.covered_s) == (4, 2, 1, 120.0)
    assert (first.wait_p50_s, first.wait_p90_s) == (7.0, 9.0)
    assert first.by_user == {"ann": Resources(cpus=0.5, mem=50), "bob": Resources(cpus=1.0)}
    assert (second.time, second.queued, second.wait_p50_s) == (MINUTE + 300, 7.0, None)


def test_two_parts_of_one_minute_are_one_point(tmp_path: Path) -> None:
    """A restart, or the clock set back."""
    store = AggregateStore(tmp_path)
    store.append(point(0, queued=10, ended=1, covered_s=45.0))
    store.append(point(0, queued=2, ended=1, covered_s=15.0))
    (found,) = store.read(MINUTE, MINUTE + 60)
    assert (found.queued, found.ended, found.covered_s) == (8.0, 2, 60.0)


def test_days_have_files_of_their_own_and_reading_spans_them(tmp_path: Path) -> None:
    store = AggregateStore(tmp_path)
    midnight = MINUTE // 86400 * 86400 + 86400
    for time in (midnight - 60, midnight, midnight + 86400):
        store.append(AggregatePoint(time=time, ended=1))
    assert len(list(tmp_path.iterdir())) == 3
    assert [found.ended for found in store.read(midnight - 60, midnight + 86401, 60)] == [1, 1, 1]
    assert [found.ended for found in store.read(midnight - 3600, midnight + 86401, 7 * 86400)] == [3]


def test_every_torn_tail_loses_one_minute_and_no_later_one(tmp_path: Path) -> None:
    whole = AggregateStore(tmp_path / "whole")
    whole.append(point(0, ended=1))
    whole.append(point(1, ended=2))
    (path,) = (tmp_path / "whole").iterdir()
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for cut in range(first, len(data) - 1):
        store = AggregateStore(tmp_path / str(cut))
        (tmp_path / str(cut) / path.name).write_bytes(data[:cut])
        store.append(point(2, ended=3))
        assert [found.ended for found in store.read(MINUTE, MINUTE + 600)] == [1, 3], cut


def test_expiry_deletes_days_that_were_over(tmp_path: Path) -> None:
    store = AggregateStore(tmp_path)
    midnight = MINUTE // 86400 * 86400 + 86400
    store.append(AggregatePoint(time=midnight - 60))
    store.append(AggregatePoint(time=midnight))
    (tmp_path / "notes.jsonl").write_text("mine")
    assert store.expire(midnight - 1) == 0
    assert store.expire(midnight) == 1
    assert store.expire(midnight + 86399) == 0
    assert [found.time for found in store.read(midnight - 600, midnight + 600)] == [midnight]
    assert (tmp_path / "notes.jsonl").exists()
