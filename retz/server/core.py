"""The server without HTTP: what a user may ask for, in terms of records.

:class:`Core` joins store, archive, scheduler and engine. Reads answer from memory; writes go through the
:class:`~retz.server.dispatcher.Dispatcher`, the one owner of job state, and return once durable.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from retz import __version__
from retz.array_life import id_at
from retz.config_server import ServerConfig
from retz.engine.base import Engine
from retz.lifecycle import Event, Hold, Kill, Release, Reprioritise
from retz.model.agent import Agent
from retz.model.application import Application
from retz.model.array import parse_array
from retz.model.job import ENDED_STATES, LIVE_STATES, MAX_PRIORITY, MIN_PRIORITY, Job, State
from retz.model.resources import Resources, from_vector
from retz.model.submission import JobSpec, ResourcesSpec, Submission
from retz.model.user import User
from retz.scheduler.scheduler import Scheduler
from retz.store.aggregates import AggregateStore, MinuteCollector
from retz.store.archive import Archive
from retz.store.database import Bulk, Change, Database, Ticket

from . import unix_users
from .admission import Admission
from .audit import Actor, Audit, named
from .counters import Counters
from .dependencies import with_dependencies
from .dispatcher import Dispatcher, Mode
from .problem import Problem
from .shares import Sums, shares, sums
from .skylines.recorder import Skylines
from .skylines.runs import fresh_run
from .tasks import array_variables
from .users import Users

Action = Literal["kill", "hold", "release", "update", "resubmit"]

SLICE = 200
"""Jobs handled between two yields to the loop: about 2 ms."""


class ActionResult(Struct, kw_only=True):
    """What became of one job of a bulk action."""

    id: int
    ok: bool
    state: State | None = None
    new_id: int | None = None
    error: str | None = None
    code: str | None = None


class Core:
    """See the module's text. All methods are called on the event loop's thread."""

    def __init__(
        self,
        *,
        db: Database,
        archive: Archive,
        aggregates: AggregateStore,
        scheduler: Scheduler,
        engine: Engine,
        config: ServerConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.db = db
        self.archive = archive
        self.aggregates = aggregates
        self.scheduler = scheduler
        self.engine = engine
        self.config = config
        self.clock = clock
        self.version = __version__
        self.started_at = clock()
        self.counters = Counters()
        self.collector = MinuteCollector()
        self.admission = Admission(
            config,
            engine.agents,
            lambda key: db.applications.record(key),
            engine.honours,
            lambda key: db.users.record(key),
        )
        self.skylines = Skylines(self)
        self.dispatcher = Dispatcher(
            db,
            scheduler,
            engine,
            clock=clock,
            counters=self.counters,
            collector=self.collector,
            on_agents_changed=self.admission.agents_changed,
            runs=self.skylines.runs if config.estimator_enabled else None,
            archived=archive.get,
        )
        self.audit = Audit(db.audit, clock)
        self.users = Users(db.users, self.dispatcher.apply, self.audit, config, clock)
        self.metering = asyncio.Lock()
        self._submitting: dict[str, asyncio.Future[None]] = {}
        self._arriving: Counter[str] = Counter()
        """Jobs of bulks that are in the journal and not yet in memory, by owner."""

    # -- state -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring back the queue's mode, adopt what runs, begin to plan."""
        saved = self.db.meta.record("queue")
        if saved is not None:
            self.dispatcher.mode = saved["mode"]
        taken = self.db.meta.record("ids")
        if taken is not None:
            self.db.reserve_above(taken["jobs"])
        await self.dispatcher.start()

    async def stop(self) -> None:
        """Start nothing more; jobs keep running; everything applied becomes durable."""
        await self.dispatcher.stop()
        if self.read_only is None:
            await self.dispatcher.settled()

    @property
    def mode(self) -> Mode:
        """Whether the queue accepts and starts jobs."""
        return self.dispatcher.mode

    @property
    def read_only(self) -> str | None:
        """Why nothing can be changed any more, after a failed write; None while all is well."""
        return self.db.failed

    @property
    def engine_failure(self) -> str | None:
        """What the engine complains about, if it does."""
        return self.dispatcher.engine_failure

    async def settled(self) -> None:
        """Wait until everything that a read could show now is durable."""
        if self.db.failed is None:
            await self.dispatcher.settled()

    def running(self) -> int:
        """Number of jobs that hold resources."""
        return len(self.dispatcher.ledger.running)

    def used(self, agent: Agent) -> Resources:
        """Amounts held of an agent; at most all of it: a task in line behind a short one holds nothing yet."""
        return from_vector(shares(agent, self.dispatcher.ledger.by_agent[agent.id]).used)

    def free(self) -> dict[str, Resources]:
        """Amounts that nobody holds, per agent: neither we nor others who share the machine."""
        by_agent = self.dispatcher.ledger.by_agent
        return {agent.id: from_vector(shares(agent, by_agent[agent.id]).free) for agent in self.engine.agents()}

    def sums(self) -> Sums:
        """Amounts of all agents, and held of all."""
        return sums(self.engine.agents(), self.dispatcher.ledger.by_agent)

    def agents(self) -> Sequence[Agent]:
        """All agents known now."""
        return self.engine.agents()

    def find(self, job_id: int) -> Job | None:
        """A job, live or archived, or a task of a live array that has no record yet."""
        job = self.dispatcher.following.find(job_id)
        return job if job is not None else self.archive.get(job_id)

    def task_id(self, user: User, array_id: int, index: int) -> int:
        """The job id of the array's task with this index.

        Raises:
            Problem: ``not-found``.
        """
        array = self.visible(user, array_id)
        place = None if array.array is None else array.array.place_of(index)
        if place is None:
            raise Problem("not-found", f"no such job: {array_id}_{index}")
        return id_at(array, place)

    def visible(self, user: User, job_id: int) -> Job:
        """The user's own job, or any job for an admin.

        Raises:
            Problem: ``not-found``; somebody else's job is answered exactly as one that does not exist.
        """
        job = self.find(job_id)
        if job is None or (job.owner != user.key and not user.admin):
            raise Problem("not-found", f"no such job: {job_id}")
        return job

    def newest(self, user: User) -> int | None:
        """Id of the user's newest job, live or ended; None if there never was one."""
        ids = self.db.jobs.ids("owner", user.key)
        # A job that ended at once is in the archive before older ones are.
        return max(ids[-1] if ids else 0, self.archive.newest(user.key) or 0) or None

    async def ended(self, job_id: int, timeout_s: float) -> Job:
        """The job once it has durably ended, or as it is after the timeout.

        Raises:
            Problem: ``not-found``.
            StoreFailed: it seems to have ended, but whether a restart will think so too is not certain.
        """
        job = self.dispatcher.following.find(job_id)
        if job is not None and job.state not in ENDED_STATES:
            await self.dispatcher.wait_ended(job_id, timeout_s)
        await self.settled()
        found = self.find(job_id)
        if found is None:
            raise Problem("not-found", f"no such job: {job_id}")
        if found.state in ENDED_STATES:
            await self.dispatcher.settled()
        return found

    # -- submitting ----------------------------------------------------------------------------------------

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
        self.require_writable()
        if key is None:
            self._require_accepting()
            return await self._accept(user, specs, None, digest, repeats), False
        name = f"{user.key}/{key}"
        while (pending := self._submitting.get(name)) is not None:
            await asyncio.wait([pending])
        remembered = self.db.submissions.record(name)
        if remembered is not None:
            if remembered.digest != digest:
                raise Problem("conflict", f"submission key {key!r} was used for another request; take a fresh key")
            await self.dispatcher.settled()
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
        now = self.clock()
        count = len(specs)
        self._require_room(user, specs)
        if count <= SLICE:
            jobs = self.admission.build(specs, user.key, range(count), now)
            self._require_groups(user, specs)
            ids, taken = self._reserve(specs)
            jobs = with_dependencies(jobs, specs, ids, 0, lambda job_id: self._found(user, job_id))
            jobs = _marked([replace(job, id=job_id) for job, job_id in zip(jobs, ids, strict=True)], repeats)
            jobs = _in_runs(jobs, now, ids[0])
            await self.dispatcher.accept(jobs, [*self._remember(name, digest, ids, now), *taken])
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
        self._require_groups(user, specs)
        ids, taken = self._reserve(specs)
        for start in slices:
            part = slice(start, start + SLICE)
            jobs = self.admission.build(specs[part], user.key, ids[part], now, base=start)
            jobs = with_dependencies(jobs, specs[part], ids, start, lambda job_id: self._found(user, job_id))
            built.append(_in_runs(_marked(jobs, repeats[part]), now, ids[0]))
            await asyncio.sleep(0)
        bulk = self.db.bulk()
        # First, so that it comes to memory in the same turn as to the journal.
        bulk.encode([*self._remember(name, digest, ids, now), *taken])
        for jobs in built:
            bulk.encode([Change("jobs", job.id, job) for job in jobs])
            await asyncio.sleep(0)
        self.require_writable()
        self._require_accepting()
        self._require_room(user, specs)  # again: others of this user's may have come meanwhile
        ticket = bulk.commit()
        self._arriving[user.key] += len(specs)
        self.dispatcher.follow_ticket(ticket)
        self._absorb(bulk)
        # What is in the journal must come to memory whole, whatever becomes of the request.
        await asyncio.shield(self._absorb_rest(bulk))
        await ticket
        return ids

    def _found(self, user: User, job_id: int) -> Job | None:
        """A job that the user may see."""
        job = self.find(job_id)
        return job if job is not None and (job.owner == user.key or user.admin) else None

    def _require_groups(self, user: User, specs: Sequence[JobSpec]) -> None:
        """Refuse jobs of a group that has failed too often and is on its way out: they would only be killed."""
        for name, max_fails in dict.fromkeys((spec.group, spec.max_fails) for spec in specs):
            if name is not None and self.dispatcher.following.groups.tripped(user.key, name, max_fails):
                raise Problem(
                    "conflict",
                    f"group {name!r} has had as many failures as its --max-fails allows; wait until what still runs of"
                    " it has ended, or take another name",
                )

    def _reserve(self, specs: Sequence[JobSpec]) -> tuple[Sequence[int], list[Change]]:
        """Ids for these jobs, each array's followed by those of its tasks; and what must be recorded with them."""
        if not any(spec.array for spec in specs):
            return self.db.reserve_ids(len(specs)), []
        sizes = [1 + (parse_array(spec.array).size if spec.array else 0) for spec in specs]
        block = self.db.reserve_ids(sum(sizes))
        ids = [block[0] + before for before in accumulate(sizes[:-1], initial=0)]
        # Tasks get records later, or never: the store would not know after a restart that their ids are taken.
        return ids, [Change("meta", "ids", {"jobs": block[-1]})]

    def _absorb(self, bulk: Bulk) -> bool:
        changes = bulk.absorb(SLICE)
        jobs = [change.record for change in changes if change.table == "jobs"]
        for job in jobs:
            self._arriving[job.owner] -= 1
        self.dispatcher.enqueue(jobs)
        self.dispatcher.plan_soon()
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

    # -- changing ----------------------------------------------------------------------------------------------

    async def act(
        self,
        user: User,
        action: Action,
        ids: Sequence[int],
        *,
        priority: int | None = None,
        key: str | None = None,
        origin: str = "",
    ) -> list[ActionResult]:
        """Do ``action`` to each job, in slices; durable on return. Jobs it cannot be done to are reported, not raised.

        Args:
            origin: Network address that it was asked from: what an administrator does to others' jobs is recorded.

        Raises:
            Problem: when nothing can be changed at all, or the priority is out of range.
        """
        self.require_writable()
        if action == "update" and (priority is None or not MIN_PRIORITY <= priority <= MAX_PRIORITY):
            raise Problem("unprocessable", f"priority must be from {MIN_PRIORITY} to {MAX_PRIORITY}")
        if action == "resubmit":
            return await self._resubmit(user, ids, key)
        unique = list(dict.fromkeys(ids))
        if user.admin:
            await self._note_action(Actor(user, origin), action, unique)
        results: list[ActionResult] = []
        ticket: Ticket | None = None
        for start in range(0, len(unique), SLICE):
            ticket = self._act_on(user, action, unique[start : start + SLICE], priority, results) or ticket
            await asyncio.sleep(0)
        if ticket is not None:
            await ticket
        await self.dispatcher.settled()
        return results

    async def _note_action(self, actor: Actor, action: Action, ids: Sequence[int]) -> None:
        """Record what an administrator is about to do to the jobs of others; only live ones can be changed."""
        owners: dict[int, str] = {}
        for start in range(0, len(ids), SLICE * 10):
            jobs = (self.db.jobs.record(job_id) for job_id in ids[start : start + SLICE * 10])
            owners |= {job.id: job.owner for job in jobs if job is not None and job.owner != actor.user.key}
            await asyncio.sleep(0)
        if owners:
            self.dispatcher.apply([self.audit.change(actor, action, owners.values(), named(list(owners)))])

    def _act_on(
        self,
        user: User,
        action: Action,
        ids: Sequence[int],
        priority: int | None,
        results: list[ActionResult],
    ) -> Ticket | None:
        now = self.clock()
        pairs: list[tuple[Job, Event]] = []
        for job_id in ids:
            try:
                job = self.visible(user, job_id)
            except Problem as problem:
                results.append(ActionResult(id=job_id, ok=False, error=problem.detail, code=problem.code))
                continue
            error = _refusal(job, action)
            if error is not None:
                results.append(ActionResult(id=job_id, ok=False, state=job.state, error=error, code="conflict"))
                continue
            pairs.append((job, _event(action, now, priority, user, job)))
            results.append(ActionResult(id=job_id, ok=True))
        if not pairs:
            return None
        ticket = self.dispatcher.change(pairs)
        changed = {job.id for job, _ in pairs}
        for result in results[-len(ids) :]:
            if result.id in changed and (after := self.db.jobs.record(result.id)) is not None:
                result.state = after.state
        return ticket

    async def _resubmit(self, user: User, ids: Sequence[int], key: str | None) -> list[ActionResult]:
        specs: list[JobSpec] = []
        sources: list[int] = []
        results: dict[int, ActionResult] = {}
        for number, job_id in enumerate(dict.fromkeys(ids), 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            try:
                job = self.visible(user, job_id)
                if job.owner != user.key:
                    raise Problem(
                        "forbidden",
                        f"job {job_id} belongs to somebody else: it can be resubmitted by them only",
                    )
            except Problem as problem:
                results[job_id] = ActionResult(id=job_id, ok=False, error=problem.detail, code=problem.code)
                continue
            specs.append(spec_of(job))
            sources.append(job_id)
            results[job_id] = ActionResult(id=job_id, ok=True, state="QUEUED")
        if specs:
            digest = ",".join(map(str, sources))
            name = None if key is None else f"resubmit:{key}"
            new_ids, _ = await self.submit(user, specs, name, digest, sources)
            for source, new_id in zip(sources, new_ids, strict=True):
                results[source].new_id = new_id
        return list(results.values())

    async def put_application(self, user: User, application: Application) -> None:
        """Register or replace one of the user's applications; durable on return."""
        self.require_writable()
        record = replace(application, owner=user.key, updated=self.clock())
        refused = unix_users.refusal(record, user, self.config, "user" in self.engine.honours)
        if refused is not None:
            raise Problem("unprocessable", refused)
        await self.dispatcher.apply([Change("applications", record.key, record)])

    async def delete_application(self, user: User, name: str) -> None:
        """Forget an application of the user.

        Raises:
            Problem: ``not-found``, or ``conflict`` while live jobs use it.
        """
        self.require_writable()
        key = f"{user.key}/{name}"
        if self.db.applications.record(key) is None:
            raise Problem("not-found", f"no such application: {name}")
        for job_id in self.db.jobs.ids("application", name):
            job = self.db.jobs.record(job_id)
            if job is not None and job.owner == user.key and job.state in LIVE_STATES:
                raise Problem("conflict", f"application {name!r} is used by job {job_id}; kill it or wait for its end")
        await self.dispatcher.apply([Change("applications", key, None)])

    async def set_mode(self, mode: Mode, actor: Actor | None = None) -> None:
        """Open, pause or drain the queue; durable on return."""
        self.require_writable()
        if actor is not None:
            self.dispatcher.apply([self.audit.change(actor, "queue", (), mode)])
        await self.dispatcher.set_mode(mode)

    def _require_room(self, user: User, specs: Sequence[JobSpec]) -> None:
        """Raise unless the user may have so many more jobs waiting."""
        most = self.config.max_user_queued
        if most:
            waiting = self.db.jobs.waiting(user.key) + self._arriving[user.key]
            more = sum(_tasks(spec) for spec in specs)
            if waiting + more > most:
                raise Problem(
                    "unprocessable",
                    f"you have {waiting} jobs waiting, and with {more} more you would have more than {most} "
                    "(retz.max.user.queued): submit fewer, or wait until some have started",
                )

    def _require_accepting(self) -> None:
        if self.mode == "draining":
            raise Problem("unavailable", "the queue is draining and accepts no jobs; 'retz drain --resume' opens it")

    def require_writable(self) -> None:
        """Raise ``unavailable`` once a write has failed: nothing could be promised any more."""
        if self.db.failed is not None:
            raise Problem("unavailable", f"the server is read-only: {self.db.failed}")


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


def spec_of(job: Job) -> JobSpec:
    """The request that would make this job again: as part of a fresh run of its pipeline, if it has one."""
    need = job.resources
    mem = None if job.mem_default else need.mem
    return JobSpec(
        command=job.command,
        application=None if job.application == "default" else job.application,
        name=job.name or None,
        tags=job.tags or None,
        priority=job.priority,
        resources=ResourcesSpec(cpus=need.cpus, mem=mem, disk=need.disk, gpus=need.gpus, ports=need.ports),
        environment={**job.environment, **array_variables(job)} or None,
        attributes=job.attributes or None,
        directory=job.directory,
        timeout_s=job.timeout_s,
        kill_grace_s=job.kill_grace_s,
        max_retries=job.max_retries,
        pipeline=job.pipeline,
        array=None if job.array is None else job.array.text,
        max_fails=None if job.array is None else job.max_fails or None,
    )


def _tasks(spec: JobSpec) -> int:
    """How many jobs it becomes; what is no array is refused later, with its place in the request."""
    try:
        return 1 if spec.array is None else parse_array(spec.array).size
    except ValueError:
        return 1


def _refusal(job: Job, action: Action) -> str | None:
    """Why the action makes no sense for this job now."""
    if action == "kill":
        return f"job {job.id} has ended already ({job.state})" if job.state in ENDED_STATES else None
    if job.state != "QUEUED":
        return f"job {job.id} is {job.state}; only a queued job can be changed"
    return None


def _event(action: Action, now: float, priority: int | None, user: User, job: Job) -> Event:
    if action == "kill":
        return Kill(at=now, message="killed by its owner" if user.key == job.owner else "killed by an admin")
    if action == "hold":
        return Hold(at=now)
    if action == "release":
        return Release(at=now)
    assert priority is not None
    return Reprioritise(at=now, priority=priority)
