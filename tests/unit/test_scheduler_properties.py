"""The scheduler against a naive planner that looks at everything every time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from retz.model.agent import Agent, AttributeValue, Offer
from retz.model.job import Attempt, Job
from retz.model.resources import Resources, Vector, fits, from_vector, subtract
from retz.scheduler import scheduler as scheduler_module
from retz.scheduler.constraints import parse
from retz.scheduler.limits import NOTHING, Holding, UserLimits
from retz.scheduler.planner import PLANNERS
from retz.scheduler.plugin import Choice, Situation
from retz.scheduler.scheduler import Placement, Scheduler, Work
from retz.scheduler.shares import WEEK_S
from tests.doubles.planners import as_many_as_fit, unsound
from tests.doubles.simulated_cluster import SimulatedCluster

needs = st.builds(
    Resources,
    cpus=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    mem=st.sampled_from([0, 100, 400]),
    gpus=st.sampled_from([0, 0, 0, 1]),
)
constraints = st.sampled_from(["", "", "", "rack=r1", "!ssd", "level>=3,rack=r1"])
rooms = st.tuples(
    st.sampled_from([500, 1000, 2500, 6000]),
    st.sampled_from([0, 150, 800]),
    st.just(0),
    st.sampled_from([0, 0, 2]),
    st.just(0),
)
attributes: st.SearchStrategy[dict[str, AttributeValue]] = st.sampled_from(
    [{}, {"rack": "r1"}, {"rack": "r1", "level": 3.0}, {"rack": "r2", "ssd": True}]
)
jobs_of = st.fixed_dictionaries(
    {
        "resources": needs,
        "attributes": constraints,
        "priority": st.sampled_from([-5, 0, 5]),
        "owner": st.sampled_from(["ann", "bob"]),
    }
)


def make(job_id: int, fields: dict[str, Any]) -> Job:
    return Job(id=job_id, command="true", submitted=0.0, **fields)


def order(planner: str, job: Job) -> tuple[int, int]:
    return (0 if planner == "fifo" else job.priority, job.id)


def shape(job: Job) -> tuple[Any, ...]:
    return (job.resources.vector, job.attributes, job.owner, job.priority)


def tightness(room: Vector) -> tuple[int, ...]:
    cpus, mem, disk, gpus, ports = room
    return (gpus, cpus, mem, disk, ports)


def naive(planner: str, jobs: dict[int, Job], offers: list[Offer], limit: int) -> list[Placement]:
    """Every job in order, each against every offer."""
    left = {offer.id: offer.room for offer in offers}
    placed: list[Placement] = []
    blocked: set[tuple[Any, ...]] = set()
    for job in sorted(jobs.values(), key=lambda each: order(planner, each)):
        if len(placed) == limit:
            break
        candidates = [
            offer
            for offer in offers
            if fits(job.resources.vector, left[offer.id]) and parse(job.attributes).matches(offer.attributes)
        ]
        if not candidates or shape(job) in blocked:
            blocked.add(shape(job))
            continue
        best = min(candidates, key=lambda offer: tightness(left[offer.id]))
        left[best.id] = subtract(left[best.id], job.resources.vector)
        placed.append(Placement(job.id, best.id))
    return placed


def assert_sound(placements: list[Placement], jobs: dict[int, Job], offers: dict[str, Offer]) -> None:
    """No double placement, no over-commit, constraints hold: the rules of 'retz planner test'."""
    assert unsound(placements, jobs, offers.values()) == []


def assert_order(planner: str, placements: list[Placement], jobs: dict[int, Job]) -> None:
    """No job placed while an earlier one, as easy to place, was not."""
    placed = {placement.job for placement in placements}
    for job_id in placed:
        for other in jobs.values():
            assert (
                other.id in placed
                or order(planner, other) > order(planner, jobs[job_id])
                or other.attributes != jobs[job_id].attributes
                or not fits(other.resources.vector, jobs[job_id].resources.vector)
            )


planners = st.sampled_from(["fifo", "priority"])
many_jobs = st.lists(jobs_of, max_size=40).map(
    lambda fields: {job_id: make(job_id, each) for job_id, each in enumerate(fields, 1)}
)
many_offers = st.lists(st.tuples(rooms, attributes), max_size=14).map(
    lambda pairs: [
        Offer(id=f"o{n}", agent=f"a{n}", room=room, attributes=labels) for n, (room, labels) in enumerate(pairs)
    ]
)


@given(planners, many_jobs, many_offers, st.integers(1, 50), st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=300, deadline=None)
def test_a_pass_equals_the_naive_one(
    planner: str, jobs: dict[int, Job], offers: list[Offer], limit: int, max_running: int, running: int
) -> None:
    scheduler = Scheduler(planner, max_running)
    for job in jobs.values():
        scheduler.add(job)
    scheduler.offer(offers)
    work = scheduler.prepare(running, limit)
    placements = work.solve() if work else []
    free = max(0, max_running - running) if max_running else limit
    assert placements == naive(planner, jobs, offers, min(limit, free))
    assert scheduler.check(placements, running) == placements
    assert_sound(placements, jobs, {offer.id: offer for offer in offers})
    assert_order(planner, placements, jobs)


@given(
    many_jobs,
    many_offers,
    st.lists(st.tuples(st.integers(0, 45), st.sampled_from([f"o{n}" for n in range(16)]))),
    st.integers(0, 8),
    st.integers(0, 8),
    st.sampled_from([UserLimits(), UserLimits(running=2), UserLimits(cpus=3, gpus=1)]),
)
def test_check_believes_only_what_is_sound(
    jobs: dict[int, Job],
    offers: list[Offer],
    asked: list[tuple[int, str]],
    max_running: int,
    running: int,
    limits: UserLimits,
) -> None:
    scheduler = Scheduler(max_running=max_running, user_limits=limits)
    for job in jobs.values():
        scheduler.add(job)
    scheduler.offer(offers)
    good = scheduler.check([Placement(*each) for each in asked], running)
    assert_sound(good, jobs, {offer.id: offer for offer in offers})
    if max_running:
        assert len(good) <= max(0, max_running - running)
    for user in ("ann", "bob"):
        mine = [jobs[job_id] for job_id, _ in good if jobs[job_id].owner == user]
        assert not limits.running or len(mine) <= limits.running
        assert not limits.cpus or sum(job.resources.cpus for job in mine) <= limits.cpus
        assert not limits.gpus or sum(job.resources.gpus for job in mine) <= limits.gpus


class Life(RuleBasedStateMachine):
    """A scheduler over its life: stamps, settled shapes and plans made on old snapshots against the naive truth."""

    planner = "fifo"

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(self.planner)
        self.jobs: dict[int, Job] = {}
        self.gone: dict[int, Job] = {}
        self.last_id = 0
        self.last_offer = 0
        self.work: Work | None = None
        self.plan: list[Placement] | None = None

    @rule(fields=st.lists(jobs_of, min_size=1, max_size=6))
    def submit(self, fields: list[dict[str, Any]]) -> None:
        for each in fields:
            self.last_id += 1
            self.queue(make(self.last_id, each))

    def queue(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.scheduler.add(job)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        self.queue(self.gone.pop(data.draw(st.sampled_from(sorted(self.gone)))))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        self.gone[job_id] = self.jobs.pop(job_id)
        self.scheduler.remove(job_id)

    @rule(room=rooms, labels=attributes)
    def offer(self, room: Vector, labels: dict[str, AttributeValue]) -> None:
        self.last_offer += 1
        self.scheduler.offer(
            [Offer(id=f"o{self.last_offer}", agent=f"a{self.last_offer}", room=room, attributes=labels)]
        )

    @precondition(lambda self: self.scheduler.offers)
    @rule(data=st.data())
    def rescind(self, data: st.DataObject) -> None:
        self.scheduler.rescind([data.draw(st.sampled_from(sorted(self.scheduler.offers)))])

    @precondition(lambda self: self.work is None)
    @rule(limit=st.sampled_from([1, 3, 256]))
    def prepare(self, limit: int) -> None:
        expected = naive(self.planner, self.jobs, list(self.scheduler.offers.values()), limit)
        self.work = self.scheduler.prepare(0, limit)
        if self.work is None:
            assert expected == []
            idle = self.scheduler.idle_offers()
            assert sorted(idle) == sorted(self.scheduler.offers)
        else:
            self.expected = expected

    @precondition(lambda self: self.work is not None and self.plan is None)
    @rule()
    def solve(self) -> None:
        assert self.work is not None
        self.plan = self.work.solve()
        assert self.plan == self.expected

    @precondition(lambda self: self.work is not None and self.plan is None)
    @rule()
    def give_up(self) -> None:
        self.work = None

    @precondition(lambda self: self.plan is not None)
    @rule(use=st.sampled_from(["all", "all", "half", "none"]))
    def check_and_use(self, use: str) -> None:
        assert self.plan is not None
        offers = dict(self.scheduler.offers)
        good = self.scheduler.check(self.plan, 0)
        assert_sound(good, self.jobs, offers)
        self.work = self.plan = None
        for index, offer_id in enumerate(dict.fromkeys(placement.offer for placement in good)):
            ids = [placement.job for placement in good if placement.offer == offer_id]
            if use == "none" or (use == "half" and index % 2):
                continue
            assert self.scheduler.use(offer_id, ids) is offers[offer_id]
            for job_id in ids:
                self.gone[job_id] = self.jobs.pop(job_id)

    @invariant()
    def membership(self) -> None:
        assert len(self.scheduler) == len(self.jobs)
        assert self.scheduler.shapes == len({shape(job) for job in self.jobs.values()})
        assert all(job_id in self.scheduler for job_id in self.jobs)
        assert not any(job_id in self.scheduler for job_id in self.gone)

    @invariant()
    def ahead(self) -> None:
        ordered = sorted(self.jobs, key=lambda job_id: order(self.planner, self.jobs[job_id]))
        for place, job_id in enumerate(ordered):
            assert self.scheduler.ahead(job_id) == place
            assert self.scheduler.ahead_ids(job_id, 4) == ordered[: min(4, place)]

    @invariant()
    def idle_offers_are_idle(self) -> None:
        for offer_id in self.scheduler.idle_offers():
            offer = self.scheduler.offers[offer_id]
            for job in self.jobs.values():
                assert not (fits(job.resources.vector, offer.room) and parse(job.attributes).matches(offer.attributes))


class PriorityLife(Life):
    planner = "priority"


class FairLife(Life):
    """In a cluster of unknown size all shares are equal: priorities decide, and users take turns in counting."""

    planner = "fair"

    @invariant()
    def ahead(self) -> None:
        for job_id, job in self.jobs.items():
            before = [other for other in self.jobs.values() if order("fair", other) < order("fair", job)]
            mine = sorted((other for other in before if other.owner == job.owner), key=lambda j: order("fair", j))
            others = sum(other.owner != job.owner for other in self.jobs.values())
            assert self.scheduler.ahead(job_id) == len(mine) + min(others, len(mine))
            assert self.scheduler.ahead_ids(job_id, 4) == [other.id for other in mine[:4]]


TestFifoLife = Life.TestCase
TestFifoLife.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPriorityLife = PriorityLife.TestCase
TestPriorityLife.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestFairLife = FairLife.TestCase
TestFairLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(many_jobs, many_offers)
@settings(deadline=None)
def test_small_snapshots_place_the_same_in_more_passes(jobs: dict[int, Job], offers: list[Offer]) -> None:
    """With next to nothing copied, passes that stop early still come to the naive plan, offers unchanged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler_module, "COPIED_SHAPES", 1)
        patch.setattr(scheduler_module, "PENDING_LIMIT", 1)
        scheduler = Scheduler()
        for job in jobs.values():
            scheduler.add(job)
        scheduler.offer(offers)
        expected = naive("fifo", jobs, offers, 256)
        work = scheduler.prepare(0)
        placements = work.solve() if work else []
        assert placements == expected[: len(placements)]
        assert bool(placements) is bool(expected)


# -- fair, limits, places: one pass against the naive one ------------------------------------------------

CAPACITY: Vector = (20_000, 4000, 0, 4, 0)


def naive_fair(
    jobs: dict[int, Job], offers: list[Offer], held: dict[str, Vector], limits: UserLimits, limit: int
) -> list[Placement]:
    """At every step the user with the least share, and of the user's jobs the first that can be placed."""
    left = {offer.id: offer.room for offer in offers}
    holding = {user: Holding(amounts != NOTHING, amounts) for user, amounts in held.items()}
    placed: list[Placement] = []
    out: set[tuple[Any, ...]] = set()

    def turn(job: Job) -> tuple[float, int, int]:
        amounts = holding[job.owner].amounts
        share = max(amounts[index] / CAPACITY[index] for index in (0, 1, 3))
        return (WEEK_S / 28 * share, job.priority, job.id)

    waiting = dict(jobs)
    while waiting and len(placed) < limit:
        job = min(waiting.values(), key=turn)
        del waiting[job.id]
        need = job.resources.vector
        candidates = [
            offer for offer in offers if fits(need, left[offer.id]) and parse(job.attributes).matches(offer.attributes)
        ]
        if shape(job) in out or not candidates or not limits.admits(holding[job.owner], need):
            out.add(shape(job))
            continue
        best = min(candidates, key=lambda offer: tightness(left[offer.id]))
        left[best.id] = subtract(left[best.id], need)
        holding[job.owner] = holding[job.owner].plus(need)
        placed.append(Placement(job.id, best.id))
    return placed


user_limits = st.builds(
    UserLimits,
    running=st.sampled_from([0, 0, 2, 5]),
    cpus=st.sampled_from([0, 0, 4, 6]),
    mem=st.sampled_from([0, 500]),
    gpus=st.sampled_from([0, 1]),
)
amounts_held = st.sampled_from([NOTHING, (1000, 100, 0, 0, 0), (4000, 0, 0, 1, 0)])


@given(many_jobs, many_offers, st.tuples(amounts_held, amounts_held), user_limits, st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_a_fair_pass_equals_the_naive_one(
    jobs: dict[int, Job], offers: list[Offer], amounts: tuple[Vector, Vector], limits: UserLimits, limit: int
) -> None:
    held = dict(zip(("ann", "bob"), amounts, strict=True))
    scheduler = Scheduler("fair", user_limits=limits)
    assert scheduler.shares is not None
    scheduler.shares.resize(CAPACITY, 0.0)
    for number, (user, amount) in enumerate(held.items()):
        if amount != NOTHING:
            attempts = (Attempt(1, "elsewhere", 0.0),)
            fields = {"owner": user, "resources": from_vector(amount), "attempts": attempts}
            scheduler.started(make(900 + number, fields), 0.0)
    for job in jobs.values():
        scheduler.add(job)
    scheduler.offer(offers)
    work = scheduler.prepare(0, limit)
    placements = work.solve() if work else []
    assert placements == naive_fair(jobs, offers, held, limits, limit)
    assert scheduler.check(placements, 0) == placements
    assert_sound(placements, jobs, {offer.id: offer for offer in offers})


# -- every planner in simulated time ---------------------------------------------------------------------

every_planner = st.sampled_from(sorted(PLANNERS))
machines = st.lists(
    st.tuples(st.sampled_from([2, 4, 8]), st.sampled_from([0, 0, 2]), attributes), min_size=1, max_size=4
).map(
    lambda kinds: [
        Agent(id=f"a{n}", host=f"h{n}", total=Resources(cpus=cpus, mem=1000, gpus=gpus), attributes=labels)
        for n, (cpus, gpus, labels) in enumerate(kinds)
    ]
)
arrivals = st.lists(
    st.tuples(
        jobs_of,
        st.sampled_from([0.0, 10.0, 200.0]),  # after the one before
        st.sampled_from([5.0, 60.0, 600.0]),  # runs so long
        st.sampled_from([None, 600.0, 1000.0]),  # time limit
    ),
    max_size=40,
)


@given(every_planner, machines, arrivals, user_limits, st.sampled_from([0.0, 30.0]))
@settings(max_examples=80, deadline=None)
def test_what_can_run_runs_once_within_all_limits(
    planner: str, agents: list[Agent], jobs: list[Any], limits: UserLimits, patience_s: float
) -> None:
    """The simulation itself checks rooms, attributes and limits at every start."""
    cluster = SimulatedCluster(Scheduler(planner, user_limits=limits, patience_s=patience_s), agents, 60.0)
    possible: set[int] = set()
    for job_id, (fields, pause, run_s, limit_s) in enumerate(jobs, 1):
        cluster.run(cluster.now + pause)
        job = Job(id=job_id, command="true", submitted=0.0, timeout_s=limit_s, **fields)
        cluster.submit(job, run_s)
        need = job.resources.vector
        if limits.alone(need) is None and any(
            fits(need, agent.total.vector) and parse(job.attributes).matches(agent.attributes) for agent in agents
        ):
            possible.add(job_id)
    cluster.run(cluster.now + 600.0 * 45)
    assert set(cluster.ended) == possible
    assert not cluster.running


class NewestFirst:
    """A planner of a user's own that prefers whoever came last: without patience old jobs would wait for ever."""

    def plan(self, situation: Situation) -> Iterator[Choice]:
        return as_many_as_fit(situation, reversed(situation.waiting))


@given(
    st.sampled_from([*PLANNERS, "own"]),
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 1.0, 2.0, 3.0]), st.sampled_from([20.0, 90.0, 300.0]), st.sampled_from([0.3, 1.0])
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 3),
    st.integers(0, 10_000),
)
@settings(max_examples=100, deadline=None)
def test_nothing_starves_under_patience(
    planner: str, users: list[tuple[float, float, float]], agent_count: int, salt: int
) -> None:
    """A job that needs a whole machine starts in bounded time, however busy others are.

    In order of submission, and with planners of users' own: within patience, longest time limit and a look, after
    all before it have started. Where users take turns: within patience and twice the longest time limit and a look,
    for a job of a user whose score is the least. docs/architecture.md has the proof.
    """
    patience_s, longest, look_s = 100.0, 300.0, 5.0
    agents = [Agent(id=f"a{n}", host=f"h{n}", total=Resources(cpus=4)) for n in range(agent_count)]
    own = NewestFirst() if planner == "own" else None
    scheduler = Scheduler(planner, patience_s=patience_s, outside=own is not None)
    cluster = SimulatedCluster(scheduler, agents, look_s, own)
    ids = itertools.count(1)
    dice = random.Random(salt)
    wants = {f"user{number}": want for number, want in enumerate(users)}

    def small(user: str) -> None:
        cpus, limit_s, least = wants[user]
        job = Job(
            id=next(ids),
            owner=user,
            command="true",
            resources=Resources(cpus=cpus),
            submitted=0.0,
            timeout_s=limit_s,
            kill_grace_s=0.0,
        )
        cluster.submit(job, limit_s * dice.uniform(least, 1.0))

    for user in wants:
        for _ in range(4 * agent_count):
            small(user)
    cluster.on_end = lambda ended: small(ended.owner) if ended.owner in wants else None
    cluster.run(dice.uniform(0.0, 500.0))
    big = Job(id=next(ids), owner="big", command="true", resources=Resources(cpus=4), submitted=0.0)
    begin = cluster.now
    cluster.submit(big, 10.0)
    while big.id not in cluster.started and cluster.now < begin + 5000.0:
        cluster.run(cluster.now + 100.0)
    # What was in the queue before it goes first; where users take turns, only the first job of each.
    owners = {job_id: cluster.jobs[job_id][0].owner for job_id in cluster.started if job_id < big.id}
    first_of_each = {owner: job_id for job_id, owner in sorted(owners.items(), reverse=True)}.values()
    before = first_of_each if planner == "fair" else owners
    begin = max([begin, *(cluster.started[job_id] for job_id in before)])
    turns = 2 if planner == "fair" else 1
    assert cluster.started[big.id] <= begin + patience_s + turns * (longest + look_s)
