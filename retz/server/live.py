"""What is live now: the records' way to the store, what the scheduler sees of them, and who waits for their ends.

:class:`Live` is the state that the :class:`~retz.server.dispatcher.Dispatcher` owns and that
:class:`~retz.server.planning.Planning` changes too. Every step of a job's life passes one of four places here:
:meth:`Live.enter` (it may start from now on), :meth:`Live.hold` (it was placed), :meth:`Live.follow` (a step's effects,
in memory at once) and :meth:`Live.durably_ended` (its end is on disk: what others are told of an end hangs there).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from retz.engine.base import Engine
from retz.model.job import ENDED_STATES, Job
from retz.scheduler.scheduler import Scheduler
from retz.scheduler.waits import Share, Waits, since_of
from retz.store.aggregates import MinuteCollector
from retz.store.database import Change, Database, Ticket

from .counters import Counters
from .following import Following
from .ledger import Ledger
from .skylines.runs import Runs

Mode = Literal["open", "paused", "draining"]


class Live:
    """See the module's text. All methods are called on the event loop's thread.

    Args:
        clock: Seconds since the epoch.
        runs: Told of every job that comes or ends; None where nobody wants to know.
        archived: Looks up an ended job that is not in the store any more.

    Attributes:
        ended: Ids of ended jobs that are not in the archive yet.
        on_ended: Called whenever ends became durable.
        learn: Called with every job that ends, in memory: it must not raise.
        waits: What jobs wait for.
    """

    def __init__(
        self,
        db: Database,
        scheduler: Scheduler,
        engine: Engine,
        *,
        clock: Callable[[], float],
        counters: Counters,
        collector: MinuteCollector,
        runs: Runs | None,
        archived: Callable[[int], Job | None],
    ) -> None:
        self.db = db
        self.scheduler = scheduler
        self.engine = engine
        self.clock = clock
        self.counters = counters
        self.collector = collector
        self.runs = runs
        self.following = Following(db, archived, runs)
        self.ledger = Ledger()
        self.mode: Mode = "open"
        self.ended: deque[int] = deque()
        self.on_ended: Callable[[], None] = lambda: None
        self.learn: Callable[[Job], None] = lambda job: None
        self.waits = Waits()
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._last: Ticket | None = None
        self._queued_again: dict[int, float] = {}
        """When jobs came (back) to the queue other than by being submitted."""

    # -- to the store --------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> Ticket:
        """Record changes, in memory at once; what others are told of them waits for the ticket."""
        ended = [change.id for change in changes if change.table == "jobs" and _is_ended(change.record)]
        ticket = self.write(changes)
        if ended:
            ticket.then(lambda: self.durably_ended(ended))
        return ticket

    def write(self, changes: Sequence[Change]) -> Ticket:
        """The same for changes none of which ends a job: they need not be looked through."""
        ticket = self._last = self.db.apply(changes)
        return ticket

    def barrier(self) -> Ticket:
        """The ticket after which everything so far is durable."""
        return self.db.apply(())

    def follow_ticket(self, ticket: Ticket) -> None:
        """A ticket made elsewhere (a bulk's) counts for :meth:`settled` too."""
        self._last = ticket

    async def settled(self) -> None:
        """Wait until everything applied so far is durable."""
        if self._last is not None and not self._last.durable:
            await self._last

    def durably_ended(self, job_ids: Sequence[int | str]) -> None:
        """The ends of these jobs are on disk: whoever waits for them may know."""
        if self._waiters:
            for job_id in job_ids:
                for future in self._waiters.get(int(job_id), ()):
                    if not future.done():
                        future.set_result(None)
        self.on_ended()

    async def wait_ended(self, job_id: int, timeout_s: float) -> None:
        """Return when the job has durably ended, or after the time, whichever is first."""
        future = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(job_id, [])
        waiters.append(future)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return
        finally:
            waiters.remove(future)
            if not waiters and self._waiters.get(job_id) is waiters:
                del self._waiters[job_id]

    # -- what the scheduler sees -----------------------------------------------------------------------------

    def enter(self, job: Job) -> None:
        """Let the scheduler see what of a queued job may start."""
        startable = self.following.startable(job)
        for each in startable:
            self.scheduler.add(each)
        if startable:
            if job.id in self.waits:
                self.waits.in_line(job.id, self.clock())
        else:
            self._kept_back(job)

    def _kept_back(self, job: Job) -> None:
        """A queued job may not start for a reason of its own; of an array that may not be so."""
        waiting = self.following.waiting
        if job.held:
            self.waits.kept_back(job.id, "held", self.clock())
        elif waiting.blocks(job.id):
            self.waits.kept_back(job.id, "dependency" if waiting.awaited(job.id) else "time", self.clock())

    def waited(self, job: Job, now: float) -> list[Share]:
        """What kept a queued job waiting until now, as far as that is known."""
        return self.waits.of(job, since_of(job), now)

    def enter_if_queued(self, job_id: int) -> None:
        """The same for whoever has only the id; jobs that are gone or not queued are ignored."""
        job = self.db.jobs.record(job_id)
        if job is not None and job.state == "QUEUED":
            self.enter(job)

    def enter_in_time(self, job_id: int, now: float) -> None:
        """The time that the job waited for has come: it waits for room from now on."""
        self._queued_again[job_id] = now
        self.enter_if_queued(job_id)

    def hold(self, jobs: Sequence[Job], now: float) -> None:
        """The jobs' latest attempts hold their resources from now on."""
        self.scheduler.all_started(*self.ledger.start(jobs), now)
        for job in jobs:
            self._queued_again.pop(job.id, None)
            self.waits.forget(job.id)

    def release(self, jobs: Sequence[Job], now: float) -> None:
        """They hold nothing any more."""
        self.scheduler.all_stopped(*self.ledger.stop(jobs), now)

    def follow(self, job: Job, effects: Sequence[str]) -> None:
        """What a step of the life cycle means for queue and archive, at once in memory."""
        for effect in effects:
            if effect == "enqueue":
                self.enter(job)
                if self.scheduler.patience_s:
                    self._queued_again[job.id] = self.clock()
            elif effect == "dequeue":
                for job_id in self.following.unqueued(job):
                    self.scheduler.remove(job_id)
                self._queued_again.pop(job.id, None)
                if job.held:
                    self._kept_back(job)
            elif effect == "end":
                self._ends(job)

    def _ends(self, job: Job) -> None:
        self.ended.append(job.id)
        self.waits.forget(job.id)
        self.following.gone(job)
        if job.array is None:
            self.collector.ended(job)
        if self.runs is not None and job.pipeline is not None:
            self.runs.left(job)
        self.learn(job)

    def waiting_since(self, job_id: int) -> float:
        """Since when a queued job has waited for room."""
        again = self._queued_again.get(job_id)
        if again is not None:
            return again
        job = self.following.find(job_id)
        if job is None:
            return self.clock()
        attempt = job.attempt
        return attempt.ended if attempt is not None and attempt.ended is not None else job.submitted


def _is_ended(record: object) -> bool:
    return isinstance(record, Job) and record.state in ENDED_STATES
