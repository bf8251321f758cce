"""From attempts and measurements to the skyline of a run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.recording import Span, Usage, run_skyline
from estimator.skyline import Skyline

EPOCH = 1_700_000_000_000


def span(start: int, end: int, **amounts: float) -> Span:
    return Span(EPOCH + start, EPOCH + end, amounts)


def test_one_job() -> None:
    record = run_skyline("run", [span(500, 10_500, memory=2048, vcores=2, gpus=1)])
    assert (record.job_id, record.submitted, record.finished) == ("run", EPOCH + 500, EPOCH + 10_500)
    assert record.skyline == Skyline.interval(0, 10, {"memory": 2048, "vcores": 2, "gpus": 1})
    assert record.container == {"memory": 2048.0, "vcores": 2.0, "gpus": 1.0}
    assert record.used is None
    assert record.input_size == 0.0


def test_short_jobs_one_after_the_other_count_once() -> None:
    jobs = [span(200 * k, 200 * (k + 1), memory=100, vcores=1) for k in range(5)]
    assert run_skyline("run", jobs).skyline == Skyline.interval(0, 1, {"memory": 100, "vcores": 1})


def test_jobs_side_by_side_are_added_up() -> None:
    record = run_skyline("run", [span(2000, 5000, memory=100, vcores=1), span(0, 3500, memory=300, vcores=0.5)])
    assert record.skyline == Skyline.of(
        {
            0: {"memory": 300, "vcores": 0.5},
            2: {"memory": 400, "vcores": 1.5},
            4: {"memory": 100, "vcores": 1},
            5: {},
        }
    )
    assert record.container == {"memory": 100.0, "vcores": 0.5}


def test_the_container_is_the_common_measure() -> None:
    jobs = [span(0, 1000, memory=1536, vcores=0.75), span(0, 1000, memory=1024, vcores=0.5, gpus=4)]
    assert run_skyline("run", jobs).container == {"memory": 512.0, "vcores": 0.25, "gpus": 4.0}
    assert run_skyline("run", [span(0, 1000, vcores=1, gpus=0)]).container == {"vcores": 1.0}


def test_a_job_of_no_duration_held_nothing() -> None:
    assert run_skyline("run", [span(7, 7, memory=1, vcores=1)]).skyline.is_empty
    record = run_skyline("run", [span(0, 1, memory=1, vcores=1), span(90_000, 90_000, memory=5, vcores=1)])
    assert record.skyline == Skyline.interval(0, 1, {"memory": 1, "vcores": 1})
    assert record.finished == EPOCH + 90_000


def test_the_use_of_several_jobs_is_added_up() -> None:
    jobs = [span(0, 4000, memory=1000, vcores=4), span(2000, 6000, memory=1000, vcores=4)]
    measured = [
        Usage(EPOCH, 1000.0, [(1.0, 100.0), (2.0, 200.0), (3.0, 300.0), (1.5, 400.0)]),
        Usage(EPOCH + 2000, 2000.0, [(0.5, 50.5), (0.25, 60.0)]),
    ]
    record = run_skyline("run", jobs, measured)
    assert record.used == Skyline.of(
        {
            0: {"memory": 100, "vcores": 1},
            1: {"memory": 200, "vcores": 2},
            2: {"memory": 350.5, "vcores": 3.5},
            3: {"memory": 450.5, "vcores": 2},
            4: {"memory": 60, "vcores": 0.25},
            6: {},
        }
    )


def test_a_last_point_holds_no_longer_than_its_attempt() -> None:
    """Else the use of jobs one after the other would be added up where they meet."""
    jobs = [span(0, 10_000, memory=100, vcores=1), span(10_000, 20_000, memory=100, vcores=1)]
    measured = [
        Usage(EPOCH + start, 8000.0, [(1.0, 50.0), (1.0, 60.0)], EPOCH + start + 10_000) for start in (0, 10_000)
    ]
    record = run_skyline("run", jobs, measured)
    assert record.used is not None
    assert record.used.peak() == {"memory": 60, "vcores": 1}
    assert record.used.integral()["vcores"] == 20


def test_use_counts_within_the_run() -> None:
    record = run_skyline("run", [span(1000, 3000, memory=9, vcores=1)], [Usage(EPOCH, 10_000.0, [(1.0, 5.0)])])
    assert record.used == Skyline.interval(0, 2, {"memory": 5, "vcores": 1})


def test_measured_but_idle_is_not_unknown() -> None:
    jobs = [span(0, 3000, memory=9, vcores=1)]
    for series in ([], [(0.0, 0.0)]):
        used = run_skyline("run", jobs, [Usage(EPOCH, 1000.0, series)]).used
        assert used is not None
        assert used.is_empty


def test_points_finer_than_a_second_leave_their_peak() -> None:
    usage = Usage(EPOCH, 250.0, [(0.1, 1.0), (0.9, 2.0), (0.2, 7.0), (0.3, 1.0), (0.4, 4.0)])
    used = run_skyline("run", [span(0, 5000, memory=9, vcores=1)], [usage]).used
    assert used == Skyline.of({0: {"memory": 7, "vcores": 0.9}, 1: {"memory": 4, "vcores": 0.4}, 2: {}})


@pytest.mark.parametrize(
    ("spans", "usages", "says"),
    [
        ([], [], "without attempts"),
        ([span(5, 4, memory=1), span(0, 9, memory=1)], [], "ends at 4, before its start at 5"),
        ([span(0, 1, memory=-1)], [], "-1.0"),
        ([span(0, 1, memory=math.nan)], [], "nan"),
        ([span(0, 1, memory=math.inf)], [], "inf"),
        ([Span(-5, 5, {"memory": 1})], [], "milliseconds since 1970"),
        ([Span(0, 2**70, {"memory": 1})], [], "milliseconds since 1970"),
        ([span(0, 1, memory=1)], [Usage(0, 0.0, [])], "0.0 ms apart"),
        ([span(0, 1, memory=1)], [Usage(0, math.nan, [(1.0, 1.0)])], "nan ms apart"),
        ([span(0, 1, memory=1)], [Usage(0, 1e300, [(1.0, 1.0)])], "too long"),
        ([span(0, 1, memory=1)], [Usage(EPOCH, 1.0, [(math.nan, 1.0)])], "nan"),
        ([span(0, 1, memory=1)], [Usage(EPOCH, 1.0, [(1.0, -2.0)])], "-2.0"),
    ],
)
def test_what_makes_no_sense_is_refused(spans: list[Span], usages: list[Usage], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run_skyline("run", spans, usages)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 3000), st.integers(1, 4)), min_size=1, max_size=8))
def test_each_second_holds_the_peak_of_its_milliseconds(jobs: list[tuple[int, int, int]]) -> None:
    spans = [span(start, start + length, memory=count * 10, vcores=count) for start, length, count in jobs]
    record = run_skyline("run", spans)
    zero = min(start for start, _, _ in jobs)
    # the sum changes at starts only upwards: a second's peak is at its first millisecond or at a start within it
    for second in range(10):
        moments = [zero + second * 1000, *(start for start, _, _ in jobs if (start - zero) // 1000 == second)]
        peak = max(sum(count for start, length, count in jobs if start <= at < start + length) for at in moments)
        assert record.skyline.at(second) == {"memory": 10.0 * peak, "vcores": float(peak)}


def test_a_workflow_of_ten_thousand_jobs() -> None:
    spans = [span(1000 * k, 1000 * k + 60_000, memory=512, vcores=1) for k in range(10_000)]
    record = run_skyline("run", spans)
    assert record.skyline.peak() == {"memory": 60 * 512.0, "vcores": 60.0}
    assert record.skyline.integral() == {"memory": 512 * 60e4, "vcores": 60e4}
