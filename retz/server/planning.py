"""When to plan, and what becomes of a plan: launches, offers given back, places for those who waited long.

A pass is solved on the loop while it is small, else in a thread; nothing else is planned meanwhile. What it returns is
compared with the present before anything is launched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice

from retz.engine.base import Assignment, Task
from retz.lifecycle import Launch, advance
from retz.model.agent import Agent, Offer
from retz.model.application import Application
from retz.model.job import Job
from retz.model.resources import Vector, add
from retz.model.user import User
from retz.scheduler.outside_work import OutsideWork
from retz.scheduler.scheduler import Placement
from retz.scheduler.waits import SHORT_S
from retz.store.database import Change, StoreFailed

from .live import Live
from .planners.outside import OutsidePlanner
from .tasks import task_of

log = logging.getLogger("retz.dispatcher")

PLACEMENTS_PER_PASS = 128
"""Bounds the time of one pass on the loop (40 µs each, records included); one that was full is followed by another."""

INLINE_SHAPES = 2_000
"""A pass over more shapes than this is solved in a thread; below it takes under 5 ms on the loop."""

LOOK_EVERY_S = 1.0
"""How often places are given, and the cluster is measured."""


class Planning:
    """The dispatcher's part that turns offers and queue into launches.

    Args:
        refusal: Says why a job that is about to start must not; None if it may.
        refuse: Told of the jobs that must not start, with the reasons; the scheduler has forgotten them.

    Attributes:
        adopted: Whether the engine knows what runs: nothing is launched before, or after the stop.
        outside: A planner of a user's own, if there is one.
    """

    def __init__(
        self, live: Live, refusal: Callable[[Job], str | None], refuse: Callable[[Mapping[int, str]], None]
    ) -> None:
        self._live = live
        self._refusal = refusal
        self._refuse = refuse
        self._db = live.db
        self._scheduler = live.scheduler
        self._engine = live.engine
        self._ledger = live.ledger
        self.adopted = False
        self.outside: OutsidePlanner | None = None
        self._due = False
        """A pass is wanted; ``_called``: the loop is going to ask whether one is."""
        self._called = False
        self._suppressed = False
        self._placed: set[str] = set()
        """Offers whose launch waits for the disk."""
        self._waited_like: tuple[object, ...] = ()
        self._waited_alike: tuple[tuple[str, float], ...] = ()
        self._solving: asyncio.Task[None] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._db.on_failed(self._store_failed)

    def start(self) -> None:
        """What runs is adopted: begin to plan."""
        self.adopted = True
        self._look_around()
        self.soon()

    async def stop(self) -> None:
        """Launch nothing more."""
        self.adopted = False
        if self._looking is not None:
            self._looking.cancel()
        if self._solving is not None:
            self._solving.cancel()
            await asyncio.gather(self._solving, return_exceptions=True)
        if self.outside is not None:
            await self.outside.stop()

    # -- passes ------------------------------------------------------------------------------------------

    def soon(self) -> None:
        """Plan once in this turn of the loop, after everything that is already due."""
        self._due = True
        # Never two calls in line: each pass asks for the next one, so both would plan in every turn from then on.
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._if_due)

    def _if_due(self) -> None:
        self._called = False
        if self._due:  # an offer may have come meanwhile and been planned at once
            self.now()

    def now(self) -> None:
        """Plan in this very step, so that the launches share the fsync of what brought them about."""
        self._due = False
        if self._solving is not None:
            return
        may_launch = self._may_launch()
        work = None
        if may_launch:
            work = self._scheduler.prepare(len(self._ledger.running), PLACEMENTS_PER_PASS, self._live.clock())
        if work is None:
            if self._engine.shared and self.adopted:
                self._give_back(may_launch)
            return
        if isinstance(work, OutsideWork) and self.outside is not None and self.outside.due:
            planner, turn = self.outside, work
            self._start_aside(lambda: planner.solve(turn))
        elif work.size > INLINE_SHAPES:
            self._start_aside(lambda: asyncio.to_thread(work.solve))
        else:
            self._believe(work.solve())

    def _start_aside(self, solve: Callable[[], Awaitable[list[Placement]]]) -> None:
        self._solving = asyncio.get_running_loop().create_task(self._solve_aside(solve))

    def _may_launch(self) -> bool:
        return self.adopted and self._live.mode == "open" and not self._db.failed

    async def _solve_aside(self, solve: Callable[[], Awaitable[list[Placement]]]) -> None:
        try:
            placements = await solve()
        except Exception:
            log.exception("a planning pass failed; the next change of queue or offers brings another one")
            return
        finally:
            self._solving = None
        if self._may_launch():  # the queue may have been paused meanwhile
            self._believe(placements)
        self.soon()  # for what came while nobody could plan

    def _believe(self, plan: Sequence[Placement]) -> None:
        """Launch what of a plan still holds; what of it does not, and what is left over, the next pass sees to."""
        if plan:
            self._place(self._scheduler.check(plan, len(self._ledger.running)))
        if plan or self._engine.shared:
            self.soon()

    # -- launches ----------------------------------------------------------------------------------------

    def _place(self, placements: Sequence[Placement]) -> None:
        by_offer: dict[str, list[int]] = {}
        for placement in self._allowed(placements):
            by_offer.setdefault(placement.offer, []).append(placement.job)
        now = self._live.clock()
        offers = self._scheduler.offers
        launches = {offer_id: self._launch_on(offers[offer_id], ids, now) for offer_id, ids in by_offer.items()}
        used = self._scheduler.use_all({offer_id: [job.id for job in jobs] for offer_id, jobs in launches.items()})
        starved = [offer_id for offer_id, jobs in launches.items() if not jobs]
        if starved:
            self._decline_later(starved)
        if len(starved) < len(launches):
            self._record([(offer, jobs) for offer, jobs in zip(used, launches.values(), strict=True) if jobs], now)

    def _allowed(self, placements: Sequence[Placement]) -> Sequence[Placement]:
        """Those whose jobs may start now. The right to a Unix user may have gone since the submit, for instance."""
        refused: dict[int, str] = {}
        reasons: dict[tuple[str, str], str | None] = {}  # asked once a step: it is the same for all jobs of a key
        for placement in placements:
            job = self._live.following.find(placement.job)
            if job is None:
                continue
            key = job.owner, job.application
            if key not in reasons:
                reasons[key] = self._refusal(job)
            why = reasons[key]
            if why is not None:
                refused[placement.job] = why
        if not refused:
            return placements
        for job_id in refused:
            self._scheduler.remove(job_id)
        self._refuse(refused)
        return [placement for placement in placements if placement.job not in refused]

    def _record(self, placed: Sequence[tuple[Offer, list[Job]]], now: float) -> None:
        """Write the launches down; the engine hears of them once that is durable."""
        live = self._live
        jobs = [job for _, started in placed for job in started]
        live.hold(jobs, now)
        live.counters.launched += len(jobs)
        self._placed.update([offer.id for offer, _ in placed])
        tasks = iter(self._tasks_of(jobs))
        launches = [(offer, list(islice(tasks, len(started)))) for offer, started in placed]
        more, arrays = live.following.started(jobs)
        try:
            live.write([*(Change("jobs", job.id, job) for job in jobs), *more]).then(lambda: self._launch(launches))
        except StoreFailed:
            log.warning("the journal failed while %d jobs were being placed: none is launched", len(jobs))
            return
        for array_id in arrays:
            live.enter_if_queued(array_id)

    def _launch_on(self, offer: Offer, job_ids: Sequence[int], now: float) -> list[Job]:
        """The records of the jobs that get their ports and GPUs from this offer; the others stay queued."""
        live = self._live
        launched: list[Job] = []
        taken = Assignment()
        for job_id in job_ids:
            job = live.following.find(job_id)
            if job is None or live.following.stopped(job):
                continue
            assignment = self._engine.assign(offer, job.resources, taken)
            if assignment is None:
                continue
            if assignment.gpus or assignment.ports:
                taken = Assignment(gpus=taken.gpus + assignment.gpus, ports=taken.ports + assignment.ports)
            host = "" if offer.host == offer.agent else offer.host
            after, effects = advance(
                job,
                Launch(
                    at=now, agent=offer.agent, gpus=assignment.gpus, ports=assignment.ports, host=host,
                    waited=self._waited(job, now),
                ),
            )  # fmt: skip
            if "launch" not in effects:
                continue
            live.collector.launched(after, now - job.submitted)
            launched.append(after)
        return launched

    def _waited(self, job: Job, now: float) -> tuple[tuple[str, float], ...]:
        if now - job.submitted < SHORT_S:
            return ()
        if job.attempts or job.array_id is not None or job.start_at is not None or job.id in self._live.waits:
            return tuple(self._live.waited(job, now))
        # Of a bulk of short jobs thousands start in a second, alike in all that matters: 0.4 instead of 6 µs.
        like = (now, job.submitted, job.resources, job.owner, job.attributes, job.priority, job.timeout_s)
        if like != self._waited_like:
            self._waited_like, self._waited_alike = like, tuple(self._live.waited(job, now))
        return self._waited_alike

    def _tasks_of(self, jobs: Sequence[Job]) -> list[Task]:
        found: dict[tuple[str, str], tuple[Application | None, User | None]] = {}
        tasks = []
        for job in jobs:
            key = job.owner, job.application
            if key not in found:
                application = self._db.applications.record(f"{job.owner}/{job.application}")
                found[key] = application, self._db.users.record(job.owner)
            tasks.append(task_of(job, *found[key]))
        return tasks

    def _launch(self, launches: Sequence[tuple[Offer, list[Task]]]) -> None:
        for offer, tasks in launches:
            self._placed.discard(offer.id)
            self._engine.launch(offer, tasks)

    # -- room that is not used -----------------------------------------------------------------------------

    def _give_back(self, may_launch: bool) -> None:
        """Leave to others what no job can use now; ask for it again when there is a job that was not tried on it."""
        scheduler = self._scheduler
        stuck = not may_launch or 0 < scheduler.max_running <= len(self._ledger.running)
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

    def _decline_later(self, offer_ids: list[str]) -> None:
        """Nothing could be assigned (ports taken by strangers): give the room back, but not in a hot loop."""
        asyncio.get_running_loop().call_later(1.0, self._engine.decline, offer_ids)

    def _store_failed(self, _reason: str) -> None:
        """Nothing will be launched any more: what waited for the disk goes to others too."""
        if self._engine.shared:
            self._engine.decline(list(self._placed))
            self.soon()

    # -- shares and places -------------------------------------------------------------------------------

    def load_shares(self) -> None:
        """Remember what users used before the restart."""
        saved = self._db.meta.record("shares")
        if saved is not None and self._scheduler.shares is not None:
            self._scheduler.shares.load(saved["used"], saved["at"])

    def save_shares(self) -> None:
        """Record what users used, so that a restart does not forget it. Called now and then."""
        if self._scheduler.shares is not None and not self._db.failed:
            now = self._live.clock()
            used = self._scheduler.shares.dump(now)
            saved = self._db.meta.record("shares")
            if used or saved is not None:
                self._live.apply([Change("meta", "shares", {"at": now, "used": used})])

    def _look_around(self) -> None:
        """Once a second: the size of the cluster for shares, and places for jobs that waited long."""
        scheduler = self._scheduler
        if scheduler.shares is None and not scheduler.patience_s:
            return
        self._looking = asyncio.get_running_loop().call_later(self._look_every_s, self._look_around)
        now = self._live.clock()
        if scheduler.shares is not None:
            scheduler.shares.resize(_capacity(self._engine.agents()), now)
        if self.outside is not None and self._solving is None and scheduler and self.outside.asks_again():
            self.soon()
        if scheduler.patience_s and self._solving is None and self._may_launch() and (scheduler or scheduler.places):
            if scheduler.hold_places(self._engine.agents(), self._live.waiting_since, now) and self._engine.shared:
                self._engine.revive()
            self.soon()

    @property
    def _look_every_s(self) -> float:
        patience = self._scheduler.patience_s
        return min(LOOK_EVERY_S, patience / 2) if patience else LOOK_EVERY_S


def _capacity(agents: Sequence[Agent]) -> Vector:
    total: Vector = (0, 0, 0, 0, 0)
    for agent in agents:
        total = add(total, agent.total.vector)
    return total
