"""Histories replayed: the figures of each solver, counted by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator import backtest as backtest_module
from estimator.backtest import BacktestReport, SolverResult, backtest
from estimator.config import SOLVERS, EstimatorConfig
from estimator.errors import ConfigurationError, InvalidInput, SolverError
from estimator.model import History, RecurrenceId, ResourceSkyline
from estimator.skyline import IntArray, Skyline
from estimator.solver.base import SolverSettings
from estimator.solver.baselines import MaxSolver

CONFIG = EstimatorConfig()
ONE = EstimatorConfig(settings=SolverSettings(min_runs=1))


def history(rows: list[list[int]]) -> History:
    return {
        RecurrenceId("p", f"r{place}"): [
            ResourceSkyline("j", Skyline.sampled([[1024.0 * count, count] for count in counts], 5))
        ]
        for place, counts in enumerate(rows)
    }


def replayed(rows: list[list[int]], solver: str = "last", config: EstimatorConfig = ONE) -> SolverResult:
    return backtest(history(rows), config, [solver]).solvers[0]


class Broken(MaxSolver):
    name = "broken"

    def expect(self, counts: IntArray) -> IntArray:
        raise SolverError("it does not work today")


def test_all_figures_of_a_small_history() -> None:
    result = replayed([[4, 4], [2, 6], [2, 2]])
    first, second = result.points
    assert (first.run, first.reserved["vcores"], first.held["vcores"]) == ("r1", 40, 40)
    assert (first.over["vcores"], first.under["vcores"]) == (10, 10)
    assert first.late == ("memory", "vcores") and first.exceeded == ("memory", "vcores")
    assert second.in_time and second.exceeded == ()
    assert result.waste == {"memory": pytest.approx(30 / 60), "vcores": pytest.approx(30 / 60)}
    assert result.under["memory"] == pytest.approx(10 / 60)
    assert result.deadline_hits == 0.5
    assert result.peak_misses == {"memory": 0.5, "vcores": 0.5}


@pytest.mark.parametrize(
    ("plan", "run", "in_time"),
    [
        ([2, 6], [6, 2], True),  # what finds no room at first is done later
        ([6, 2], [2, 6], False),  # nothing can be done before its time
        ([3, 3, 3], [4, 4], True),  # the plan's end is the deadline, not the run's
        ([4, 4], [4, 4, 1], False),
        ([5, 0, 3], [6, 1, 1], True),
        ([5, 5, 2], [1, 0, 3], False),  # room that was left unused before does not help
    ],
)
def test_deadlines_let_work_wait(plan: list[int], run: list[int], in_time: bool) -> None:
    assert replayed([plan, run]).deadline_hits == float(in_time)


def test_a_run_is_predicted_from_those_before_it_only() -> None:
    report = backtest(history([[1], [2], [3], [4]]), CONFIG, ["max", "last"])
    assert (report.runs, report.replayed) == (4, ("r2", "r3"))
    for result in report.solvers:
        assert [point.planned_peak["vcores"] for point in result.points] == [2, 3]


def test_every_solver_is_replayed_and_the_report_is_json() -> None:
    report = backtest(history([[3, 5], [4, 5], [3, 6, 1], [4, 4]]), CONFIG)
    assert [result.solver for result in report.solvers] == list(SOLVERS)
    assert not any(result.skipped for result in report.solvers)
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["replayed"] == ["r2", "r3"] and document["resources"] == ["memory", "vcores"]
    assert all([point["run"] for point in each["points"]] == ["r2", "r3"] for each in document["solvers"])
    assert set(document["solvers"][0]["points"][0]) == {
        "run", "reserved", "held", "over", "under", "planned_peak", "peak", "in_time", "late",
    }  # fmt: skip


def test_a_solver_that_fails_says_so_and_the_others_go_on() -> None:
    report = backtest(history([[1], [2], [3]]), CONFIG, [f"{__name__}.Broken", "max"])
    broken, most = report.solvers
    assert (broken.skipped, broken.points, broken.deadline_hits) == ("it does not work today", (), None)
    assert (broken.waste, broken.peak_misses) == ({}, {})
    assert most.deadline_hits == 0


def test_only_so_many_of_the_newest_runs_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[1, 1]] * 60
    assert len(replayed(rows).points) == 50
    monkeypatch.setattr(backtest_module, "MOST_CELLS", 360)
    assert [point.run for point in replayed(rows).points] == ["r57", "r58", "r59"]
    monkeypatch.setattr(backtest_module, "MOST_CELLS", 1)
    assert [point.run for point in replayed(rows).points] == ["r59"]


def test_the_slow_reference_is_left_out_of_large_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_module, "LP_CELLS", 2)
    lp, most = backtest(history([[1], [2], [3]]), CONFIG, ["lp", "max"]).solvers
    assert "too slow" in lp.skipped and not lp.points
    assert most.points


def test_runs_that_held_nothing_do_not_count_and_others_may_hold_more_kinds() -> None:
    runs = dict(history([[1], [1]]))
    runs[RecurrenceId("p", "empty")] = [ResourceSkyline("e", Skyline.empty())]
    gpus = Skyline.interval(0, 5, {"memory": 1024, "vcores": 1, "gpus": 2})
    runs[RecurrenceId("p", "gpu")] = [ResourceSkyline("g", gpus)]
    report = backtest(runs, CONFIG, ["max"])
    assert (report.runs, report.replayed) == (3, ("gpu",))
    assert report.solvers[0].under == {"memory": 0, "vcores": 0, "gpus": 1}
    assert report.solvers[0].peak_misses == {"memory": 0, "vcores": 0, "gpus": 1}


@pytest.mark.parametrize("rows", [[], [[1]], [[1], [2]], [[1], [2], [0]]])
def test_a_thin_history_is_refused(rows: list[list[int]]) -> None:
    with pytest.raises(InvalidInput, match="Job ResourceSkyline history"):
        backtest(history(rows), CONFIG)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nonsense"):
        backtest(history([[1], [2], [3]]), CONFIG, ["nonsense"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any), min_size=3, max_size=7))
def test_figures_agree_with_each_other(rows: list[list[int]]) -> None:
    report: BacktestReport = backtest(history(rows), CONFIG, ["max", "last", "peak"])
    for result in report.solvers:
        for point in result.points:
            for name in report.resources:
                assert point.reserved[name] - point.over[name] == pytest.approx(point.held[name] - point.under[name])
            if not any(point.under.values()):
                assert point.in_time and not point.exceeded
            if point.exceeded:
                assert any(point.under[name] for name in point.exceeded)
