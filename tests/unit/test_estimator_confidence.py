"""The figures that come with a prediction, against what can be counted by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator.model import Confidence, History, Prediction, RecurrenceId, ResourceSkyline
from estimator.skyline import Skyline
from estimator.solver import confidence as confidence_module
from estimator.solver.base import Solver, SolverSettings
from estimator.solver.baselines import LastRunSolver, MaxSolver
from estimator.solver.confidence import difference

SETTINGS = SolverSettings(interval=5)


def history(rows: list[list[float]], interval: int = 5) -> History:
    """Memory in MB per interval, one row a run; vcores are a hundredth of it."""
    return {
        RecurrenceId("p", f"r{place}"): [
            ResourceSkyline(f"j{place}", Skyline.sampled([[mb, mb / 100] for mb in row], interval))
        ]
        for place, row in enumerate(rows)
    }


def figures(solver: Solver, runs: History, wanted: SolverSettings = SETTINGS) -> Confidence:
    found = solver.solve("p", runs, wanted).confidence
    assert found is not None
    return found


def test_every_figure_of_a_small_history() -> None:
    found = figures(MaxSolver(), history([[100, 300], [200, 100, 100], [100, 100]]))
    assert (found.runs, found.left_out_runs) == (3, 3)
    # The plan is 200, 300, 100 MB; each interval lasts 5 s.
    assert found.over["memory"] == pytest.approx(5 * (200 + 200 + 400) / 3)
    assert found.under["memory"] == 0
    assert found.needed["memory"] == pytest.approx(5 * (400 + 400 + 200) / 3)
    assert found.fixed == {"memory": 300 * 15, "vcores": 3 * 15}  # the highest peak as long as the longest run
    assert found.lower == Skyline.sampled([[100, 1], [100, 1]], 5)
    assert found.upper == Skyline.sampled([[200, 2], [300, 3], [100, 1]], 5)
    # Left out: [100, 300] from 200, 100, 100; then [200, 100, 100] from 100, 300; [100, 100] from 200, 300, 100.
    assert found.left_out_error is not None
    assert found.left_out_error["memory"] == pytest.approx(((100 + 200 + 100) / 400 + (100 + 200 + 100) / 400 + 2) / 3)
    assert found.left_out_error["vcores"] == pytest.approx(found.left_out_error["memory"])


def test_under_allocation_counts_what_a_plan_does_not_cover() -> None:
    found = figures(LastRunSolver(), history([[300, 300, 300], [100, 100]]))
    assert found.under["memory"] == pytest.approx(5 * (200 + 200 + 300) / 2)
    assert found.over["memory"] == 0


def test_a_difference_is_measured_by_the_second_not_by_the_interval() -> None:
    plan = Skyline.interval(0, 5, {"memory": 10})
    run = Skyline.of({0: {"memory": 10}, 2: {"memory": 4}, 3: {"memory": 12}, 7: {}})
    assert difference(plan, run).over["memory"] == 6
    assert difference(plan, run).under["memory"] == 2 * 2 + 12 * 2
    assert difference(plan, run).held["memory"] == 20 + 4 + 48


def test_a_single_run_leaves_nothing_to_leave_out() -> None:
    found = figures(MaxSolver(), history([[7]]), SolverSettings(min_runs=1))
    assert (found.left_out_runs, found.left_out_error) == (0, None)


def test_two_runs_are_predicted_from_each_other_although_two_are_the_minimum() -> None:
    found = figures(MaxSolver(), history([[100], [200]]))
    assert found.left_out_runs == 2
    assert found.left_out_error is not None
    assert found.left_out_error["memory"] == pytest.approx((100 / 100 + 100 / 200) / 2)


def test_only_the_ten_newest_are_left_out_and_runs_of_nothing_do_not_count() -> None:
    solver = Counting()
    runs = {**history([[100]] * 14), RecurrenceId("p", "empty"): [ResourceSkyline("e", Skyline.empty())]}
    found = figures(solver, runs)
    assert (found.runs, found.left_out_runs) == (14, 10)
    assert solver.missing == [(), *((f"r{place}",) for place in range(4, 14))]
    assert found.left_out_error == {"memory": 0, "vcores": 0}


def test_a_large_history_is_solved_once_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence_module, "LEFT_OUT_LIMIT", 2999)
    solver = Counting()
    found = figures(solver, history([[100]] * 30))
    assert (found.left_out_runs, found.left_out_error) == (0, None)
    assert len(solver.missing) == 1
    assert figures(solver, history([[100]] * 29)).left_out_runs == 10


def test_it_is_not_computed_unless_asked_for() -> None:
    wanted = SolverSettings(confidence=False)
    assert MaxSolver().solve("p", history([[1], [2]]), wanted).confidence is None


def test_a_resource_that_a_run_did_not_hold_has_no_relative_error_there() -> None:
    runs = history([[100], [100]])
    gpus = ResourceSkyline("g", Skyline.interval(0, 5, {"memory": 100, "vcores": 1, "gpus": 2}))
    found = figures(MaxSolver(), {**runs, RecurrenceId("p", "gpu"): [gpus]})
    assert found.left_out_error is not None
    assert found.left_out_error["gpus"] == 1  # the run with gpus, predicted from those without
    assert found.fixed["gpus"] == 10


def test_used_skylines_are_compared_where_those_were_planned() -> None:
    def job(used: float) -> ResourceSkyline:
        allocated = Skyline.interval(0, 10, {"memory": 4096, "vcores": 1})
        return ResourceSkyline("j", allocated, used=Skyline.interval(5, 10, {"memory": used}))

    runs = {RecurrenceId("p", str(number)): [job(used)] for number, used in enumerate([1000.0, 2000.0])}
    found = figures(MaxSolver(), runs, SolverSettings(kind="used"))
    assert found.needed["memory"] == 5 * 1500
    assert found.over["memory"] == 5 * 500


def test_the_band_does_not_depend_on_how_much_is_sampled_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = history([[float(7 * place % 50 + step) for step in range(20)] for place in range(12)])
    whole = figures(MaxSolver(), runs)
    monkeypatch.setattr(confidence_module, "_BLOCK", 12 * 2 * 3)
    assert figures(MaxSolver(), runs) == whole


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50).map(float), min_size=1, max_size=6).filter(any), min_size=2, max_size=6))
def test_figures_agree_with_each_other(rows: list[list[float]]) -> None:
    runs = history(rows)
    prediction = LastRunSolver().solve("p", runs, SETTINGS)
    found = prediction.confidence
    assert found is not None
    for name in ("memory", "vcores"):
        reserved = prediction.skyline.integral()[name]
        assert reserved - found.over[name] == pytest.approx(found.needed[name] - found.under[name])
        assert found.needed[name] <= found.fixed[name] + 1e-9
    assert found.lower.merge(found.upper, "max") == found.upper


class Counting(MaxSolver):
    """Notes which runs each of its solves did not see."""

    def __init__(self) -> None:
        self.missing: list[tuple[str, ...]] = []
        self.known: tuple[str, ...] = ()

    def solve(
        self, pipeline: str, history: History, settings: SolverSettings, *, warm: Mapping[str, Any] | None = None
    ) -> Prediction:
        names = tuple(run.run for run in history if run.run != "empty")
        self.known = self.known or names
        self.missing.append(tuple(name for name in self.known if name not in names))
        return super().solve(pipeline, history, settings, warm=warm)
