"""Limits from whole-run peaks, and the margin that learns from misses."""

from __future__ import annotations

import math

import pytest

from estimator.errors import InvalidInput
from estimator.model import History, RecurrenceId, ResourceSkyline
from estimator.sizing import limit
from estimator.skyline import Skyline
from estimator.solver.base import SolverSettings
from estimator.solver.peak import PeakSolver

PLAIN = SolverSettings(confidence=False)


def history(peaks: list[float], seconds: int = 10) -> History:
    return {
        RecurrenceId("p", str(index)): [
            ResourceSkyline(str(index), Skyline.of({0: {"memory": 1}, 3: {"memory": peak, "vcores": 2}, seconds: {}}))
        ]
        for index, peak in enumerate(peaks)
    }


def test_steady_runs_get_what_they_held() -> None:
    assert limit([700.0] * 10) == 700.0


def test_a_resource_that_was_never_held_and_then_is() -> None:
    assert limit([0.0, 0.0]) == 0.0
    assert limit([0.0, 4.0]) == 4.0


def test_the_plan_is_a_constant_over_whole_intervals() -> None:
    prediction = PeakSolver().solve("p", history([1000.0, 1300.0], seconds=12), PLAIN)
    height = float(math.ceil(limit([1000.0, 1300.0])))
    assert prediction.skyline == Skyline.interval(0, 15, {"memory": height, "vcores": 2})
    assert (prediction.solver, prediction.runs, prediction.objective) == ("peak", ("0", "1"), None)


def test_the_duration_is_a_quantile_of_the_runs() -> None:
    long = history([5.0], seconds=500)[RecurrenceId("p", "0")]
    runs = {**history([5.0] * 39, seconds=20), RecurrenceId("p", "long"): long}
    assert PeakSolver().solve("p", runs, PLAIN).skyline.end == 20


def test_amounts_come_in_usable_units() -> None:
    jobs = [
        ResourceSkyline("a", Skyline.interval(0, 5, {"memory": 1000.4, "vcores": 0.255})),
        ResourceSkyline("b", Skyline.interval(0, 5, {"memory": 1000.4, "vcores": 0.255})),
    ]
    runs = {RecurrenceId("p", job.job_id): [job] for job in jobs}
    assert PeakSolver().solve("p", runs, PLAIN).skyline.peak() == {"memory": 1001.0, "vcores": 0.26}


def test_used_skylines_are_planned_from_if_asked_for() -> None:
    def job(name: str, used: float | None) -> ResourceSkyline:
        measured = None if used is None else Skyline.interval(0, 5, {"memory": used})
        return ResourceSkyline(name, Skyline.interval(0, 5, {"memory": 4096, "vcores": 1}), used=measured)

    runs = {RecurrenceId("p", str(number)): [job("j", used)] for number, used in enumerate([900.0, None, 900.0])}
    used = PeakSolver().solve("p", runs, SolverSettings(kind="used", confidence=False))
    assert used.skyline.peak()["memory"] == 900
    assert (used.runs, used.ignored) == (("0", "2"), ("1",))
    assert PeakSolver().solve("p", runs, PLAIN).skyline.peak()["memory"] == 4096


@pytest.mark.parametrize("runs", [{}, history([5.0]), {**history([5.0]), RecurrenceId("p", "e"): []}])
def test_a_thin_history_is_refused(runs: History) -> None:
    with pytest.raises(InvalidInput, match="Job ResourceSkyline history"):
        PeakSolver().solve("p", runs, PLAIN)


def test_a_run_of_millions_of_years_is_refused_by_name() -> None:
    """Its figures could not be computed interval by interval."""
    endless = [ResourceSkyline("j", Skyline.interval(0, 2**50, {"memory": 1}))]
    runs = {**history([100, 100]), RecurrenceId("p", "endless"): endless}
    with pytest.raises(InvalidInput, match="delete runs; the longest is 'endless' with 1125899906842624 s"):
        PeakSolver().solve("p", runs, SolverSettings())


def test_it_says_how_far_to_trust_it() -> None:
    confidence = PeakSolver().solve("p", history([1000.0, 1300.0, 1200.0]), SolverSettings()).confidence
    assert confidence is not None
    assert (confidence.runs, confidence.left_out_runs) == (3, 3)
    assert confidence.under["memory"] == 0
