"""Places held for jobs that waited long, by example."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from msgspec.structs import replace

from retz.model.agent import Agent, Offer
from retz.model.job import Attempt, Job
from retz.model.resources import Resources, Vector
from retz.scheduler.explain import Explainer
from retz.scheduler.limits import UserLimits
from retz.scheduler.scheduler import Scheduler
from tests.doubles.machines import machines_of
from tests.doubles.simulated_cluster import SimulatedCluster

PATIENCE_S = 300.0


def job(job_id: int, cpus: float = 1, limit_s: float | None = None, **more: Any) -> Job:
    more = {"owner": "ann", "kill_grace_s": 0.0, "submitted": 0.0, **more}
    return Job(id=job_id, command="true", resources=Resources(cpus=cpus), timeout_s=limit_s, **more)


def agent(agent_id: str, cpus: float = 8, **more: Any) -> Agent:
    return Agent(id=agent_id, host=f"{agent_id}.lan", total=Resources(cpus=cpus), **more)


class Stage:
    """Machines on which jobs run, and a queue; the test says what is offered and when."""

    def __init__(self, *machines: Agent, planner: str = "fifo", **more: Any) -> None:
        self.scheduler = Scheduler(planner, patience_s=PATIENCE_S, **more)
        self.machines = list(machines)
        self._ids = itertools.count(1)

    def runs(self, one: Job, where: str, since: float = 0.0) -> Job:
        one = replace(one, state="STARTED", attempts=(Attempt(1, where, since, since),))
        self.scheduler.started(one, since)
        return one

    def queue(self, *jobs: Job) -> None:
        for one in jobs:
            self.scheduler.add(one)

    def offer(self, where: str, cpus: float) -> str:
        name = f"{where}-{next(self._ids)}"
        room: Vector = (round(cpus * 1000), 0, 0, 0, 0)
        self.scheduler.offer([Offer(id=name, agent=where, room=room, host=f"{where}.lan")])
        return name

    def plan(self, now: float) -> list[tuple[int, str]]:
        work = self.scheduler.prepare(0, 256, now)
        placements = self.scheduler.check(work.solve(), 0) if work is not None else []
        for placement in placements:
            where = self.scheduler.offers[placement.offer].agent
            assert where in {machine.id for machine in self.machines}
        return [(placement.job, self.scheduler.offers[placement.offer].agent) for placement in placements]

    def look(self, now: float = PATIENCE_S, since: float = 0.0) -> dict[str, int]:
        """Give places; which job has one on which agent."""
        self.scheduler.hold_places(self.machines, lambda _: since, now)
        return {where: place.job for where, place in self.scheduler.places.items()}


def test_a_job_that_waited_long_enough_holds_the_place_where_it_can_start_soonest() -> None:
    stage = Stage(agent("a"), agent("b"), agent("small", 4))
    stage.runs(job(1, 8, 5000.0), "a")
    stage.runs(job(2, 8, 4000.0), "b")
    stage.runs(job(3, 4, 400.0), "small")
    stage.queue(job(10, 6))
    assert stage.look(PATIENCE_S - 1) == {}
    assert stage.look() == {"b": 10}
    place = stage.scheduler.place_of(10)
    assert place is not None
    assert (place.start, place.spare[0]) == (4000.0, 2000)


def test_of_agents_whose_jobs_have_no_limit_the_one_that_lacks_least_is_kept() -> None:
    stage = Stage(agent("a"), agent("b"), agent("c", state="draining"))
    stage.runs(job(1, 6), "a")
    stage.runs(job(2, 3), "b")
    stage.queue(job(10, 7))
    assert stage.look() == {"b": 10}
    place = stage.scheduler.place_of(10)
    assert place is not None
    assert place.start == math.inf


def test_a_place_moves_to_an_agent_that_turns_out_better() -> None:
    stage = Stage(agent("a"), agent("b"))
    stage.runs(job(1, 3), "a")
    other = stage.runs(job(2, 8), "b")
    stage.queue(job(10, 7))
    assert stage.look() == {"a": 10}
    stage.scheduler.stopped(other, 400.0)
    stage.runs(job(3, 8, 100.0), "b", since=400.0)
    assert stage.look(401.0) == {"a": 10}
    assert stage.look(PATIENCE_S * 2 + 1) == {"b": 10}


@pytest.mark.parametrize(
    ("passing", "may"),
    [
        (job(11, 1, 600.0), True),  # over before the place's job can start
        (job(11, 1, 601.0), False),  # would run into it, and there is no room beside it
        (job(11, 1), False),  # runs for ever, as far as anybody knows
        (job(9, 1), True),  # was there before
    ],
)
def test_a_job_passes_if_it_does_not_delay_the_one_with_the_place(passing: Job, may: bool) -> None:
    stage = Stage(agent("a"))
    stage.runs(job(1, 6, 900.0), "a")
    stage.queue(job(10, 8))
    assert stage.look() == {"a": 10}
    stage.offer("a", 2)
    stage.queue(passing)
    assert stage.plan(PATIENCE_S) == ([(passing.id, "a")] if may else [])


def test_behind_jobs_without_limits_only_those_with_limits_pass() -> None:
    stage = Stage(agent("a"))
    stage.runs(job(1, 6), "a")
    stage.queue(job(10, 8))
    assert stage.look() == {"a": 10}
    stage.offer("a", 2)
    stage.queue(job(11, 1), job(12, 1, 3600.0))
    assert stage.plan(PATIENCE_S) == [(12, "a")]


def test_jobs_without_limits_may_use_what_is_left_beside_the_place() -> None:
    stage = Stage(agent("a"))
    stage.runs(job(1, 5, 900.0), "a")
    stage.queue(job(10, 6))
    assert stage.look() == {"a": 10}
    stage.offer("a", 3)
    stage.queue(*(job(number, 1) for number in range(11, 15)))
    assert stage.plan(PATIENCE_S) == [(11, "a"), (12, "a")]


def test_the_job_with_the_place_starts_as_soon_as_it_fits_and_the_rest_is_free_again() -> None:
    stage = Stage(agent("a"))
    before = stage.runs(job(1, 6, 900.0), "a")
    stage.queue(job(10, 7))
    assert stage.look() == {"a": 10}
    stage.offer("a", 2)
    stage.queue(job(11, 1))
    assert stage.plan(PATIENCE_S) == [(11, "a")]  # 8 - 7 = 1 is left beside it
    stage.scheduler.use("a-1", [11])
    stage.runs(job(11, 1), "a", PATIENCE_S)
    stage.scheduler.stopped(before, 350.0)
    stage.queue(job(12, 1), job(13, 1))
    offer = stage.offer("a", 7)
    assert stage.plan(350.0) == [(10, "a")]
    stage.scheduler.use(offer, [10])
    assert stage.scheduler.places == {}
    stage.offer("a", 1)
    assert stage.plan(350.0) == [(12, "a")]


def test_another_agent_is_used_before_one_that_is_kept() -> None:
    stage = Stage(agent("a"), agent("b", 2))
    stage.runs(job(1, 6, 900.0), "a")
    stage.queue(job(10, 8))
    assert stage.look() == {"a": 10}
    stage.offer("a", 1)
    stage.offer("b", 2)
    stage.queue(job(11, 1, 60.0))
    assert stage.plan(PATIENCE_S) == [(11, "b")]


def test_a_kept_agents_offers_are_not_given_back() -> None:
    stage = Stage(agent("a"), agent("b"))
    stage.runs(job(1, 6, 900.0), "a")
    stage.runs(job(2, 6), "b")
    stage.queue(job(10, 8))
    offers = stage.offer("a", 2), stage.offer("b", 2)
    assert stage.plan(0.0) == []
    assert stage.scheduler.idle_offers() == list(offers)
    assert stage.look() == {"a": 10}
    assert stage.plan(PATIENCE_S) == []
    assert stage.scheduler.idle_offers() == [offers[1]]
    stage.scheduler.remove(10)
    assert set(stage.scheduler.idle_offers()) == set(offers)


def test_one_place_on_each_agent_in_the_planners_order() -> None:
    stage = Stage(agent("a"), agent("b"), planner="priority")
    stage.runs(job(1, 8, 900.0), "a")
    stage.runs(job(2, 8, 1000.0), "b")
    stage.queue(job(10, 8), job(11, 8, priority=-1), job(12, 8, priority=5))
    assert stage.look() == {"a": 11, "b": 10}


def test_what_comes_first_by_priority_is_not_kept_out() -> None:
    stage = Stage(agent("a"), planner="priority")
    stage.runs(job(1, 6, 900.0), "a")
    stage.queue(job(10, 8))
    assert stage.look() == {"a": 10}
    stage.offer("a", 2)
    stage.queue(job(11, 1, priority=1), job(12, 1, priority=-1))
    assert stage.plan(PATIENCE_S) == [(12, "a")]


def test_a_place_ends_with_its_sense() -> None:
    stage = Stage(agent("a"), user_limits=UserLimits(cpus=10))
    stage.runs(job(1, 6, 900.0), "a")
    stage.queue(job(10, 8, owner="bob"))
    assert stage.look() == {"a": 10}
    elsewhere = stage.runs(job(2, 4, owner="bob"), "b")
    assert stage.look() == {}  # bob may not start it now
    stage.scheduler.stopped(elsewhere, 310.0)
    stage.plan(310.0)
    assert stage.look(310.0) == {"a": 10}
    stage.machines = [agent("a", state="unreachable")]
    assert stage.look(320.0) == {}
    stage.machines = [agent("a", others=Resources(cpus=1))]
    assert stage.look(330.0) == {}


def test_what_cannot_run_anywhere_holds_nothing() -> None:
    stage = Stage(agent("a", attributes={"rack": "r1"}))
    stage.queue(job(10, 9), job(11, 1, attributes="rack=r2"))
    assert stage.look() == {}


def test_a_place_held_leaves_the_rest_of_the_queue_in_peace() -> None:
    """What was blocked by a place is tried again when the place goes."""
    stage = Stage(agent("a"))
    stage.runs(job(1, 6, 900.0), "a")
    stage.queue(job(10, 8))
    assert stage.look() == {"a": 10}
    stage.offer("a", 2)
    stage.queue(job(11, 1))
    assert stage.plan(PATIENCE_S) == []
    stage.scheduler.remove(10)
    assert stage.plan(PATIENCE_S) == [(11, "a")]


def lines(stage: Stage, free: float, *jobs: Job, now: float = PATIENCE_S) -> list[str]:
    room = {machine.id: Resources(cpus=free) for machine in stage.machines}
    explainer = Explainer(stage.scheduler, machines_of(stage.machines, room), mode="open", running=1, now=now)
    return [explainer.line(one) for one in jobs]


def test_the_reason_says_who_holds_a_place_and_since_when_others_wait() -> None:
    stage = Stage(agent("a"))
    running = stage.runs(job(1, 6, 7500.0), "a")
    big, mine, other = job(10, 8), job(11, 1), job(12, 1, owner="bob")
    stage.queue(big, mine, other)
    assert stage.look() == {"a": 10}
    assert lines(stage, 2, big, mine, other) == [
        "holds a place on a.lan, starts when jobs there have ended, at the latest in 2:00:00",
        "a.lan is kept for job 10, which has waited long",
        "a.lan is kept for a job of another user, which has waited long",
    ]
    stage.scheduler.stopped(running, PATIENCE_S)
    stage.runs(job(2, 6), "a", PATIENCE_S)
    stage.offer("a", 2)
    stage.plan(PATIENCE_S)
    assert lines(stage, 2, big) == [
        "holds a place on a.lan, starts when jobs without a time limit have ended there",
    ]


def test_a_stream_of_small_jobs_does_not_keep_a_big_one_waiting() -> None:
    def started(patience_s: float) -> float | None:
        cluster = SimulatedCluster(Scheduler(patience_s=patience_s), [agent("a")])
        ids = itertools.count(1)

        def small() -> None:
            run_s = 100.0 + 37.0 * (next(ids) % 7)
            cluster.submit(job(next(ids), 1, 400.0), run_s)

        for _ in range(20):
            small()
        cluster.run(50.0)
        big = next(ids)
        cluster.submit(job(big, 8, 1000.0), 10.0)
        cluster.on_end = lambda _: small()
        cluster.run(6000.0)
        return cluster.started.get(big)

    assert started(0.0) is None
    at = started(PATIENCE_S)
    assert at is not None
    assert at <= 50.0 + PATIENCE_S + 400.0 + 2.0
