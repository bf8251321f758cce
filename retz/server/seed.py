"""``python -m retz.server.seed DIRECTORY``: give a new data directory users and a past, told as JSON on standard input.

For demonstrations and tests: a server that starts there looks as if it had served for a day. What plots need
(the aggregates) is worked out from the jobs; the skylines of their runs are made by the server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from retz.engine.local.machine import agent_id
from retz.model.job import ENDED_STATES, Job
from retz.model.resources import Resources, Vector, add, from_vector, subtract
from retz.model.user import User
from retz.store.aggregates import AggregateStore, MinuteCollector
from retz.store.archive import Archive
from retz.store.database import Change, Database

SAMPLE_S = 20.0


class Seed(Struct):
    """What a directory is given.

    Attributes:
        users: All of them; the first administrator is the one whose credentials the server writes down.
        jobs: Ended ones and queued ones, in any order; an attempt on agent ``local`` was on this machine.
        total: What the cluster had.
        until: The time that all this leads up to, epoch seconds.
    """

    users: list[User]
    jobs: list[Job]
    total: Resources
    until: float


class Levels:
    """Who waits and who holds what, as time goes on."""

    def __init__(self) -> None:
        self.queued = self.running = 0
        self.by_user: dict[str, Vector] = {}

    def submitted(self, _job: Job) -> None:
        """It waits."""
        self.queued += 1

    def started(self, job: Job) -> None:
        """It holds what it asked for."""
        self.queued -= 1
        self.running += 1
        self.by_user[job.owner] = add(self.by_user.get(job.owner, (0,) * 5), job.resources.vector)

    def ended(self, job: Job) -> None:
        """It holds nothing any more."""
        if job.started is None:
            self.queued -= 1
            return
        self.running -= 1
        self.by_user[job.owner] = subtract(self.by_user[job.owner], job.resources.vector)

    def sample(self, collector: MinuteCollector, store: AggregateStore, now: float, total: Resources) -> None:
        """Tell the collector; what it gives out is kept."""
        used: Vector = (0, 0, 0, 0, 0)
        for amount in self.by_user.values():
            used = add(used, amount)
        by_user = {user: from_vector(amount) for user, amount in self.by_user.items() if any(amount)}
        for point in collector.sample(now, self.queued, self.running, total, from_vector(used), by_user):
            store.append(point)


def at_home(job: Job, agent: str) -> Job:
    """The job with the true id of this machine's agent."""
    attempts = [replace(each, agent=agent) if each.agent == "local" else each for each in job.attempts]
    return replace(job, attempts=tuple(attempts))


def changes(jobs: list[Job]) -> Iterator[tuple[float, int, Job]]:
    """(when, what, job): 0 submitted, 1 started, 2 ended."""
    for job in jobs:
        yield job.submitted, 0, job
        if job.started is not None:
            yield job.started, 1, job
        if job.ended is not None:
            yield job.ended, 2, job


def aggregate(seed: Seed, store: AggregateStore) -> None:
    """Write the minutes."""
    collector, levels = MinuteCollector(), Levels()
    ordered = sorted(changes(seed.jobs), key=lambda change: change[:2])
    now = ordered[0][0] if ordered else seed.until
    for at, what, job in ordered:
        while now + SAMPLE_S <= at:
            now += SAMPLE_S
            levels.sample(collector, store, now, seed.total)
        if what == 0:
            collector.submitted(job)
            levels.submitted(job)
        elif what == 1:
            collector.launched(job, at - job.submitted)
            levels.started(job)
        else:
            collector.ended(job)
            levels.ended(job)
    levels.sample(collector, store, seed.until, seed.total)


async def keep(seed: Seed, directory: Path) -> None:
    """Write users, queued and ended jobs."""
    archive = Archive.open(directory / "archive")
    with contextlib.closing(archive), contextlib.closing(Database.open(directory)) as db:
        archive.append([job for job in seed.jobs if job.state in ENDED_STATES])
        db.reserve_above(archive.max_id)
        db.attach(asyncio.get_running_loop())
        users = [Change("users", user.key, user) for user in seed.users]
        await db.apply([*users, *(Change("jobs", job.id, job) for job in seed.jobs if job.state == "QUEUED")])


def main() -> None:
    """Read, and fill the directory.

    Raises:
        SystemExit: there is a store already.
    """
    directory = Path(sys.argv[1])
    if (directory / "store").exists():
        raise SystemExit(f"{directory} is a server's already: seed a new directory")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    seed = msgspec.json.decode(sys.stdin.buffer.read(), type=Seed)
    own = directory / "local"
    own.mkdir(mode=0o700)
    agent = agent_id(own)
    seed.jobs = [at_home(job, agent) for job in seed.jobs]
    asyncio.run(keep(seed, directory))
    aggregate(seed, AggregateStore(directory / "aggregates"))


if __name__ == "__main__":
    main()
