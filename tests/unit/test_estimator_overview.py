"""Runs at a glance: their skylines are bounded, and tell no less than was held."""

from __future__ import annotations

import numpy as np

from estimator.model import RecurrenceId, ResourceSkyline
from estimator.overview import MOST_STEPS, runs_overview
from estimator.skyline import Skyline

SPEC = {"memory": 1.0, "vcores": 1.0}


def history(steps: int, runs: int = 1) -> dict[RecurrenceId, list[ResourceSkyline]]:
    amounts = np.random.default_rng(steps).integers(1, 1_000_000, (steps, 2))
    skyline = Skyline.sampled(amounts, 3)
    job = ResourceSkyline("j", skyline, 0, 3 * steps, SPEC)
    return {RecurrenceId("p", f"run{number}"): [job] for number in range(runs)}


def test_only_the_last_runs_have_skylines() -> None:
    runs = runs_overview(history(4, runs=3), skylines=2)
    assert ["skylines" in run for run in runs] == [False, True, True]
    assert runs[2]["skylines"]["used"] is None
    assert Skyline.from_json(runs[2]["skylines"]["allocated"]) == next(iter(history(4).values()))[0].skyline
    assert not any("skylines" in run for run in runs_overview(history(4, runs=3)))
    assert all("skylines" in run for run in runs_overview(history(4, runs=3), skylines=9))


def test_a_fine_skyline_is_coarsened_to_its_peaks() -> None:
    runs = history(5 * MOST_STEPS)
    true = next(iter(runs.values()))[0].skyline
    (run,) = runs_overview(runs, skylines=1)
    shown = Skyline.from_json(run["skylines"]["allocated"])
    assert len(shown.times) <= MOST_STEPS + 1
    assert shown.peak() == true.peak()
    assert (true - shown).peak()["memory"] <= 0  # nowhere less than was held


def test_jobs_are_placed_as_for_a_prediction() -> None:
    """A job whose submission nobody knows starts with its run, not in 1970; use is known if that of all jobs is."""
    held = Skyline.interval(0, 10, SPEC)
    unknown = ResourceSkyline("a", held, 0, 10, SPEC, used=held)
    known = ResourceSkyline("b", held, 1_700_000_000_000, 1_700_000_010_000, SPEC)
    (run,) = runs_overview({RecurrenceId("p", "r"): [unknown, known]}, skylines=1)
    assert (run["start"], run["duration_s"]) == (1_700_000_000_000, 10)
    assert run["allocated"] == {"memory": 2, "vcores": 2}
    assert run["used"] is None and run["skylines"]["used"] is None
