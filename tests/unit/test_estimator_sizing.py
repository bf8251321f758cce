"""The rule for limits: what it foretells, what it covers, and what it does not pay for."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.sizing import MOST, SEEN, limit, size

PEAKS = st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=70)


def noisy(level: float, count: int, spread: float = 0.03, seed: int = 0) -> list[float]:
    chance = random.Random(seed)
    return [level * math.exp(chance.gauss(0, spread)) for _ in range(count)]


def misses(peaks: list[float], start: int = 3) -> int:
    return sum(peaks[place] > limit(peaks[:place]) for place in range(start, len(peaks)))


def test_nothing_was_ever_held() -> None:
    assert limit([]) == limit([0.0, 0.0]) == 0.0
    assert limit([0.0, 4.0]) == 4.0


def test_what_always_was_the_same_stays_so() -> None:
    assert limit([700.0] * 10) == 700.0


@pytest.mark.parametrize("spread", [0.02, 0.05, 0.1])
def test_noise_is_covered_by_a_few_spreads(spread: float) -> None:
    found = size([*noisy(1000, 49, spread), 1000.0])
    assert found.expected == pytest.approx(1000, rel=2 * spread)
    assert 1 + 2 * spread < found.limit / 1000 < 1 + 5 * spread
    assert (found.growth, found.stage, found.outliers) == (0, 50, 0)


def test_few_runs_get_more_room_than_many() -> None:
    few, many = (sum(limit(noisy(1000, count, 0.05, seed)) for seed in range(30)) for count in (3, 40))
    assert few > many


def test_steady_growth_is_never_missed_again() -> None:
    peaks = [1000 * 1.05**day for day in range(30)]
    assert misses(peaks) == 0
    assert limit(peaks) < 1.1 * 1000 * 1.05**30
    assert size(peaks).growth == pytest.approx(0.05)


def test_a_shrinking_need_is_followed() -> None:
    peaks = [1000 * 0.97**day for day in range(30)]
    assert limit(peaks) < 1.1 * peaks[-1]


def test_an_outlier_is_paid_for_once() -> None:
    before = noisy(1000, 30)
    assert limit([*before, 4000.0]) >= 4000
    after = size([*before, 4000.0, 1010.0])
    assert after.limit < 1300
    assert after.outliers == 1


@pytest.mark.parametrize(("runs", "outliers", "covered"), [
    (16, [6], True), (17, [6], False), (33, [6, 17], True), (34, [6, 17], False), (50, [6, 17, 40], True),
])  # fmt: skip
def test_outliers_that_come_often_are_covered(runs: int, outliers: list[int], covered: bool) -> None:
    peaks = [peak * (3 if place in outliers else 1) for place, peak in enumerate(noisy(1000, runs))]
    found = size(peaks)
    assert (found.limit > 3000) is covered
    assert (found.outliers, found.covered) == ((0, len(outliers)) if covered else (len(outliers), 0))


def test_outliers_grow_with_the_rest() -> None:
    peaks = [1000 * 1.02**run * (3 if run in (20, 29, 41) else 1) for run in range(45)]
    assert limit(peaks) > 3000 * 1.02**45
    assert limit([peak * 0.96**run for run, peak in enumerate(peaks)]) < 3000


def recurring(period: int, high: int, factor: float, runs: int = 45) -> list[float]:
    noise = noisy(1000, runs, 0.02, seed=3)
    return [peak * (factor if run % period == high else 1) for run, peak in enumerate(noise)]


@given(period=st.integers(2, 11), phase=st.floats(0, 0.99), factor=st.floats(1.3, 4))
def test_what_recurs_is_expected_when_it_is_due(period: int, phase: float, factor: float) -> None:
    high = int(phase * period)
    found = size(recurring(period, high, factor))
    assert found.period == period
    due = [(45 + later) % period == high for later in (0, 1)]
    assert found.expected == pytest.approx(1000 * (factor if due[0] else 1), rel=0.1)
    assert found.limit == pytest.approx(1000 * (factor if any(due) else 1), rel=0.25)
    assert found.limit > found.expected


def test_a_weekly_peak_kills_once() -> None:
    peaks = recurring(7, 6, 2.5, runs=80)
    assert [day for day in range(6, 80, 7) if peaks[day] > limit(peaks[:day])] == [6]


def test_a_weekend_is_two_runs_of_seven() -> None:
    peaks = [peak * (2 if day % 7 >= 5 else 1) for day, peak in enumerate(noisy(1000, 80))]
    assert misses(peaks) <= 2
    assert size(peaks[:45]).period == 7
    assert limit(peaks[:43]) < 1300 and limit(peaks[:46]) > 2000


def test_a_run_left_out_of_a_week_kills_nothing() -> None:
    peaks = recurring(7, 6, 2.5, runs=49)
    early = [*peaks[:45], *peaks[46:]]
    assert misses(early, start=40) == 0


def test_no_period_is_seen_in_noise_or_in_three_cycles() -> None:
    assert not any(size(noisy(1000, 50, 0.1, seed)).period for seed in range(30))
    assert size(recurring(7, 6, 2.5, runs=27)).period == 0
    assert size(recurring(7, 6, 1.05)).period == 0


def test_a_new_stage_grows_as_the_one_before() -> None:
    peaks = [1000 * 1.03**run * (2 if run >= 30 else 1) for run in range(40)]
    assert misses(peaks) == 1
    assert size(peaks[:32]).growth == pytest.approx(0.03)
    assert size([*peaks[:30], *noisy(3000, 20)]).growth == 0


def test_a_small_rise_kills_once_too() -> None:
    before = [*noisy(1000, 39, 0.05), 1000.0]
    risen = 1.1 * limit(before)
    assert risen < before[-1] * math.exp(5 * math.log1p(size(before).spread))
    assert misses([*before, *[risen] * 10], start=40) == 1
    assert size([*before, risen, risen]).stage == 2


def test_what_is_measured_gets_some_slack() -> None:
    assert limit([700.0] * 50) == 700
    assert 704 <= limit([700.0] * 50, 4.0) < 720
    assert limit([50.0] * 50, 4.0) == 54
    assert limit([], 4.0) == 0
    assert limit([*noisy(100, 40, 0.01), 150.0], 20.0) == 170


@given(PEAKS, st.floats(1e-3, 1e3))
def test_slack_only_adds(peaks: list[float], slack: float) -> None:
    plain, found = size(peaks), size(peaks, slack)
    assert found.limit >= min(found.expected, max(peaks)) + slack
    assert found.limit >= plain.limit
    assert found.period or found.limit >= peaks[-1] + slack


def test_a_new_stage_counts_from_its_second_run() -> None:
    peaks = [*noisy(1000, 30), *noisy(1800, 20, seed=1)]
    assert misses(peaks) == 1
    assert size(peaks[:32]).stage == 2
    assert size(peaks).expected == pytest.approx(1800, rel=0.05)


def test_a_stage_below_is_believed_after_three_runs() -> None:
    peaks = [*noisy(1000, 30), *noisy(500, 3, seed=1)]
    assert limit(peaks[:-1]) > 1000
    assert limit(peaks) < 620


def test_only_the_last_runs_count() -> None:
    recent = noisy(1000, SEEN)
    assert limit([9e9] * 20 + recent) == limit(recent)


@settings(max_examples=100, deadline=None)
@given(PEAKS)
def test_between_the_last_peak_and_twice_the_largest(peaks: list[float]) -> None:
    found = size(peaks)
    assert 0 < found.limit <= MOST * max(peaks) * (1 + 1e-9)
    assert found.period or peaks[-1] <= found.limit
    assert math.isfinite(found.expected) and found.spread >= 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**6).map(float), min_size=1, max_size=30), st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**40])
)
def test_the_unit_does_not_matter(peaks: list[float], unit: float) -> None:
    assert limit([unit * peak for peak in peaks]) == pytest.approx(unit * limit(peaks), rel=1e-6)
