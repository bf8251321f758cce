"""Counts from skylines: nothing that a run held is lost, shifted or counted twice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.errors import InvalidInput
from estimator.model import RecurrenceId, ResourceSkyline
from estimator.skyline import Amounts, Skyline
from estimator.solver import demand
from estimator.solver.base import SolverSettings
from estimator.solver.demand import demands, merge

ONE: Amounts = {"memory": 1024, "vcores": 1}
NOON = 1_500_000_000_000


def containers(number: int, size: Amounts = ONE) -> dict[str, float]:
    return {name: number * amount for name, amount in size.items()}


def held(start: int, end: int, number: int = 1, size: Amounts = ONE) -> Skyline:
    return Skyline.interval(start, end, containers(number, size))


def job(skyline: Skyline, submitted: int = 0, size: Amounts = ONE, used: Skyline | None = None) -> ResourceSkyline:
    return ResourceSkyline(f"job{submitted}", skyline, submitted=submitted, container=size, used=used)


def history(*runs: list[ResourceSkyline]) -> dict[RecurrenceId, list[ResourceSkyline]]:
    return {RecurrenceId("p", f"run{number}"): jobs for number, jobs in enumerate(runs)}


def loose(interval: int = 5, min_runs: int = 1) -> SolverSettings:
    return SolverSettings(min_runs=min_runs, interval=interval, confidence=False)


def counts(*runs: list[ResourceSkyline], interval: int = 5) -> list[list[int]]:
    """Of a history that makes one problem."""
    (problem,) = demands(history(*runs), loose(interval)).problems
    return [[int(count) for count in row] for row in problem.counts]


def test_one_interval_survives() -> None:
    assert counts([job(held(0, 5, 3))]) == [[3]]


def test_late_start_loses_nothing() -> None:
    skyline = held(7, 607) + held(17, 617)
    (row,) = counts([job(skyline)])
    assert len(row) == 122
    assert row == [1, 1] + [2] * 118 + [1, 1]


def test_runs_begin_with_their_own_first_moment() -> None:
    assert counts([job(held(0, 10))], [job(held(103, 108, 2))]) == [[1, 1], [2, 0]]


def test_an_interval_counts_with_its_peak() -> None:
    assert counts([job(held(0, 10) + held(6, 7, 8))]) == [[1, 9]]


def test_jobs_of_a_run_are_placed_by_their_submission() -> None:
    first, second = job(held(0, 10), NOON), job(held(0, 10, 4), NOON + 5_900)
    assert counts([first, second]) == [[1, 5, 4]]
    assert counts([second, first]) == [[1, 5, 4]]


def test_a_job_of_unknown_submission_starts_with_its_run() -> None:
    assert counts([job(held(0, 5)), job(held(0, 5, 2), NOON), job(held(0, 5, 4), NOON + 5000)]) == [[3, 4]]


def test_empty_runs_are_reported_not_counted() -> None:
    found = demands(history([job(held(0, 5))], [job(Skyline.empty())], [], [job(held(0, 5))]), loose(min_runs=2))
    assert found.runs == ("run0", "run3")
    assert found.ignored == ("run1", "run2")
    assert found.problems[0].counts.shape == (2, 1)


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "no run is known"),
        ([[job(held(0, 5))]], "less job runs than 2.*wait for more runs"),
        ([[job(held(0, 5))], [job(Skyline.empty())]], "1 runs held nothing"),
    ],
)
def test_thin_history_is_refused(runs: list[list[ResourceSkyline]], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        demands(history(*runs), SolverSettings())


def test_used_is_on_the_clock_of_the_run() -> None:
    used = Skyline.of({10: {"memory": 100.5, "vcores": 0.251}, 15: {}})
    runs = history([job(held(0, 20), used=used)], [job(held(0, 20))])
    found = demands(runs, SolverSettings(min_runs=1, kind="used"))
    assert found.runs == ("run0",)
    assert found.ignored == ("run1",)
    assert {each.resources: each.unit for each in found.problems} == {
        ("memory",): {"memory": 1.0},
        ("vcores",): {"vcores": 0.01},
    }
    assert [each.counts.tolist() for each in found.problems] == [[[0, 0, 101]], [[0, 0, 26]]]


def test_nobody_measured_use() -> None:
    with pytest.raises(InvalidInput, match="lack measured use"):
        demands(history([job(held(0, 20))]), SolverSettings(min_runs=1, kind="used"))


def test_containers_of_one_size_make_one_problem() -> None:
    size = {"memory": 1800.0, "vcores": 2.0, "gpus": 1.0}
    (problem,) = demands(history([job(held(0, 10, 3, size), size=size)]), loose()).problems
    assert problem.resources == ("memory", "vcores", "gpus")
    assert problem.unit == size
    assert problem.counts.tolist() == [[3, 3]]


def test_mixed_container_sizes_are_planned_resource_by_resource() -> None:
    large = {"memory": 1536.0, "vcores": 4.0}
    runs = history([job(held(0, 5)), job(held(0, 10, 2, large), NOON, large)], [job(held(0, 5, 3))])
    memory, vcores = demands(runs, loose()).problems
    assert memory.unit == {"memory": 512.0}
    assert memory.counts.tolist() == [[8, 6], [6, 0]]
    assert vcores.unit == {"vcores": 1.0}
    assert vcores.counts.tolist() == [[9, 8], [3, 0]]


def test_a_resource_of_some_runs_only() -> None:
    with_gpu = {"memory": 1024.0, "vcores": 1.0, "gpus": 2.0}
    found = demands(history([job(held(0, 5, 2, with_gpu), size=with_gpu)], [job(held(0, 5))]), loose())
    gpus = next(each for each in found.problems if each.resources == ("gpus",))
    assert gpus.counts.tolist() == [[2], [0]]
    assert gpus.unit == {"gpus": 2.0}


@pytest.mark.parametrize(
    ("amounts", "units"),
    [
        ({"memory": 1500.0, "vcores": 1.0}, {"memory": 1.0, "vcores": 1.0}),  # no whole containers
        ({"memory": 1024.0, "vcores": 2.0}, {"memory": 1024.0, "vcores": 1.0}),  # more of one than of the other
        ({"memory": 1024.25, "vcores": 0.125}, {"memory": 1.0, "vcores": 0.01}),
    ],
)
def test_units_without_common_containers(amounts: Amounts, units: Mapping[str, float]) -> None:
    problems = demands(history([job(Skyline.interval(0, 5, amounts))]), loose()).problems
    assert {name: each.unit[name] for each in problems for name in each.resources} == units
    for each in problems:
        (name,) = each.resources
        planned = float(each.counts[0, 0]) * each.unit[name]
        assert amounts[name] <= planned + 1e-6 < amounts[name] + each.unit[name] + 1e-6  # rounded up, not further


def test_container_size_nobody_kept_to() -> None:
    """A container of zero size divides nothing by zero."""
    problems = demands(history([job(held(0, 5), size={"memory": 0.0})]), loose()).problems
    assert [each.unit for each in problems] == [{"memory": 1.0}, {"vcores": 1.0}]


def test_sizes_that_would_not_fit_into_memory() -> None:
    runs = history([job(held(0, 10**9))], [job(held(0, 10))])
    with pytest.raises(InvalidInput, match="raise timeInterval from 5 s to at least") as refused:
        demands(runs, loose())
    fitting = int(str(refused.value).rsplit("at least ", 1)[1].split(" s")[0])
    assert 2 * (10**9 // fitting) <= demand.MAX_CELLS


@pytest.mark.parametrize("amount", [1e13, 1e15])
def test_amounts_that_cannot_be(amount: float) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        demands(history([job(Skyline.interval(0, 5, {"memory": amount}))]), loose())


def test_negative_amounts() -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        demands(history([job(held(0, 10) - held(5, 10, 2))]), loose())


def test_sums_that_are_not_exact() -> None:
    skyline = Skyline.interval(0, 50_000, {"memory": 9e11 + 1, "vcores": 1})
    with pytest.raises(InvalidInput, match="too large in memory"):
        demands(history([job(skyline)]), loose(interval=1))


pieces = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 30), st.integers(1, 5), st.integers(0, 40)), min_size=1, max_size=5
)


@settings(max_examples=60, deadline=None)
@given(pieces, st.integers(1, 9))
def test_against_seconds_counted_one_by_one(parts: list[tuple[int, int, int, int]], interval: int) -> None:
    jobs = [job(held(start, start + length, number), NOON + later * 1000) for start, length, number, later in parts]
    first = min(later for *_, later in parts)
    seconds = np.zeros(200, dtype=int)
    for start, length, number, later in parts:
        seconds[start + later - first : start + length + later - first] += number
    begin, end = np.flatnonzero(seconds)[[0, -1]]
    peaks = [int(seconds[at : min(at + interval, end + 1)].max()) for at in range(begin, end + 1, interval)]
    assert counts(jobs, interval=interval) == [peaks]


def test_merge_keeps_the_moment_of_allocation() -> None:
    merged = merge([job(held(3, 9), used=held(6, 8))], "used")
    assert merged is not None
    assert merged[1] == 3
    assert merged[0].start == 6
