"""The one owner of all job state: submissions, kills, offers and task updates meet here, in order.

Everything that changes a job is a plain method, run on the event loop's thread from beginning to end without
an await: nothing can interleave, which is what "one owner" means here. A change applies in memory at once, so
that the next decision sees it; every effect (answer, launch, kill, acknowledgement) hangs on the ticket of its
journal record and happens after the fsync, in the order of the journal.

It has two parts of its own: :class:`~retz.server.live.Live`, the state, and :class:`~retz.server.planning.Planning`,
what turns offers and queue into launches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from retz.engine.base import Engine, KnownTask, Update
from retz.lifecycle import Drop, Event, advance
from retz.model.agent import Offer
from retz.model.job import ENDED_STATES, RUNNING_STATES, Job, parse_task_id
from retz.scheduler.scheduler import Scheduler
from retz.store.aggregates import MinuteCollector
from retz.store.database import Change, Database, StoreFailed, Ticket

from .counters import Counters
from .following import Batch
from .live import Live, Mode
from .news import count, count_end, event_of
from .planning import Planning
from .skylines.runs import Runs
from .tasks import known_task_of

log = logging.getLogger("retz.dispatcher")

LOOK_AT_CLOCK_S = 10.0
"""The wall clock may be set while a job waits for a time: it is looked at so often."""


class Dispatcher:
    """Implements :class:`retz.engine.base.Listener` over a store and a scheduler.

    Args:
        clock: Seconds since the epoch.
        on_agents_changed: Called when the engine's agents changed.
        runs: Told of every job that comes or ends; None where nobody wants to know.
        archived: Looks up an ended job that is not in the store any more.
        refusal: Says why a job that is about to start must not; None if it may.

    Attributes:
        on_arrival: Called with the jobs of each submission, those of a bulk in slices.
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
        on_agents_changed: Callable[[], None] = lambda: None,
        runs: Runs | None = None,
        archived: Callable[[int], Job | None] = lambda job_id: None,
        refusal: Callable[[Job], str | None] = lambda job: None,
    ) -> None:
        self.live = Live(
            db,
            scheduler,
            engine,
            clock=clock,
            counters=counters,
            collector=collector,
            runs=runs,
            archived=archived,
        )
        self.planning = Planning(self.live, refusal, self._refuse)
        self.following = self.live.following
        self.ledger = self.live.ledger
        self.ended = self.live.ended
        self.engine_failure: str | None = None
        self._db = db
        self._scheduler = scheduler
        self._engine = engine
        self._clock = clock
        self._counters = counters
        self._collector = collector
        self._on_agents_changed = on_agents_changed
        self._runs = runs
        self.on_arrival: Callable[[Sequence[Job]], None] = lambda jobs: None
        self._timer: asyncio.TimerHandle | None = None
        self._catching_up = False

    # -- start and stop -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Rebuild what is derived from the store, let the engine adopt what runs, then begin to plan."""
        if self._runs is not None:
            self._runs.load(self._db.jobs.records().values())
        self.following.load(self._db.jobs.records().values(), self._clock())
        known = self._load()
        self.planning.load_shares()
        await self._engine.start(self, known)
        self.planning.start()
        self._wake_in_time()
        self._catch_up()

    def _load(self) -> list[KnownTask]:
        """Take every record to its place. Returns what is believed to run."""
        running: list[Job] = []
        for job in self._db.jobs.records().values():
            if job.state == "QUEUED":
                self.live.enter(job)
            elif job.state in RUNNING_STATES:
                running.append(job)
            elif job.state in ENDED_STATES:
                self.ended.append(job.id)
        self.live.hold(running, self._clock())
        return list(map(known_task_of, running))

    async def stop(self) -> None:
        """Launch nothing more and let go of the engine; running jobs keep running."""
        if self._timer is not None:
            self._timer.cancel()
        self.planning.save_shares()
        await self.planning.stop()
        await self._engine.stop()

    async def settled(self) -> None:
        """Wait until everything applied so far is durable: what a reader is shown must not vanish in a crash."""
        await self.live.settled()

    # -- changes asked for by people ----------------------------------------------------------------------

    def accept(self, jobs: Sequence[Job], extra: Sequence[Change] = ()) -> Ticket:
        """Record new jobs in one atomic batch and queue them. Answer the client after the ticket."""
        ticket = self.live.write([*[Change("jobs", job.id, job) for job in jobs], *extra])
        self.enqueue(jobs)
        self._catch_up()
        # Planned in the same turn: on an idle machine the launch shares the submit's fsync.
        self.planning.now()
        return ticket

    def enqueue(self, jobs: Sequence[Job]) -> None:
        """Queue jobs whose records are in the store already (a bulk's slice)."""
        now = self._clock()
        for job in jobs:
            self.following.arrive(job, now)
            self.live.enter(job)
            self._collector.submitted(job)
            if self._runs is not None and job.pipeline is not None:
                self._runs.entered(job)
        self._counters.submitted += len(jobs)
        self.on_arrival(jobs)
        if self.following.waiting.timed:
            self._wake_in_time()
        self._catch_up_soon()

    def change(self, pairs: Sequence[tuple[Job, Event]]) -> Ticket:
        """Apply events of people (kill, hold, release, reprioritise) to jobs, in one atomic batch."""
        batch = self.following.batch(self._clock())
        for job, event in pairs:
            batch.event(job, event)
        ticket = self._commit(batch)
        self._follow_all(batch, ticket)
        self.plan_soon()
        return ticket

    def apply(self, changes: Sequence[Change]) -> Ticket:
        """Record changes that are none of the life cycle's business (applications, users, archive)."""
        return self.live.apply(changes)

    def follow_ticket(self, ticket: Ticket) -> None:
        """A ticket made elsewhere (a bulk's) counts for :meth:`settled` too."""
        self.live.follow_ticket(ticket)

    @property
    def mode(self) -> Mode:
        """Whether the queue accepts and starts jobs."""
        return self.live.mode

    def set_mode(self, mode: Mode) -> Ticket:
        """Open, pause or drain the queue; survives a restart."""
        ticket = self.live.apply([Change("meta", "queue", {"mode": mode})])
        self.live.mode = mode
        self.plan_soon()
        return ticket

    def plan_soon(self) -> None:
        """Plan once in this turn of the loop, after everything that is already due."""
        self.planning.soon()

    def save_shares(self) -> None:
        """Record what users used, so that a restart does not forget it. Called now and then."""
        self.planning.save_shares()

    async def wait_ended(self, job_id: int, timeout_s: float) -> None:
        """Return when the job has durably ended, or after the time, whichever is first."""
        await self.live.wait_ended(job_id, timeout_s)

    # -- what the engine says (retz.engine.base.Listener) ----------------------------------------------------

    def offers(self, offers: Sequence[Offer]) -> None:
        """New room."""
        self._scheduler.offer(offers)
        self.planning.now()  # at once: the end that made the room and the launch that uses it share an fsync

    def rescinded(self, offer_ids: Sequence[str]) -> None:
        """Room that is no more."""
        self._scheduler.rescind(offer_ids)

    def agents_changed(self) -> None:
        """Sizes and attributes may differ now."""
        self._on_agents_changed()

    def failed(self, message: str) -> None:
        """Operators must look at the engine."""
        log.error("engine: %s", message)
        self.engine_failure = message

    def recovered(self) -> None:
        """They need not any more."""
        if self.engine_failure is not None:
            log.info("engine works again")
        self.engine_failure = None

    def updates(self, updates: Sequence[Update]) -> None:
        """Record what became of tasks; acknowledge once that is durable.

        Several updates of one job in a batch make one record: the last.
        """
        now = self._clock()
        batch = self.following.batch(now)
        steps = _take_updates(batch, updates, now)
        told = len(batch.outcomes)
        try:
            ticket = self._commit(batch)
        except StoreFailed:
            return  # not acknowledged: the engine tells it again after the restart
        over = [(update, job, after) for update, job, after in steps if update.kind != "started"]
        for update, _, after in over:
            count(self._counters, after, update)
        self.live.release([job for _, job, _ in over], now)
        self._follow_all(batch, ticket, told)
        acknowledged = [update.seq for update in updates if update.seq]
        if acknowledged:
            ticket.then(lambda: self._engine.acknowledge(acknowledged))
        self.plan_soon()

    # -- batches -----------------------------------------------------------------------------------------

    def _commit(self, batch: Batch) -> Ticket:
        """Record a batch with everything that follows from it; in memory at once."""
        changes = batch.changes()
        return self.live.apply(changes) if changes else self.live.barrier()

    def _follow_all(self, batch: Batch, ticket: Ticket, told: int = 0) -> None:
        """What the steps of a recorded batch mean, for queue, engine and counters; the first ``told`` are counted."""
        kills: list[tuple[str, float]] = []
        for number, (before, after, effects) in enumerate(batch.outcomes):
            self.live.follow(after, effects)
            if "kill" in effects and after.task_id is not None:
                kills.append((after.task_id, after.kill_grace_s))
            if number >= told and "end" in effects and before.array is None:
                count_end(self._counters, after)
        for job_id in (*batch.ready, *batch.arrays):
            self.live.enter_if_queued(job_id)
        if kills:
            ticket.then(lambda: self._kill(kills))
        self._catch_up_soon()

    def _kill(self, kills: Sequence[tuple[str, float]]) -> None:
        for task_id, grace_s in kills:
            self._engine.kill(task_id, grace_s)

    # -- what is done later --------------------------------------------------------------------------------

    def _refuse(self, refused: Mapping[int, str]) -> None:
        """Jobs that were about to start and must not, each with the reason, fail in a later turn."""
        for job_id, message in refused.items():
            self.following.put_off((job_id,), Drop(self._clock(), "start", f"{message}; it was not started"))
        self._catch_up_soon()

    def _catch_up_soon(self) -> None:
        # One call in line: each asks for the next one, so that of two both would go on in every turn.
        if self.following.backlog and not self._catching_up:
            self._catching_up = True
            asyncio.get_running_loop().call_soon(self._catch_up_now)

    def _catch_up_now(self) -> None:
        self._catching_up = False
        self._catch_up()

    def _catch_up(self) -> None:
        """Go on with what concerned more jobs than one turn sees to, or was left undone by a crash."""
        if not self.following.backlog:
            return
        batch = self.following.batch(self._clock())
        batch.catch_up()
        try:
            ticket = self._commit(batch)
        except StoreFailed:
            return  # found again in the records at the next start
        self._follow_all(batch, ticket)
        self.plan_soon()

    def _wake_in_time(self) -> None:
        """See to jobs whose time has come, now and when the next one's comes."""
        now = self._clock()
        due = self.following.waiting.due(now)
        for job_id in due:
            self.live.enter_in_time(job_id, now)
        if due:
            self.plan_soon()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.following.waiting.next_time
        if at is not None:
            delay = min(max(at - now, 0.0), LOOK_AT_CLOCK_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake_in_time)


def _take_updates(batch: Batch, updates: Sequence[Update], now: float) -> list[tuple[Update, Job, Job]]:
    """Take the steps that updates mean into the batch. Returns those that change a job: before and after."""
    steps: list[tuple[Update, Job, Job]] = []
    for update in updates:
        try:
            job_id, number = parse_task_id(update.task)
        except ValueError:
            log.warning("update about a task that is not ours: %r", update.task)
            continue
        job = batch.record(job_id)
        if job is None:
            continue  # ended, archived: old news
        after, effects = advance(job, event_of(update, number, job, now))
        if after is job:
            continue
        batch.take(job, after, effects)
        steps.append((update, job, after))
    return steps
