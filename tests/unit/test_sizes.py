"""From past runs to a size: what counts, what does not, and where it ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.sizing import Size
from retz.model.job import Sized
from retz.model.resources import Resources
from retz.server.learning.learner import fitted
from retz.server.learning.past import PastRun
from retz.server.learning.report import REPLAYED, mean_duration, replayed
from retz.server.learning.sizes import SLACK_MB, StepSize, cpus_for, peaks_of, step_size

ASKED = Resources(4, 2000, 7, 1, 2)
MOST = Resources(8, 8000)


def run(number: int = 1, peak: float | None = 100.0, **more: Any) -> PastRun:
    fields: dict[str, Any] = {
        "run": str(number), "job": number, "ended": float(number), "duration_s": 10.0, "peak_mb": peak,
        "asked_mb": 2000, "given_mb": 2000, "cpus_asked": 4, "cpu_s": 5.0, "outcome": "finished", "given_cpus": 4,
    }  # fmt: skip
    return PastRun(**{**fields, **more})


def found(limit: float, busy: float | None = 1.5) -> StepSize:
    return StepSize(5, Size(limit, limit), busy)


def test_what_was_cut_short_counts_only_if_it_is_the_highest() -> None:
    runs = [
        run(1, 80.0, partial=True),
        run(2, 100.0),
        run(3, 50.0, partial=True),
        run(4, None),
        run(5, 300.0, partial=True),
    ]
    assert peaks_of(runs) == [80.0, 100.0, 300.0]


@pytest.mark.parametrize(
    ("busy", "asked", "cpus"),
    [
        (None, 4, 4), (0.01, 4, 1), (1.05, 4, 1), (1.2, 4, 2), (5.3, 4, 6), (0.01, 0.5, 0.5), (0.71, 0.5, 0.8),
        (1.05, 1.5, 1.1), (0.3, 1.5, 1),
    ],
)  # fmt: skip
def test_cpus_are_whole_for_who_asks_for_whole_ones(busy: float | None, asked: float, cpus: float) -> None:
    assert cpus_for(busy, asked) == pytest.approx(cpus)


def test_the_run_that_kept_most_cpus_busy_decides() -> None:
    runs = [run(1, cpu_s=5.0), run(2, cpu_s=25.0), run(3, cpu_s=None), run(4, cpu_s=0.4, duration_s=0.1)]
    assert step_size(runs).busy == 2.5
    assert step_size([run(1, cpu_s=None)]).busy is None


def test_memory_that_was_always_the_same_gets_some_slack() -> None:
    runs = [run(number, 100.0) for number in range(50)]
    assert 100 + SLACK_MB <= step_size(runs).memory.limit < 110
    assert replayed(runs, 2)[-1].limit_mb == pytest.approx(step_size(runs[:-1]).memory.limit)


def test_who_used_all_of_a_smaller_size_gets_what_it_asked_for() -> None:
    assert step_size([run(1, cpu_s=9.5, given_cpus=1)]).busy == 4
    assert step_size([run(1, cpu_s=5.0, given_cpus=1)]).busy == 0.5
    assert step_size([run(1, cpu_s=39.0, given_cpus=4)]).busy == 3.9


def test_who_needed_one_cpu_of_four_keeps_it_busy_without_getting_four_again() -> None:
    as_asked = [run(1, cpu_s=9.5), run(2, cpu_s=9.6)]
    assert step_size([*as_asked, run(3, cpu_s=9.9, given_cpus=1)]).busy == 0.99
    assert step_size([*as_asked[:1], run(3, cpu_s=9.9, given_cpus=1)]).busy == 4


@pytest.mark.parametrize(
    ("limit", "floor", "given", "again"),
    [
        (499.2, 0, 500, 2000),  # rounded up; else what was asked for
        (499.2, 700, 700, 2000),
        (2500.0, 0, 2500, 5000),  # no less than was asked for: else twice as much
        (5000.0, 0, 5000, 8000),  # but no more than there is
        (9000.0, 0, 8000, 0),
        (1e-9, 0, 1, 2000),
    ],
)
def test_memory_between_floor_and_most(limit: float, floor: int, given: int, again: int) -> None:
    resources, sized = fitted(found(limit), ASKED, floor, MOST)
    assert resources == Resources(2, given, 7, 1, 2)
    assert sized == Sized(asked=ASKED, runs=5, mem=given, again_mem=again)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(1e-6, 1e15), st.one_of(st.none(), st.floats(0, 1e6)), st.integers(1, 10**9), st.floats(0.001, 1e4),
    st.integers(0, 10**6), st.integers(1, 10**9), st.floats(0.001, 1e4),
)  # fmt: skip
def test_a_size_is_always_possible(
    limit: float, busy: float | None, asked_mem: int, asked_cpus: float, floor: int, most_mem: int, most_cpus: float
) -> None:
    asked = Resources(asked_cpus, asked_mem)
    given, sized = fitted(found(limit, busy), asked, floor, Resources(most_cpus, most_mem))
    assert 1 <= given.mem <= most_mem and 0 < given.cpus <= most_cpus
    assert sized.again_mem == 0 or given.mem < sized.again_mem <= most_mem
    assert sized.mem == given.mem and sized.asked == asked


def test_past_runs_are_held_against_what_those_before_them_foretold() -> None:
    runs = [run(number, 100.0 + number % 3) for number in range(REPLAYED + 5)]
    last = replayed(runs, 2)
    assert [each.run.job for each in last] == list(range(5, REPLAYED + 5))
    assert all(each.limit_mb is not None and each.limit_mb > 100 for each in last)
    assert [each.limit_mb for each in replayed(runs[:3], 2)][:2] == [None, None]


def test_durations_are_those_of_runs_that_ended_well() -> None:
    assert mean_duration([run(1), run(2, duration_s=20.0), run(3, duration_s=99.0, outcome="failed")]) == 15.0
    assert mean_duration([run(1, outcome="oom")]) is None
