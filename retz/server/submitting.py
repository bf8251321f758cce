"""Submissions: all of a request's jobs or none, durable before the answer, and once under one key."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from msgspec.structs import replace

from retz.model.array import parse_array
from retz.model.job import Job
from retz.model.submission import JobSpec, Submission
from retz.model.user import User
from retz.store.database import Bulk, Change

from .dependencies import with_dependencies
from .problem import Problem
from .skylines.runs import fresh_run

if TYPE_CHECKING:
    from .core import Core

SLICE = 200
"""Jobs handled between two yields to the loop: about 2 ms."""


class Submissions:
    """The way in. All methods are called on the event loop's thread."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._submitting: dict[str, asyncio.Future[None]] = {}
        self._arriving: Counter[str] = Counter()
        """Jobs (every task of an array counted) of bulks that are in the journal and not yet in memory, by owner."""

    async def submit(
        self, user: User, specs: Sequence[JobSpec], key: str | None, digest: str, repeats: Sequence[int] = ()
    ) -> tuple[Sequence[int], bool]:
        """Accept all of ``specs`` or none; durable on return.

        Args:
            key: The client's submission key: repeating it within a day gives the same jobs.
            digest: Digest of the request's body, to tell a repetition from a mistake.
            repeats: For each spec the job that it was made of, if they were made of jobs.

        Returns:
            The ids in order, and whether this was a repetition.

        Raises:
            Problem: ``unprocessable``, ``conflict`` or ``unavailable``.
        """
        self._core.require_writable()
        if not _alone(specs):
            await self._core.learner.prepare(user.key, specs, self._core.admission.is_sized)
        if key is None:
            self._require_accepting()
            return await self._accept(user, specs, None, digest, repeats), False
        name = f"{user.key}/{key}"
        while (pending := self._submitting.get(name)) is not None:
            await asyncio.wait([pending])
        remembered = self._core.db.submissions.record(name)
        if remembered is not None:
            if remembered.digest != digest:
                raise Problem("conflict", f"submission key {key!r} was used for another request; take a fresh key")
            await self._core.dispatcher.settled()
            return remembered.ids or range(remembered.first, remembered.first + remembered.count), True
        self._require_accepting()
        done = self._submitting[name] = asyncio.get_running_loop().create_future()
        try:
            return await self._accept(user, specs, name, digest, repeats), False
        finally:
            del self._submitting[name]
            done.set_result(None)

    async def _accept(
        self, user: User, specs: Sequence[JobSpec], name: str | None, digest: str, repeats: Sequence[int]
    ) -> Sequence[int]:
        now = self._core.clock()
        count = len(specs)
        if self._core.config.max_user_queued:
            self._require_room(user, count if count > SLICE else sum(map(_tasks, specs)))
        if count <= SLICE:
            # The ids are taken once all is known to be right: what is refused uses none up.
            ids: Sequence[int] = self._core.db.next_ids(count)
            jobs = self._core.admission.build(specs, user.key, ids, now)
            taken: list[Change] = []
            if _alone(specs):
                self._core.db.reserve_ids(count)
            else:
                self._require_groups(user, specs)
                ids, taken = self._reserve(specs)
                jobs = with_dependencies(_numbered(jobs, ids), specs, ids, 0, lambda job_id: self.found(user, job_id))
                jobs = _in_runs(jobs, now, ids[0])
            jobs = _marked(jobs, repeats)
            await self._core.dispatcher.accept(jobs, [*self._remember(name, digest, ids, now), *taken])
            return ids
        return await self._accept_many(user, specs, name, digest, now, repeats)

    async def _accept_many(
        self,
        user: User,
        specs: Sequence[JobSpec],
        name: str | None,
        digest: str,
        now: float,
        repeats: Sequence[int],
    ) -> Sequence[int]:
        """The same in slices, so that the loop is never held: check all, then encode all, then one atomic line."""
        slices = range(0, len(specs), SLICE)
        built: list[list[Job]] = []
        waiting = 0
        self._require_groups(user, specs)
        ids, taken = self._reserve(specs)
        for start in slices:
            part = slice(start, start + SLICE)
            jobs = self._core.admission.build(specs[part], user.key, ids[part], now, base=start)
            jobs = with_dependencies(jobs, specs[part], ids, start, lambda job_id: self.found(user, job_id))
            built.append(_in_runs(_marked(jobs, repeats[part]), now, ids[0]))
            waiting += sum(map(_waiting, jobs))
            await asyncio.sleep(0)
        bulk = self._core.db.bulk()
        # First, so that it comes to memory in the same turn as to the journal.
        bulk.encode([*self._remember(name, digest, ids, now), *taken])
        for jobs in built:
            bulk.encode([Change("jobs", job.id, job) for job in jobs])
            await asyncio.sleep(0)
        self._core.require_writable()
        self._require_accepting()
        if self._core.config.max_user_queued:
            self._require_room(user, waiting)  # again: others of this user's may have come meanwhile
        ticket = bulk.commit()
        self._arriving[user.key] += waiting
        self._core.dispatcher.follow_ticket(ticket)
        self._absorb(bulk)
        # What is in the journal must come to memory whole, whatever becomes of the request.
        await asyncio.shield(self._absorb_rest(bulk))
        await ticket
        return ids

    def found(self, user: User, job_id: int) -> Job | None:
        """A job that the user may see."""
        job = self._core.find(job_id)
        return job if job is not None and (job.owner == user.key or user.admin) else None

    def _require_groups(self, user: User, specs: Sequence[JobSpec]) -> None:
        """Refuse jobs of a group that has failed too often and is on its way out: they would only be killed."""
        for name, max_fails in dict.fromkeys((spec.group, spec.max_fails) for spec in specs):
            if name is not None and self._core.dispatcher.following.groups.tripped(user.key, name, max_fails):
                raise Problem(
                    "conflict",
                    f"group {name!r} has had as many failures as its --max-fails allows; wait until what still runs of"
                    " it has ended, or take another name",
                )

    def _reserve(self, specs: Sequence[JobSpec]) -> tuple[Sequence[int], list[Change]]:
        """Ids for these jobs, each array's followed by those of its tasks; and what must be recorded with them."""
        if not any(spec.array for spec in specs):
            return self._core.db.reserve_ids(len(specs)), []
        sizes = [1 + _tasks(spec) if spec.array else 1 for spec in specs]
        block = self._core.db.reserve_ids(sum(sizes))
        ids = [block[0] + before for before in accumulate(sizes[:-1], initial=0)]
        # Tasks get records later, or never: the store would not know after a restart that their ids are taken.
        return ids, [Change("meta", "ids", {"jobs": block[-1]})]

    def _absorb(self, bulk: Bulk) -> bool:
        changes = bulk.absorb(SLICE)
        jobs = [change.record for change in changes if change.table == "jobs"]
        for job in jobs:
            self._arriving[job.owner] -= _waiting(job)
        self._core.dispatcher.enqueue(jobs)
        self._core.dispatcher.plan_soon()
        return bool(changes)

    async def _absorb_rest(self, bulk: Bulk) -> None:
        more = True
        while more:
            await asyncio.sleep(0)
            more = self._absorb(bulk)

    @staticmethod
    def _remember(name: str | None, digest: str, ids: Sequence[int], now: float) -> list[Change]:
        if name is None or not ids:
            return []
        block = isinstance(ids, range)
        record = Submission(
            id=name, digest=digest, first=ids[0], count=len(ids), at=now, ids=() if block else tuple(ids)
        )
        return [Change("submissions", name, record)]

    def _require_room(self, user: User, more: int) -> None:
        """Raise unless the user may have so many more jobs waiting. To be asked only where there is a bound."""
        most = self._core.config.max_user_queued
        waiting = self._core.db.jobs.waiting(user.key) + self._arriving[user.key]
        if waiting + more > most:
            raise Problem(
                "unprocessable",
                f"you have {waiting} jobs waiting, and with {more} more you would have more than {most} "
                "(retz.max.user.queued): submit fewer, or wait until some have started",
            )

    def _require_accepting(self) -> None:
        if self._core.mode == "draining":
            raise Problem("unavailable", "the queue is draining and accepts no jobs; 'retz drain --resume' opens it")


def _alone(specs: Sequence[JobSpec]) -> bool:
    """Whether these jobs have to do with no other ones: most requests, which then pay for nothing of it."""
    for spec in specs:  # noqa: SIM110 (a generator costs a request of one job more than all the rest of this)
        if spec.after or spec.array or spec.group or spec.pipeline:
            return False
    return True


def _numbered(jobs: list[Job], ids: Sequence[int]) -> list[Job]:
    return [replace(job, id=job_id) for job, job_id in zip(jobs, ids, strict=True)]


def _marked(jobs: list[Job], repeats: Sequence[int]) -> list[Job]:
    """The same jobs, saying which ones they repeat."""
    if not repeats:
        return jobs
    return [replace(job, resubmit_of=source) for job, source in zip(jobs, repeats, strict=True)]


def _in_runs(jobs: list[Job], now: float, first: int) -> list[Job]:
    """The same jobs; those of a pipeline that name no run are together its fresh one."""
    if not any(job.pipeline is not None and job.run is None for job in jobs):
        return jobs
    run = fresh_run(now, first)
    return [replace(job, run=run) if job.pipeline is not None and job.run is None else job for job in jobs]


def _waiting(job: Job) -> int:
    """How many jobs a new record is."""
    return 1 if job.array is None else job.array.size


def _tasks(spec: JobSpec) -> int:
    """How many jobs it becomes; what is no array is refused later, with its place in the request."""
    try:
        return 1 if spec.array is None else parse_array(spec.array).size
    except ValueError:
        return 1
