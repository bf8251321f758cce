"""Planners: found by name, and the orders they give."""

from __future__ import annotations

import pytest

from retz.model.agent import Offer
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler import planner
from retz.scheduler.scheduler import Scheduler

PRIORITIES = {1: 5, 2: -20, 3: 5, 4: 19, 5: -20, 6: 0}


def placed(name: str, owners: tuple[str, ...] = ("ann",)) -> list[int]:
    scheduler = Scheduler(name)
    for job_id, priority in PRIORITIES.items():
        scheduler.add(
            Job(
                id=job_id,
                owner=owners[job_id % len(owners)],
                command="true",
                resources=Resources(cpus=1),
                submitted=0.0,
                priority=priority,
            )
        )
    scheduler.offer([Offer(id="o", agent="a", room=(6000, 0, 0, 0, 0))])
    work = scheduler.prepare(0)
    assert work is not None
    return [placement.job for placement in work.solve()]


@pytest.mark.parametrize("owners", [("ann",), ("ann", "bob", "eve")])
def test_fifo_goes_by_id_alone(owners: tuple[str, ...]) -> None:
    assert placed("fifo", owners) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("owners", [("ann",), ("ann", "bob", "eve")])
def test_priority_goes_by_priority_then_id(owners: tuple[str, ...]) -> None:
    assert placed("priority", owners) == [2, 5, 6, 1, 3, 4]


def test_fair_among_equals_goes_by_priority_then_id() -> None:
    assert placed("fair") == [2, 5, 6, 1, 3, 4]


def test_fair_lets_users_who_hold_nothing_take_turns() -> None:
    assert placed("fair", ("ann", "bob")) == [2, 5, 6, 1, 3, 4]


def test_an_unknown_planner_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'lottery'.*fair, fifo, priority"):
        Scheduler("lottery")


def test_planners_know_their_own_names() -> None:
    assert {name: planner.find(name).name for name in planner.PLANNERS} == {
        "fair": "fair",
        "fifo": "fifo",
        "priority": "priority",
    }
    assert Scheduler("priority").planner == "priority"
