"""The one owner of all job state: submissions, kills, offers and task updates meet here, in order.

Everything that changes a job is a plain method, run on the event loop's thread from beginning to end without
an await: nothing can interleave, which is what "one owner" means here. A change applies in memory at once, so
that the next decision sees it; every effect (answer, launch, kill, acknowledgement) hangs on the ticket of its
journal record and happens after the fsync, in the order of the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from retz.engine.base import Assignment, Engine, Task, Update
from retz.lifecycle import Ended, Event, Launch, Lost, NotStarted, Started, advance
from retz.model.agent import Agent, Offer
from retz.model.application import Application
from retz.model.job import ENDED_STATES, RUNNING_STATES, Job, parse_task_id
from retz.model.resources import Vector, add
from retz.scheduler.scheduler import Placement, Scheduler
from retz.store.aggregates import MinuteCollector
from retz.store.database import Change, Database, StoreFailed, Ticket

from .counters import Counters
from .following import Batch, Following
from .ledger import Ledger
from .skylines.runs import Runs
from .tasks import known_task_of, task_of

log = logging.getLogger("retz.dispatcher")

Mode = Literal["open", "paused", "draining"]

PLACEMENTS_PER_PASS = 128
"""Bounds the time of one pass on the loop (40 µs each, records included); one that was full is followed by another."""

LOOK_AT_CLOCK_S = 10.0
"""The wall clock may be set while a job waits for a time: it is looked at so often."""

INLINE_SHAPES = 2_000
"""A pass over more shapes than this is solved in a thread; below it takes under 5 ms on the loop."""

LOOK_EVERY_S = 1.0
"""How often places are given, and the cluster is measured."""


class Dispatcher:
    """Implements :class:`retz.engine.base.Listener` over a store and a scheduler.

    Args:
        clock: Seconds since the epoch.
        on_agents_changed: Called when the engine's agents changed.
        runs: Told of every job that comes or ends; None where nobody wants to know.
        archived: Looks up an ended job that is not in the store any more.
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
    ) -> None:
        self._db = db
        self._scheduler = scheduler
        self._engine = engine
        self._clock = clock
        self._counters = counters
        self._collector = collector
        self._on_agents_changed = on_agents_changed
        self._runs = runs
        self.following = Following(db, archived, runs)
        self._timer: asyncio.TimerHandle | None = None
        self.ledger = Ledger()
        self.mode: Mode = "open"
        self.engine_failure: str | None = None
        self.ended: deque[int] = deque()
        self.on_ended: Callable[[], None] = lambda: None
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._last: Ticket | None = None
        self._adopted = False
        self._plan_due = False
        self._suppressed = False
        self._placed: set[str] = set()
        """Offers whose launch waits for the disk."""
        self._solving: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._queued_again: dict[int, float] = {}
        """When jobs came (back) to the queue other than by being submitted."""

    # -- start and stop -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Rebuild what is derived from the store, let the engine adopt what runs, then begin to plan."""
        known = []
        if self._runs is not None:
            self._runs.load(self._db.jobs.records().values())
        self.following.load(self._db.jobs.records().values(), self._clock())
        for job in self._db.jobs.records().values():
            if job.state == "QUEUED":
                self._enter(job)
            elif job.state in RUNNING_STATES:
                self._hold(job, self._clock())
                known.append(known_task_of(job))
            elif job.state in ENDED_STATES:
                self.ended.append(job.id)
        self._load_shares()
        self._db.on_failed(self._store_failed)
        await self._engine.start(self, known)
        self._adopted = True
        self._look_around()
        self._wake_in_time()
        self._catch_up()
        self.plan_soon()

    async def stop(self) -> None:
        """Launch nothing more and let go of the engine; running jobs keep running."""
        self._adopted = False
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self.save_shares()
        if self._solving is not None:
            self._solving.cancel()
            await asyncio.gather(self._solving, return_exceptions=True)
        await self._engine.stop()

    async def settled(self) -> None:
        """Wait until everything applied so far is durable: what a reader is shown must not vanish in a crash."""
        if self._last is not None and not self._last.durable:
            await self._last

    # -- changes asked for by people ----------------------------------------------------------------------

    def accept(self, jobs: Sequence[Job], extra: Sequence[Change] = ()) -> Ticket:
        """Record new jobs in one atomic batch and queue them. Answer the client after the ticket."""
        ticket = self._apply([*(Change("jobs", job.id, job) for job in jobs), *extra])
        self.enqueue(jobs)
        self._catch_up()
        # Planned in the same turn: on an idle machine the launch shares the submit's fsync.
        self._plan()
        return ticket

    def enqueue(self, jobs: Sequence[Job]) -> None:
        """Queue jobs whose records are in the store already (a bulk's slice)."""
        now = self._clock()
        for job in jobs:
            self.following.arrive(job, now)
            self._enter(job)
            self._collector.submitted(job)
            if self._runs is not None and job.pipeline is not None:
                self._runs.entered(job)
        self._counters.submitted += len(jobs)
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

    def _commit(self, batch: Batch) -> Ticket:
        """Record a batch with everything that follows from it; in memory at once."""
        changes = batch.changes()
        return self._apply(changes) if changes else self._barrier()

    def _follow_all(self, batch: Batch, ticket: Ticket, told: int = 0) -> None:
        """What the steps of a recorded batch mean, for queue, engine and counters; the first ``told`` are counted."""
        kills: list[tuple[str, float]] = []
        for number, (before, after, effects) in enumerate(batch.outcomes):
            self._follow(after, effects)
            if "kill" in effects and after.task_id is not None:
                kills.append((after.task_id, after.kill_grace_s))
            if number >= told and "end" in effects and before.array is None:
                self._count_end(after)
        for job_id in (*batch.ready, *batch.arrays):
            self._enter_if_queued(job_id)
        if kills:
            ticket.then(lambda: self._kill(kills))
        self._catch_up_soon()

    def _catch_up_soon(self) -> None:
        if self.following.backlog:
            asyncio.get_running_loop().call_soon(self._catch_up)

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

    def set_mode(self, mode: Mode) -> Ticket:
        """Open, pause or drain the queue; survives a restart."""
        ticket = self._apply([Change("meta", "queue", {"mode": mode})])
        self.mode = mode
        self.plan_soon()
        return ticket

    def apply(self, changes: Sequence[Change]) -> Ticket:
        """Record changes that are none of the life cycle's business (applications, users, archive)."""
        return self._apply(changes)

    def follow_ticket(self, ticket: Ticket) -> None:
        """A ticket made elsewhere (a bulk's) counts for :meth:`settled` too."""
        self._last = ticket

    async def wait_ended(self, job_id: int, timeout_s: float) -> None:
        """Return when the job has durably ended, or after the time, whichever is first."""
        future = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(job_id, [])
        waiters.append(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return
        finally:
            waiters.remove(future)
            if not waiters and self._waiters.get(job_id) is waiters:
                del self._waiters[job_id]

    # -- what the engine says (retz.engine.base.Listener) ----------------------------------------------------

    def offers(self, offers: Sequence[Offer]) -> None:
        """New room."""
        self._scheduler.offer(offers)
        self._plan()  # at once: the end that made the room and the launch that uses it share an fsync

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
            after, effects = advance(job, _event_of(update, number, _launched(job), now))
            if after is job:
                continue
            batch.take(job, after, effects)
            steps.append((update, job, after))
        told = len(batch.outcomes)
        acknowledged = [update.seq for update in updates if update.seq]
        try:
            ticket = self._commit(batch)
        except StoreFailed:
            return  # not acknowledged: the engine tells it again after the restart
        for update, job, after in steps:
            self._count(after, update)
            if update.kind != "started" and self.ledger.stop(job):
                self._scheduler.stopped(job, now)
        self._follow_all(batch, ticket, told)
        if acknowledged:
            ticket.then(lambda: self._engine.acknowledge(acknowledged))
        self.plan_soon()

    # -- planning --------------------------------------------------------------------------------------

    def plan_soon(self) -> None:
        """Plan once in this turn of the loop, after everything that is already due."""
        if not self._plan_due:
            self._plan_due = True
            asyncio.get_running_loop().call_soon(self._plan_if_due)

    def _plan_if_due(self) -> None:
        if self._plan_due:  # an offer may have come meanwhile and been planned at once
            self._plan()

    def _plan(self) -> None:
        self._plan_due = False
        if self._solving is not None:
            return
        may_launch = self._may_launch()
        running = len(self.ledger.running)
        work = self._scheduler.prepare(running, PLACEMENTS_PER_PASS, self._clock()) if may_launch else None
        if work is None:
            if self._engine.shared and self._adopted:
                self._give_back(may_launch)
            return
        if work.size > INLINE_SHAPES:
            self._solving = asyncio.get_running_loop().create_task(self._solve_aside(work.solve))
            return
        self._believe(work.solve())

    def _give_back(self, may_launch: bool) -> None:
        """Leave to others what no job can use now; ask for it again when there is a job that was not tried on it."""
        scheduler = self._scheduler
        stuck = not may_launch or 0 < scheduler.max_running <= len(self.ledger.running)
        unused = list(scheduler.offers) if stuck else scheduler.idle_offers()
        if unused:
            scheduler.rescind(unused)
            self._engine.decline(unused)
        if stuck or not scheduler:
            self._suppressed = True
            self._engine.suppress()
        elif self._suppressed or (scheduler.hungry and not scheduler.offers):
            self._suppressed = False
            self._engine.revive()

    # -- shares and places -------------------------------------------------------------------------------

    def _hold(self, job: Job, now: float) -> None:
        if self.ledger.start(job):
            self._scheduler.started(job, now)

    def _load_shares(self) -> None:
        saved = self._db.meta.record("shares")
        if saved is not None and self._scheduler.shares is not None:
            self._scheduler.shares.load(saved["used"], saved["at"])

    def save_shares(self) -> None:
        """Record what users used, so that a restart does not forget it. Called now and then."""
        if self._scheduler.shares is not None and not self._db.failed:
            now = self._clock()
            used = self._scheduler.shares.dump(now)
            saved = self._db.meta.record("shares")
            if used or saved is not None:
                self._apply([Change("meta", "shares", {"at": now, "used": used})])

    def _look_around(self) -> None:
        """Once a second: the size of the cluster for shares, and places for jobs that waited long."""
        scheduler = self._scheduler
        if scheduler.shares is None and not scheduler.patience_s:
            return
        self._looking = asyncio.get_running_loop().call_later(self._look_every_s, self._look_around)
        now = self._clock()
        if scheduler.shares is not None:
            scheduler.shares.resize(_capacity(self._engine.agents()), now)
        if scheduler.patience_s and self._solving is None and self._may_launch() and (scheduler or scheduler.places):
            if scheduler.hold_places(self._engine.agents(), self._waiting_since, now) and self._engine.shared:
                self._engine.revive()
            self.plan_soon()

    @property
    def _look_every_s(self) -> float:
        patience = self._scheduler.patience_s
        return min(LOOK_EVERY_S, patience / 2) if patience else LOOK_EVERY_S

    def _waiting_since(self, job_id: int) -> float:
        again = self._queued_again.get(job_id)
        if again is not None:
            return again
        job = self.following.find(job_id)
        if job is None:
            return self._clock()
        attempt = job.attempt
        return attempt.ended if attempt is not None and attempt.ended is not None else job.submitted

    def _store_failed(self, _reason: str) -> None:
        """Nothing will be launched any more: what waited for the disk goes to others too."""
        if self._engine.shared:
            self._engine.decline(list(self._placed))
            self.plan_soon()

    def _may_launch(self) -> bool:
        return self._adopted and self.mode == "open" and not self._db.failed

    async def _solve_aside(self, solve: Callable[[], list[Placement]]) -> None:
        try:
            placements = await asyncio.to_thread(solve)
        except Exception:
            log.exception("a planning pass failed; the next change of queue or offers brings another one")
            return
        finally:
            self._solving = None
        if self._may_launch():  # the queue may have been paused meanwhile
            self._believe(placements)
        self.plan_soon()  # for what came while nobody could plan

    def _believe(self, plan: Sequence[Placement]) -> None:
        """Launch what of a plan still holds; what of it does not, and what is left over, the next pass sees to."""
        if plan:
            self._place(self._scheduler.check(plan, len(self.ledger.running)))
        if plan or self._engine.shared:
            self.plan_soon()

    def _place(self, placements: Sequence[Placement]) -> None:
        by_offer: dict[str, list[int]] = {}
        for placement in placements:
            by_offer.setdefault(placement.offer, []).append(placement.job)
        now = self._clock()
        changes: list[Change] = []
        launches: list[tuple[Offer, list[Task]]] = []
        starved: list[str] = []
        for offer_id, job_ids in by_offer.items():
            jobs = self._launch_on(self._scheduler.offers[offer_id], job_ids, now)
            offer = self._scheduler.use(offer_id, [job.id for job in jobs])
            changes += [Change("jobs", job.id, job) for job in jobs]
            if jobs:
                self._placed.add(offer_id)
                launches.append(
                    (offer, [task_of(job, self._application_of(job), self._db.users.record(job.owner)) for job in jobs])
                )
            else:
                starved.append(offer_id)
        if starved:
            self._decline_later(starved)
        if launches:
            more, arrays = self.following.started([job for change in changes if isinstance(job := change.record, Job)])
            try:
                self._apply([*changes, *more]).then(lambda: self._launch(launches))
            except StoreFailed:
                log.warning("the journal failed while %d jobs were being placed: none is launched", len(changes))
                return
            for array_id in arrays:
                self._enter_if_queued(array_id)

    def _launch_on(self, offer: Offer, job_ids: Sequence[int], now: float) -> list[Job]:
        """The records of the jobs that get their ports and GPUs from this offer; the others stay queued."""
        launched: list[Job] = []
        taken = Assignment()
        for job_id in job_ids:
            job = self.following.find(job_id)
            if job is None or (job.group and self.following.groups.tripped(job.owner, job.group)):
                continue
            assignment = self._engine.assign(offer, job.resources, taken)
            if assignment is None:
                continue
            taken = Assignment(gpus=taken.gpus + assignment.gpus, ports=taken.ports + assignment.ports)
            host = "" if offer.host == offer.agent else offer.host
            after, effects = advance(
                job, Launch(at=now, agent=offer.agent, gpus=assignment.gpus, ports=assignment.ports, host=host)
            )
            if "launch" not in effects:
                continue
            self._hold(after, now)
            self._queued_again.pop(job.id, None)
            self._counters.launched += 1
            self._collector.launched(after, now - job.submitted)
            launched.append(after)
        return launched

    def _application_of(self, job: Job) -> Application | None:
        found: Application | None = self._db.applications.record(f"{job.owner}/{job.application}")
        return found

    def _decline_later(self, offer_ids: list[str]) -> None:
        """Nothing could be assigned (ports taken by strangers): give the room back, but not in a hot loop."""
        asyncio.get_running_loop().call_later(1.0, self._engine.decline, offer_ids)

    # -- effects -----------------------------------------------------------------------------------------

    def _launch(self, launches: Sequence[tuple[Offer, list[Task]]]) -> None:
        for offer, tasks in launches:
            self._placed.discard(offer.id)
            self._engine.launch(offer, tasks)

    def _kill(self, kills: Sequence[tuple[str, float]]) -> None:
        for task_id, grace_s in kills:
            self._engine.kill(task_id, grace_s)

    def _follow(self, job: Job, effects: Sequence[str]) -> None:
        """What a step of the life cycle means for queue and archive, at once in memory."""
        for effect in effects:
            if effect == "enqueue":
                self._enter(job)
                if self._scheduler.patience_s:
                    self._queued_again[job.id] = self._clock()
            elif effect == "dequeue":
                for job_id in self.following.unqueued(job):
                    self._scheduler.remove(job_id)
                self._queued_again.pop(job.id, None)
            elif effect == "end":
                self.ended.append(job.id)
                self.following.gone(job)
                if job.array is None:
                    self._collector.ended(job)
                if self._runs is not None and job.pipeline is not None:
                    self._runs.left(job)

    def _enter(self, job: Job) -> None:
        """Let the scheduler see what of a queued job may start."""
        for startable in self.following.startable(job):
            self._scheduler.add(startable)

    def _enter_if_queued(self, job_id: int) -> None:
        job = self._db.jobs.record(job_id)
        if job is not None and job.state == "QUEUED":
            self._enter(job)

    def _wake_in_time(self) -> None:
        """See to jobs whose time has come, now and when the next one's comes."""
        now = self._clock()
        due = self.following.waiting.due(now)
        for job_id in due:
            self._queued_again[job_id] = now
            self._enter_if_queued(job_id)
        if due:
            self.plan_soon()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.following.waiting.next_time
        if at is not None:
            delay = min(max(at - now, 0.0), LOOK_AT_CLOCK_S)
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake_in_time)

    def _apply(self, changes: Sequence[Change]) -> Ticket:
        ended = [change.id for change in changes if change.table == "jobs" and _is_ended(change.record)]
        ticket = self._db.apply(changes)
        self._last = ticket
        if ended:
            ticket.then(lambda: self._wake(ended))
        return ticket

    def _wake(self, job_ids: Sequence[int | str]) -> None:
        if self._waiters:
            for job_id in job_ids:
                for future in self._waiters.get(int(job_id), ()):
                    if not future.done():
                        future.set_result(None)
        self.on_ended()

    def _barrier(self) -> Ticket:
        """The ticket after which everything so far is durable."""
        return self._db.apply(())

    def _count_end(self, job: Job) -> None:
        if job.state == "FINISHED":
            self._counters.finished += 1
        elif job.state == "FAILED":
            self._counters.failed += 1
        elif job.state == "KILLED":
            self._counters.killed += 1

    def _count(self, job: Job, update: Update) -> None:
        self._count_end(job)
        if update.kind == "lost":
            self._counters.lost += 1
            if job.state == "QUEUED":
                self._counters.retried += 1


def _capacity(agents: Sequence[Agent]) -> Vector:
    total: Vector = (0, 0, 0, 0, 0)
    for agent in agents:
        total = add(total, agent.total.vector)
    return total


def _launched(job: Job) -> float:
    return job.attempts[-1].launched if job.attempts else 0.0


def _is_ended(record: object) -> bool:
    return isinstance(record, Job) and record.state in ENDED_STATES


def _event_of(update: Update, number: int, launched: float, now: float) -> Event:
    """``launched``: the attempt cannot have done anything earlier, whatever its machine's clock says."""
    at = max(min(update.at, now), launched) if update.at else now
    if update.kind == "started":
        return Started(at=at, attempt=number)
    if update.kind == "lost":
        return Lost(at=at, attempt=number, message=update.message or "the machine was lost")
    if update.kind == "not_started":
        return NotStarted(at=at, attempt=number, message=update.message or "never started")
    return Ended(
        at=at,
        attempt=number,
        started=None if update.started is None else max(update.started, launched),
        exit_code=update.exit_code,
        signal=update.signal,
        reason=update.reason,
        message=update.message,
        usage=update.usage,
    )
