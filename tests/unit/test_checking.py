"""A plan from anywhere is compared with the present: a kept agent is used only by jobs that do not delay its own."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from retz.model.agent import Agent, Offer
from retz.model.job import Attempt, Job
from retz.model.resources import Resources, Vector, add, fits, subtract
from retz.scheduler.limits import NOTHING
from retz.scheduler.outside_work import Nonsense, OutsideWork
from retz.scheduler.places import Place
from retz.scheduler.planner import PLANNERS
from retz.scheduler.plugin import Amounts, Choice, Problem
from retz.scheduler.scheduler import Placement, Scheduler

NOW = 1000.0
TOTAL = Resources(cpus=8, mem=800)


class Wish(NamedTuple):
    """A job to be: whole cpus, memory in hundreds, time limit, user."""

    cpus: int
    mem: int
    limit_s: float | None
    owner: str


wishes = st.builds(
    Wish,
    st.sampled_from([1, 1, 2, 4, 8]),
    st.sampled_from([0, 1, 4]),
    st.sampled_from([None, 50.0, 400.0, 900.0]),
    st.sampled_from(["ann", "bob"]),
)
running = st.lists(st.tuples(wishes, st.integers(0, 2), st.sampled_from([700.0, 950.0])), max_size=8)
queues = st.lists(wishes, min_size=1, max_size=8)
asked_for = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), max_size=14)


def job(job_id: int, wish: Wish) -> Job:
    return Job(
        id=job_id,
        owner=wish.owner,
        command="true",
        resources=Resources(cpus=wish.cpus, mem=100 * wish.mem),
        timeout_s=wish.limit_s,
        kill_grace_s=0.0,
        submitted=0.0,
    )


class Stage:
    """Three agents on which jobs run, a queue that has waited long, and places for those that fit nowhere."""

    def __init__(self, planner: str, running: list[tuple[Wish, int, float]], queue: list[Wish]) -> None:
        self.outside = planner == "own"
        self.scheduler = Scheduler(planner, patience_s=300.0, outside=self.outside)
        self.agents = [Agent(id=f"a{n}", host=f"h{n}", total=TOTAL) for n in range(3)]
        self.free = {agent.id: TOTAL.vector for agent in self.agents}
        self.ends: dict[str, list[tuple[float, Vector]]] = {agent.id: [] for agent in self.agents}
        self._running(running)
        self.jobs = {job_id: job(job_id, wish) for job_id, wish in enumerate(queue, 1)}
        for each in self.jobs.values():
            self.scheduler.add(each)
        if self.scheduler.shares is not None:
            self.scheduler.shares.resize((24_000, 2400, 0, 0, 0), NOW)
        # Nothing is on offer yet, so all that wait fit nowhere.
        self.scheduler.hold_places(self.agents, lambda _: 0.0, NOW)
        self.scheduler.offer(Offer(id=f"o{n}", agent=f"a{n}", room=self.free[f"a{n}"]) for n in range(3))

    def _running(self, running: list[tuple[Wish, int, float]]) -> None:
        for number, (wish, where, since) in enumerate(running, 100):
            agent = f"a{where}"
            one = replace(job(number, wish), state="STARTED", attempts=(Attempt(1, agent, since, since),))
            need, end = one.resources.vector, math.inf if wish.limit_s is None else since + wish.limit_s
            if fits(need, self.free[agent]) and end > NOW:
                self.free[agent] = subtract(self.free[agent], need)
                self.ends[agent].append((end, need))
                self.scheduler.started(one, NOW)

    def room_at(self, agent: str, time: float, more: list[Job]) -> Vector:
        """What is free on an agent at a time by the time limits, if these jobs start there now."""
        ends = [*self.ends[agent], *((_end(each), each.resources.vector) for each in more)]
        held = NOTHING
        for end, need in ends:
            if end > time or end == math.inf:
                held = add(held, need)
        return subtract(TOTAL.vector, held)


def _end(one: Job) -> float:
    return math.inf if one.timeout_s is None else NOW + one.timeout_s


def assert_nobody_is_delayed(stage: Stage, places: dict[str, Place], good: list[Placement]) -> None:
    """What was placed beside jobs that come before it, and lasts beyond its start, leaves a place's job its room."""
    for agent, place in places.items():
        own = stage.jobs[place.job]
        here = [stage.jobs[job_id] for job_id, offer in good if offer == f"o{agent[1:]}"]
        before = itertools.takewhile(lambda one: not _alike(one, own), here)  # noqa: B023
        late = [one for one in before if one.id > own.id and (_end(one) > place.start or _end(one) == math.inf)]
        if late:
            assert fits(place.need, stage.room_at(agent, place.start, late))


def _alike(one: Job, other: Job) -> bool:
    """Whichever of them comes takes the place."""
    return (one.resources, one.timeout_s, one.owner) == (other.resources, other.timeout_s, other.owner)


@given(st.sampled_from(["fifo", "own"]), running, queues, asked_for)
@settings(max_examples=400, deadline=None)
def test_no_plan_takes_a_kept_agent_but_as_backfill_allows(
    planner: str, runs: list[tuple[Wish, int, float]], queue: list[Wish], asked: list[tuple[int, int]]
) -> None:
    stage = Stage(planner, runs, queue)
    places = dict(stage.scheduler.places)
    stage.scheduler.prepare(0, 256, NOW)
    good = stage.scheduler.check([Placement(job_id, f"o{where}") for job_id, where in asked], 0)
    assert_nobody_is_delayed(stage, places, good)


@given(st.sampled_from(sorted(PLANNERS)), running, queues)
@settings(max_examples=200, deadline=None)
def test_what_the_built_in_planners_decide_beside_kept_agents_is_right(
    planner: str, runs: list[tuple[Wish, int, float]], queue: list[Wish]
) -> None:
    stage = Stage(planner, runs, queue)
    work = stage.scheduler.prepare(0, 256, NOW)
    plan = work.solve() if work is not None else []
    assert stage.scheduler.check(plan, 0) == plan


@given(running, queues)
@settings(max_examples=200, deadline=None)
def test_what_offers_accept_is_allowed(runs: list[tuple[Wish, int, float]], queue: list[Wish]) -> None:
    """``Room.accepts`` says of one job what the check says."""
    stage = Stage("own", runs, queue)
    work = stage.scheduler.prepare(0, 256, NOW)
    if not isinstance(work, OutsideWork) or work.due():
        return
    shown = work.show(lambda _: 0.0)
    for shape, offer in itertools.product(shown.waiting, shown.offers):
        if offer.room.times(shape.need):
            checked = stage.scheduler.check([Placement(shape.key, offer.id)], 0)
            assert bool(checked) is offer.accepts(shape)


def test_a_job_with_a_place_starts_there_whatever_the_planner_thinks() -> None:
    stage = Stage("own", [], [Wish(8, 0, None, "ann"), Wish(1, 0, None, "bob")])
    assert [place.job for place in stage.scheduler.places.values()] == [1, 2]
    work = stage.scheduler.prepare(0, 256, NOW)
    assert isinstance(work, OutsideWork)
    assert work.due() == [Placement(1, "o0"), Placement(2, "o1")]


def test_a_plan_for_a_kept_agent_counts_as_wrong() -> None:
    stage = Stage(
        "own", [(Wish(4, 0, 400.0, "ann"), where, 950.0) for where in range(3)], [Wish(8, 0, None, "ann")] * 3
    )
    late = job(9, Wish(1, 0, None, "bob"))
    stage.scheduler.add(late)
    work = stage.scheduler.prepare(0, 256, NOW)
    assert isinstance(work, OutsideWork) and work.due() == []
    shown = work.show(lambda _: 0.0)
    one = next(shape for shape in shown.waiting if shape.key == 9)
    assert one.need == Amounts(1000, 0, 0, 0, 0)
    assert [offer.accepts(one) for offer in shown.offers] == [False] * 3
    assert stage.scheduler.check([Placement(9, "o1")], 0) == []
    assert [problem.kind for problem in problems_of(work, [Choice(9, "o1")])] == ["kept"]


def problems_of(work: OutsideWork, choices: list[Choice]) -> list[Problem]:
    try:
        work.adopt(choices)
    except Nonsense as error:
        return [error.problem]
    return []


def test_nothing_is_kept_for_jobs_that_a_planner_leaves_waiting() -> None:
    stage = Stage("own", [(Wish(4, 0, 400.0, "ann"), where, 950.0) for where in range(3)], [Wish(2, 0, None, "bob")])
    stage.scheduler.remove(1)
    stage.scheduler.add(job(2, Wish(2, 0, None, "bob")))
    stage.scheduler.add(job(3, Wish(8, 0, None, "bob")))
    work = stage.scheduler.prepare(0, 256, NOW)
    assert isinstance(work, OutsideWork) and work.due() == []
    work.show(lambda _: 0.0)
    assert work.adopt([]) == []  # job 2 would fit
    stage.scheduler.hold_places(stage.agents, lambda _: 0.0, NOW)
    assert [place.job for place in stage.scheduler.places.values()] == [3]


def test_a_planner_that_places_nothing_is_not_asked_again_before_something_changes() -> None:
    stage = Stage("own", [], [Wish(1, 0, None, "ann")])
    stage.scheduler.patience_s = 0.0
    stage.scheduler.remove(1)
    stage.scheduler.add(job(2, Wish(1, 0, None, "ann")))
    work = stage.scheduler.prepare(0, 256, NOW)
    assert isinstance(work, OutsideWork)
    shown = work.show(lambda _: NOW - 7.0)
    assert [(shape.key, shape.count, shape.waited_s) for shape in shown.waiting] == [(2, 1, 7.0)]
    assert work.adopt([]) == []
    assert stage.scheduler.prepare(0, 256, NOW) is None
    stage.scheduler.try_again()
    assert stage.scheduler.prepare(0, 256, NOW) is not None


def test_no_more_than_the_limit_of_a_plan_is_used() -> None:
    stage = Stage("own", [], [])
    for job_id in range(1, 7):
        stage.scheduler.add(job(job_id, Wish(1, 0, None, "ann")))
    work = stage.scheduler.prepare(0, 4, NOW)
    assert isinstance(work, OutsideWork)
    shown = work.show(lambda _: NOW)
    assert (shown.limit, shown.waiting[0].count) == (4, 6)
    assert work.adopt([Choice(1, "o1", 3), Choice(1, "o0", 3)]) == [
        Placement(1, "o1"),
        Placement(2, "o1"),
        Placement(3, "o1"),
        Placement(4, "o0"),
    ]
