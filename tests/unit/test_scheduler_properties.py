"""The scheduler against a naive planner that looks at everything every time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from retz.model.agent import AttributeValue, Offer
from retz.model.job import Job
from retz.model.resources import Resources, Vector, fits, subtract
from retz.scheduler import scheduler as scheduler_module
from retz.scheduler.constraints import parse
from retz.scheduler.scheduler import Placement, Scheduler, Work

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
    return (job.priority if planner == "priority" else 0, job.id)


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
    """No double placement, no over-commit, constraints hold."""
    assert len({placement.job for placement in placements}) == len(placements)
    left = {offer_id: offer.room for offer_id, offer in offers.items()}
    for job_id, offer_id in placements:
        left[offer_id] = subtract(left[offer_id], jobs[job_id].resources.vector)
        assert parse(jobs[job_id].attributes).matches(offers[offer_id].attributes)
    assert all(min(room) >= 0 for room in left.values())


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
)
def test_check_believes_only_what_is_sound(
    jobs: dict[int, Job], offers: list[Offer], asked: list[tuple[int, str]], max_running: int, running: int
) -> None:
    scheduler = Scheduler(max_running=max_running)
    for job in jobs.values():
        scheduler.add(job)
    scheduler.offer(offers)
    good = scheduler.check([Placement(*each) for each in asked], running)
    assert_sound(good, jobs, {offer.id: offer for offer in offers})
    if max_running:
        assert len(good) <= max(0, max_running - running)


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


TestFifoLife = Life.TestCase
TestFifoLife.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestPriorityLife = PriorityLife.TestCase
TestPriorityLife.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


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
