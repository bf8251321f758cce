"""Planners: the scheduler's own as if they were a user's, so that both are proved alike; and a simple one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from retz.model.agent import Offer
from retz.model.job import Job
from retz.model.resources import Resources
from retz.scheduler.plugin import Amounts, Choice, Room, Situation, Waiting, problems
from retz.scheduler.scheduler import Scheduler
from retz.scheduler.work import Placement


def as_many_as_fit(situation: Situation, shapes: Iterable[Waiting]) -> Iterator[Choice]:
    """Place these shapes one after the other, each on the first offers that have room."""
    free = {offer.id: offer.room for offer in situation.offers}
    for shape in shapes:
        left = shape.count
        for offer in situation.offers:
            jobs = min(left, free[offer.id].times(shape.need))
            if jobs and offer.accepts(shape):
                yield Choice(shape.key, offer.id, jobs)
                free[offer.id] = free[offer.id].less(shape.need, jobs)
                left -= jobs


class BuiltIn:
    """A planner of the scheduler's as one of a user's own: what it decides in a situation."""

    def __init__(self, name: str) -> None:
        self._name = name

    def plan(self, situation: Situation) -> list[Choice]:
        """One pass of the scheduler."""
        scheduler = Scheduler(self._name)
        fresh = max((shape.key for shape in situation.waiting), default=0) + 1
        keys: dict[int, int] = {}
        for shape in situation.waiting:
            # A pass places no more than the limit, so more jobs than that need not be there.
            ids = [shape.key, *range(fresh, fresh + min(shape.count, situation.limit) - 1)]
            fresh += len(ids) - 1
            for job_id in ids:
                keys[job_id] = shape.key
                scheduler.add(_job(job_id, shape))
        # Who holds a place is the scheduler's own business: here such agents are left alone.
        scheduler.offer(_offer(room) for room in situation.offers if room.kept is None)
        work = scheduler.prepare(0, situation.limit, situation.now)
        placements = scheduler.check(work.solve(), 0) if work is not None else []
        return [Choice(keys[job_id], offer) for job_id, offer in placements]


def _job(job_id: int, shape: Waiting) -> Job:
    cpus, mem, disk, gpus, ports = shape.need
    return Job(
        id=job_id,
        owner=shape.owner,
        command="true",
        resources=Resources(cpus / 1000, mem, disk, gpus, ports),
        attributes=shape.attributes,
        priority=shape.priority,
        timeout_s=None if shape.limit_s == math.inf else shape.limit_s,
        kill_grace_s=0.0,
        submitted=0.0,
    )


def _offer(room: Room) -> Offer:
    return Offer(id=room.id, agent=room.agent, host=room.host, room=room.room, attributes=room.attributes)


def unsound(placements: Iterable[Placement], jobs: Mapping[int, Job], offers: Iterable[Offer]) -> list[str]:
    """What is wrong with placements: the same rules, for jobs one by one."""
    waiting = tuple(
        Waiting(job_id, Amounts(*job.resources.vector), job.attributes, job.owner, job.priority, math.inf, 1, 0.0)
        for job_id, job in jobs.items()
    )
    rooms = tuple(Room(offer.id, offer.agent, offer.host, Amounts(*offer.room), offer.attributes) for offer in offers)
    shown = Situation(0.0, len(waiting), 0, waiting, rooms)
    return [text for _, text in problems(shown, [Choice(job_id, offer) for job_id, offer in placements])]
