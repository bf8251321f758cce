"""The server without HTTP: what a user may ask for, in terms of records.

:class:`Core` joins store, archive, scheduler and engine. Reads answer from memory; writes go through the
:class:`~retz.server.dispatcher.Dispatcher`, the one owner of job state, and return once durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from retz import __version__
from retz.array_life import id_at
from retz.config_server import ServerConfig
from retz.engine.base import Engine
from retz.engine.local.uris import unfetchable
from retz.model.agent import Agent
from retz.model.application import Application, Container
from retz.model.job import ENDED_STATES, LIVE_STATES, Job
from retz.model.resources import Resources, from_vector
from retz.model.user import User
from retz.scheduler.causes import Machine
from retz.scheduler.scheduler import Scheduler
from retz.store.aggregates import AggregateStore, MinuteCollector
from retz.store.archive import Archive
from retz.store.database import Change, Database

from . import unix_users
from .acting import Actions
from .admission import Admission
from .audit import Actor, Audit
from .counters import Counters
from .dispatcher import Dispatcher
from .forecasting.forecasts import Forecasts
from .learning.learner import Learner
from .learning.watch import Watch
from .live import Mode
from .notify.outbox import Outbox
from .observing import Observer
from .problem import FieldError, Problem
from .scheduling import outside_planner_of
from .shares import Latest, Sums, machines, shares, sums
from .skylines.recorder import Skylines
from .submitting import Submissions
from .users import Users


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
        self._sums = Latest(sums)
        self._machines = Latest(machines)
        self.admission = Admission(
            config,
            engine.agents,
            lambda key: db.applications.record(key),
            engine.honours,
            lambda key: db.users.record(key),
            lambda *question: self.learner.sized(*question),
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
            refusal=self._refusal,
        )
        self.learner = Learner(self)
        self.dispatcher.live.learn = self.learner.ended
        self.outbox = Outbox(db, clock)
        self.dispatcher.live.following.news = lambda job: self.outbox.change(job, "ended")
        self.outside_planner = self.dispatcher.planning.outside = outside_planner_of(config, self.dispatcher.live)
        self.audit = Audit(db.audit, clock)
        self.users = Users(db.users, self.dispatcher.apply, self.audit, config, clock)
        self.metering = asyncio.Lock()
        self.forecasts = Forecasts(self.dispatcher.live, config, self.learner.past, lambda: db.seq)
        self.dispatcher.on_arrival = self.forecasts.recent.add
        self.observer = Observer(self)
        self.watch = Watch(self)
        self.submissions = Submissions(self)
        self.actions = Actions(self)

    # -- state -------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring back the queue's mode, adopt what runs, begin to plan."""
        saved = self.db.meta.record("queue")
        if saved is not None:
            self.dispatcher.live.mode = saved["mode"]
        taken = self.db.meta.record("ids")
        if taken is not None:
            self.db.reserve_above(taken["jobs"])
        if self.outside_planner is not None:
            await self.outside_planner.start()
        await self.dispatcher.start()
        self.learner.start()

    async def stop(self) -> None:
        """Start nothing more; jobs keep running; everything applied becomes durable."""
        await self.forecasts.stop()
        await self.learner.stop()
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

    @property
    def planner_failure(self) -> str | None:
        """What went wrong lately with a planner of a user's own, if there is one."""
        return self.outside_planner.failure if self.outside_planner is not None else None

    def _refusal(self, job: Job) -> str | None:
        """Why a job that is about to start must not; None if it may."""
        application = self.db.applications.record(f"{job.owner}/{job.application}")
        owner = self.db.users.record(job.owner)
        return unix_users.refusal(application, owner, self.config, "user" in self.engine.honours)

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

    def machines(self) -> Sequence[Machine]:
        """All agents with what nobody holds of them; of more than 1 000 they may be a second old."""
        return self._machines.of(self.engine.agents(), self.dispatcher.ledger.by_agent)

    def sums(self) -> Sums:
        """Amounts of all agents, and held of all; of more than 1 000 agents they may be a second old."""
        return self._sums.of(self.engine.agents(), self.dispatcher.ledger.by_agent)

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

    # -- changing ----------------------------------------------------------------------------------------

    async def put_application(self, user: User, application: Application, *, unseen: bool = False) -> None:
        """Register or replace one of the user's applications; durable on return.

        Args:
            unseen: Whether this machine can give what is asked for (files, image, volumes) is left to its jobs to tell.
        """
        self.require_writable()
        record = replace(application, owner=user.key, updated=self.clock())
        refused = unix_users.refusal(record, user, self.config, "user" in self.engine.honours)
        if refused is not None:
            raise Problem("unprocessable", refused)
        if not unseen:
            await self._check_can_run(record)
        await self.dispatcher.apply([Change("applications", record.key, record)])

    async def _check_can_run(self, application: Application) -> None:
        if self.config.engine == "local":
            _check_fetchable(application)
        if application.container != Container():
            refused = await self.engine.refusal(application.container)
            if refused is not None:
                raise Problem("unprocessable", refused)

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

    def require_writable(self) -> None:
        """Raise ``unavailable`` once a write has failed: nothing could be promised any more."""
        if self.db.failed is not None:
            raise Problem("unavailable", f"the server is read-only: {self.db.failed}")


def _check_fetchable(application: Application) -> None:
    """Refuse files that no job could get.

    Raises:
        Problem: ``unprocessable``.
    """
    for field, uris in (("files", application.files), ("large_files", application.large_files)):
        for number, uri in enumerate(uris):
            why = unfetchable(uri)
            if why is not None:
                name = f"{field}[{number}]"
                raise Problem("unprocessable", f"{name}: {uri!r} cannot be fetched: {why}", [FieldError(name, why)])
