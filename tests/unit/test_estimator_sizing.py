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
    found = size(noisy(1000, 50, spread))
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


def test_outliers_that_come_often_are_covered() -> None:
    weekly = [peak * (3 if day % 7 == 6 else 1) for day, peak in enumerate(noisy(1000, 45))]
    assert limit(weekly) > 2800
    assert size(weekly).outliers == 0


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
    assert peaks[-1] <= found.limit <= MOST * max(peaks) * (1 + 1e-9)
    assert math.isfinite(found.expected) and found.spread >= 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 10**6).map(float), min_size=1, max_size=30), st.sampled_from([2.0**-20, 0.5, 8.0, 2.0**40])
)
def test_the_unit_does_not_matter(peaks: list[float], unit: float) -> None:
    assert limit([unit * peak for peak in peaks]) == pytest.approx(unit * limit(peaks), rel=1e-6)
