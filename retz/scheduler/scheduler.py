"""The scheduler: queue and offers in, placements out. It decides nothing about records, engines or time.

A pass has three steps: :meth:`Scheduler.prepare` takes a snapshot, :meth:`Work.solve` plans on it (in
another thread, if it is large), :meth:`Scheduler.check` compares the plan with the present before anybody
believes it.

Why passes are cheap: every offer has a stamp that rises with time, and every shape remembers up to which
stamp it fits nothing. A pass looks only at pairs of shape and offer that were never tried, so a job of a
shape that is known not to fit costs nothing until an offer appears.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

from retz.model.agent import Agent, Offer
from retz.model.job import Job
from retz.model.resources import Vector, fits, times

from . import planner as planners
from .checking import Checker, Guard
from .fair_work import FairWork
from .held import Held
from .limits import NO_HOLDING, NOTHING, Holding, UserLimits
from .outside_work import OutsideWork
from .places import MAX_PLACES, Place, Places, own_room
from .queue import Queue, Shape, longest_run
from .shares import Shares, Standings
from .work import Kept, Placement, Room, Snapshot, Work

__all__ = ["Placement", "Scheduler", "Work"]

COPIED_SHAPES = 8000
"""Of so many shapes a pass sees the jobs behind the head; copying takes 0.3 µs each, on the loop."""

PENDING_LIMIT = 1000
"""More pending shapes than this are found in the sorted heads rather than sorted again."""

MAX_CANDIDATES = 200
"""So many shapes are considered for a place in one turn, the first in the planner's order."""

MAX_LOOKS = 1000
"""A turn of giving places ends when it has looked at so many agents: about 10 ms."""

NO_LIMITS = UserLimits()


class Scheduler:
    """Queued jobs, offers, and a planner's order.

    Args:
        planner: Name of the planner.
        max_running: At most so many jobs run at once; 0 means no limit.
        user_limits: What one user may hold at the same time.
        patience_s: After so long a job holds a place (see ``places.py``); 0 means never.
        shares: The accounts of users, for a planner that chooses between them.
        outside: The planner is a user's own: passes are :class:`~.outside_work.OutsideWork`.

    Raises:
        ValueError: if there is no such planner; the text names those that exist.
    """

    def __init__(
        self,
        planner: str = "fifo",
        max_running: int = 0,
        *,
        user_limits: UserLimits = NO_LIMITS,
        patience_s: float = 0.0,
        shares: Shares | None = None,
        outside: bool = False,
    ) -> None:
        self.planner = planner
        self.max_running = max_running
        self.user_limits = user_limits
        self.patience_s = patience_s
        self.outside = outside
        self._queue = Queue(planners.Outside(planner) if outside else planners.find(planner))
        self._by_user = self._queue.planner.by_user
        self.shares = (shares or Shares()) if self._by_user or outside else None
        self._limited = bool(user_limits)
        self._holdings: dict[str, Holding] = {}
        self._places = Places()
        # Shapes passed over because of what their users hold, by user; they are in neither set below.
        self._parked: dict[str, set[Shape]] = {}
        self._standings: Standings | None = None
        self._offers: dict[str, Offer] = {}
        self._rooms: dict[str, Room] = {}
        self._stamp = 0
        # Every shape that is neither in _pending nor in _in_work fits none of the offers with a stamp up to
        # _settled. A pass takes the set of pending shapes with it, which spares a copy.
        self._settled = 0
        self._pending: set[Shape] = set()
        self._in_work: set[Shape] = set()
        self._work: Work | None = None
        self._now = 0.0

    # -- jobs --------------------------------------------------------------------------------------------

    def add(self, job: Job) -> None:
        """Queue a job that waits for room. One that is queued already takes its new place."""
        new = self._queue.add(job)
        if new is not None:
            self._pending.add(new)

    def remove(self, job_id: int) -> None:
        """Take a job out of the queue; absent ids are ignored."""
        self._pending.difference_update(self._queue.remove((job_id,)))
        self._left((job_id,))

    def _left(self, job_ids: Iterable[int]) -> None:
        """Jobs are not queued any more: their places are free."""
        held = self._places.by_job
        if held:
            for job_id in job_ids:
                if job_id in held:
                    self._drop(held[job_id])

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._queue

    @property
    def shapes(self) -> int:
        """Number of distinct shapes in the queue."""
        return len(self._queue.shapes)

    def ahead(self, job_id: int) -> int:
        """How many queued jobs the planner considers before this one; 0 for one that is not queued.

        Where the planner chooses between users this supposes that their jobs are alike and that they take turns.
        """
        shape = self._queue.shape_of(job_id)
        if shape is None:
            return 0
        own = shape.lane.ahead(shape, job_id)
        if not self._by_user:
            return own
        score = self._score(shape.owner)
        others = (lane for lane in self._queue.lanes.values() if lane is not shape.lane)
        return own + sum(min(len(lane), own + (self._score(lane.name) < score)) for lane in others)

    def ahead_ids(self, job_id: int, limit: int) -> list[int]:
        """The first ``limit`` of those, in the planner's order; only its user's, where it chooses between users."""
        shape = self._queue.shape_of(job_id)
        return [] if shape is None else shape.lane.ahead_ids(shape, job_id, limit)

    def first_ids(self, limit: int) -> list[tuple[list[int], bool]]:
        """The first queued jobs in the planner's order, ``limit`` in all: some of each lane, and whether it has more.

        Where the planner chooses between users, each has a lane, and those who have few jobs are told of whole.
        """
        lanes = sorted(self._queue.lanes.values(), key=len)
        found = []
        for number, lane in enumerate(lanes):
            count, share = len(lane), limit // (len(lanes) - number)
            taken = lane.first(min(count, share))
            limit -= len(taken)
            found.append((taken, len(taken) < count))
        return found

    # -- offers ------------------------------------------------------------------------------------------

    @property
    def offers(self) -> Mapping[str, Offer]:
        """The offers at hand, by id. Read-only. Of equally tight ones a job gets the first."""
        return MappingProxyType(self._offers)

    def offer(self, offers: Iterable[Offer]) -> None:
        """Take new room in. An id that is known already gets the new amounts."""
        for offer in offers:
            self._put(offer)

    def _put(self, offer: Offer) -> None:
        """At the end of the dictionaries, whose order is thus that of the stamps."""
        if offer.id in self._offers:
            self.rescind((offer.id,))
        self._stamp += 1
        self._offers[offer.id] = offer
        self._rooms[offer.id] = Room.of(offer, self._stamp)

    def rescind(self, offer_ids: Iterable[str]) -> None:
        """These offers are void; unknown ids are ignored."""
        for offer_id in offer_ids:
            self._offers.pop(offer_id, None)
            self._rooms.pop(offer_id, None)

    def use(self, offer_id: str, job_ids: Sequence[int]) -> Offer:
        """Return the offer, which a launch of these jobs consumes; offer and jobs leave.

        Raises:
            KeyError: if the offer is not at hand.
        """
        [offer] = self.use_all({offer_id: job_ids})
        return offer

    def use_all(self, launches: Mapping[str, Sequence[int]]) -> list[Offer]:
        """The same for the launches of one step, jobs by offer: shapes that several of them have change once.

        Raises:
            KeyError: if an offer is not at hand.
        """
        offers = [self._offers.pop(offer_id) for offer_id in launches]
        for offer_id in launches:
            del self._rooms[offer_id]
        job_ids = [job_id for ids in launches.values() for job_id in ids]
        self._pending.difference_update(self._queue.remove(job_ids))
        self._left(job_ids)
        return offers

    def idle_offers(self) -> list[str]:
        """Offers that no queued job can use now, as far as the passes so far have found out; worth declining.

        Those of agents on which a job holds a place are not.
        Complete after a :meth:`prepare` that returned None for lack of anything new to place.
        """
        if not self._queue:
            return list(self._offers)
        self._learn()
        if self._pending or self._in_work:
            return []
        kept = self._places.by_agent
        return [
            offer_id
            for offer_id, room in self._rooms.items()
            if room.stamp <= self._settled and room.offer.agent not in kept
        ]

    @property
    def hungry(self) -> bool:
        """Whether some queued job was not tried on everything that was ever offered: more room may help it."""
        return bool(self._queue) and (bool(self._pending or self._in_work) or self._settled < self._stamp)

    # -- what runs ---------------------------------------------------------------------------------------

    def started(self, job: Job, now: float) -> None:
        """The job's latest attempt holds its resources from now on. To be told once."""
        need = job.resources.vector
        self._start(job.owner, job.attempts[-1].agent, need, 1, now)
        self._will_end(job, need)

    def stopped(self, job: Job, now: float) -> None:
        """It holds nothing any more. To be told once."""
        need = job.resources.vector
        self._has_ended(job, need)
        self._stop(job.owner, job.attempts[-1].agent, need, 1, now)

    def all_started(self, jobs: Iterable[Job], held: Iterable[Held], now: float) -> None:
        """The same for jobs that start together; ``held`` is what they hold."""
        for each in held:
            self._start(*each, now)
        for job in jobs:
            if job.timeout_s is not None:
                self._will_end(job, job.resources.vector)

    def all_stopped(self, jobs: Iterable[Job], held: Iterable[Held], now: float) -> None:
        """The same for jobs that end together; ``held`` is what they held."""
        for job in jobs:
            if job.timeout_s is not None:
                self._has_ended(job, job.resources.vector)
        for each in held:
            self._stop(*each, now)

    def _start(self, owner: str, agent: str, need: Vector, jobs: int, now: float) -> None:
        """So many jobs hold so much each from now on."""
        amount = need if jobs == 1 else times(need, jobs)
        if self._limited:
            self._holdings[owner] = self._holdings.get(owner, NO_HOLDING).plus(need, jobs)
        if self.shares is not None:
            self.shares.start(owner, amount, now)
        if self.patience_s:
            self._places.started(agent, amount)

    def _stop(self, owner: str, agent: str, need: Vector, jobs: int, now: float) -> None:
        """They hold it no more."""
        amount = need if jobs == 1 else times(need, jobs)
        if self._limited:
            self._give_back(owner, need, jobs)
        if self.shares is not None:
            self.shares.stop(owner, amount, now)
        if self.patience_s:
            self._places.stopped(agent, amount)

    def _will_end(self, job: Job, need: Vector) -> None:
        """Of a job with a time limit it is known when its room is free again at the latest."""
        if self.patience_s and job.timeout_s is not None:
            attempt = job.attempts[-1]
            end = (attempt.started or attempt.launched) + longest_run(job)
            self._places.will_end(job.id, attempt.agent, need, end)

    def _has_ended(self, job: Job, need: Vector) -> None:
        if self.patience_s and job.timeout_s is not None:
            self._places.ended(job.id, job.attempts[-1].agent, need)

    def _give_back(self, owner: str, need: Vector, count: int) -> None:
        """A user's limits leave more room: what was passed over for their sake may be tried."""
        holding = self._holdings.get(owner, NO_HOLDING).minus(need, count)
        if holding.running > 0:
            self._holdings[owner] = holding
        else:
            self._holdings.pop(owner, None)
        parked = self._parked.pop(owner, None)
        if parked:
            self._pending.update(shape for shape in parked if shape.ids)

    def user_limit(self, job: Job) -> str | None:
        """Why the job is passed over because of what its user holds; None if it is not."""
        if not self._limited:
            return None
        return self.user_limits.reason(self._holdings.get(job.owner, NO_HOLDING), job.resources.vector)

    def over_limit(self, owner: str, need: Vector) -> bool:
        """Whether a job of this need is passed over because of what its user holds."""
        return self._limited and not self.user_limits.admits(self._holdings.get(owner, NO_HOLDING), need)

    def waiting_shapes(self) -> list[Shape]:
        """The distinct shapes in the queue now."""
        return list(self._queue.shapes.values())

    # -- places ------------------------------------------------------------------------------------------

    def place_of(self, job_id: int) -> Place | None:
        """The place that a queued job holds."""
        return self._places.by_job.get(job_id)

    @property
    def places(self) -> Mapping[str, Place]:
        """All places held, by agent. Read-only."""
        return MappingProxyType(self._places.by_agent)

    def hold_places(self, agents: Sequence[Agent], waiting_since: Callable[[int], float], now: float) -> bool:
        """Give places to jobs that waited longer than the patience. Call it now and then between passes.

        Args:
            agents: All that are known.
            waiting_since: Since when a queued job has waited for room, by its id.

        Returns:
            Whether a place was given: then the agent's room is wanted, even if it was declined before.
        """
        if not self.patience_s:
            return False
        self._learn()
        given = self._renew_places(agents, now)
        looks = MAX_LOOKS
        for shape in self._candidates():
            for job_id in shape.ids.first(MAX_PLACES):
                if looks <= 0:
                    return given
                if now - waiting_since(job_id) < self.patience_s:
                    break
                if job_id in self._places.by_job:
                    continue
                if self.outside:
                    looks -= len(self._rooms)
                    if self._is_spurned(shape):
                        break
                looks -= len(agents)
                if not self._give_place(shape, job_id, agents, now):
                    break
                given = True
        return given

    def _give_place(self, shape: Shape, job_id: int, agents: Sequence[Agent], now: float) -> bool:
        """Hold a place for a job; if all are taken, in place of a job that comes after it. False: there is none."""
        find, turn = self._places.find, (self._score(shape.owner), shape.rank, job_id)
        found = None
        if len(self._places.by_agent) < MAX_PLACES:
            found = find(shape.need, shape.constraint, agents, now)
        if found is None and self._places.by_agent:
            found = find(shape.need, shape.constraint, agents, now, lambda place: turn < self._turn(place, now))
        if found is None:
            return False
        before = self._places.by_agent.get(found.agent.id)
        if before is not None:
            self._drop(before)
        self._places.hold(job_id, shape.owner, found, shape.need, now)
        return True

    def _turn(self, place: Place, now: float) -> tuple[float, int, int]:
        """Where the job with a place stands in the planner's order.

        The longer it is held, the fewer users come before it: nobody waits for ever.
        """
        shape = self._queue.shape_of(place.job)
        score = self._score(place.owner) - (now - place.since) if self._by_user else 0.0
        return score, shape.rank if shape is not None else 0, place.job

    def _candidates(self) -> Iterable[Shape]:
        """Shapes that fit nowhere now, in the planner's order: the first of each user where it chooses between them."""
        if self._rooms and self._settled < self._stamp:
            return  # not all was tried yet
        untried = self._pending | self._in_work if self._rooms else set()
        lanes = list(self._queue.lanes.values())
        if self._by_user:
            lanes.sort(key=lambda lane: self._score(lane.name))
        each = max(1, MAX_CANDIDATES // max(1, len(lanes)))
        for lane in lanes[:MAX_CANDIDATES]:
            for _, _, shape in list(islice(lane.heads, each)):
                if shape not in untried and not self._over_limit(shape):
                    yield shape

    def _over_limit(self, shape: Shape) -> bool:
        if not self._limited:
            return False
        return not self.user_limits.admits(self._holdings.get(shape.owner, NO_HOLDING), shape.need)

    def _is_spurned(self, shape: Shape) -> bool:
        """Whether jobs find room and a planner of a user's own leaves them waiting: nothing is kept for them."""
        return any(room.holds(shape.need) and shape.accepts(room.offer.attributes) for room in self._rooms.values())

    def _renew_places(self, agents: Sequence[Agent], now: float) -> bool:
        """Look at the places again: do they still make sense, when can their jobs start. True: some job has another."""
        if not self._places.by_agent:
            return False
        known = {agent.id: agent for agent in agents}
        moved = False
        for place in list(self._places.by_agent.values()):
            shape, agent = self._queue.shape_of(place.job), known.get(place.agent)
            room = own_room(agent) if agent is not None and agent.state == "active" else NOTHING
            if shape is None or not fits(place.need, room) or self._over_limit(shape):
                self._drop(place)
                continue
            if room != place.room:
                place.room = room
                self._reckon(place, now)
            if place.start == math.inf and now - place.looked > self.patience_s:
                moved |= self._move(place, shape, agents, now)
        return moved

    def _move(self, place: Place, shape: Shape, agents: Sequence[Agent], now: float) -> bool:
        """Nobody knows when the job can start there: see whether another agent is better."""
        place.looked = now
        other = self._places.find(shape.need, shape.constraint, agents, now)
        if other is None or other.start.at == math.inf:
            return False
        self._drop(place)
        self._places.hold(place.job, shape.owner, other, shape.need, now)
        return True

    def _drop(self, place: Place) -> None:
        self._places.drop(place)
        self._again(place.agent)

    def _reckon_changed(self, now: float) -> None:
        for agent in sorted(self._places.changed):  # the order decides whose offer comes first
            self._reckon(self._places.by_agent[agent], now)

    def _reckon(self, place: Place, now: float) -> None:
        if self._places.reckon(place, now):
            self._again(place.agent)

    def _again(self, agent: str) -> None:
        """What is at hand of an agent is to be tried again by all."""
        for offer in [room.offer for room in self._rooms.values() if room.offer.agent == agent]:
            self._put(offer)

    def _kept(self, now: float) -> dict[str, Kept]:
        found: dict[str, Kept] = {}
        for place in self._places.by_agent.values():
            shape = self._queue.shape_of(place.job)
            if shape is not None:
                found[place.agent] = Kept(shape, self._turn(place, now), place.start, place.spare)
        return found

    def _score(self, user: str) -> float:
        return self._standings.score(user) if self._by_user and self._standings is not None else 0.0

    # -- a pass ------------------------------------------------------------------------------------------

    def prepare(self, running: int, limit: int = 256, now: float = 0.0) -> Work | None:
        """Return a pass to solve, or None if it could place nothing that the last one did not.

        Finish one pass (:meth:`check`) before preparing the next: this one's findings replace it.

        Args:
            running: How many jobs run now, for ``max_running``.
            limit: Place at most so many in this pass; call again if it placed them all.
            now: Seconds since the epoch.
        """
        self._now = now
        self._reckon_changed(now)
        self._learn()
        self._give_up()
        if self.max_running:
            limit = min(limit, self.max_running - running)
        if limit <= 0 or not self._queue or not self._rooms:
            return None
        if self._settled == self._stamp and not self._pending:
            return None
        if self.shares is None:
            self._work = Work(self._snapshot(limit, now))
        elif self.outside:
            owners = dict.fromkeys(shape.owner for shape in self._queue.shapes.values())
            self._work = OutsideWork(self._snapshot(limit, now), self.shares.look(owners, now), running)
        else:
            standings = self._standings = self.shares.settle(self._queue.lanes, now)
            self._work = FairWork(self._snapshot(limit, now), standings)
        self._in_work, self._pending = self._pending, set()
        return self._work

    def _snapshot(self, limit: int, now: float) -> Snapshot:
        queue, pending = self._queue, self._pending
        if self._settled < self._stamp or len(pending) > PENDING_LIMIT or self.outside:
            heads, several = queue.all_heads(), queue.several
        else:
            # Shapes may have lost all their jobs while they were in work.
            heads = sorted((shape.rank, shape.ids.head(), shape) for shape in pending if shape.ids)
            several = pending & queue.several
        unknown: frozenset[Shape] = frozenset()
        copied: Iterable[Shape] = several
        if len(several) > COPIED_SHAPES:
            copied = several.intersection(head[2] for head in islice(heads, COPIED_SHAPES))
            unknown = frozenset(several.difference(copied))
        return Snapshot(
            heads=heads,
            following={shape: shape.ids.first(limit) for shape in copied},
            unknown=unknown,
            pending=pending,
            rooms=list(self._rooms.values()),
            settled=self._settled,
            newest=self._stamp,
            limit=limit,
            now=now,
            user_limits=self.user_limits if self._limited else None,
            holdings=self._holdings,
            kept=self._kept(now) if self._places.by_agent else {},
        )

    def _learn(self) -> None:
        """Take over what the last pass found out, once it is solved."""
        work = self._work
        if work is None or not work.solved:
            return
        newest = work.snapshot.newest
        if work.complete:
            # Blocked shapes are settled now. To those used up jobs may have come since the snapshot, or their
            # placements may not have been used.
            self._settled = newest
            self._in_work = set(work.used_up)
            for shape in work.limited:
                self._park(shape)
        else:
            for shape in work.blocked:
                shape.tried = newest
        self._give_up()
        for offer_id in work.touched:
            if offer_id in self._offers:
                # Its placements were not used after all: what was blocked by them may fit.
                self._put(self._offers[offer_id])

    def try_again(self) -> None:
        """Nothing is known any more to fit nowhere: somebody else plans from now on, or the time of day may matter."""
        self._settled = 0

    def _park(self, shape: Shape) -> None:
        """A pass left the shape out for its user's sake. What was placed instead may not have been used after all."""
        if self._over_limit(shape):
            self._parked.setdefault(shape.owner, set()).add(shape)
        elif shape.ids:
            self._pending.add(shape)

    def _give_up(self) -> None:
        """What is still in work waits for another pass."""
        self._work = None
        if len(self._in_work) > len(self._pending):  # up to 100 000 shapes: the smaller set is copied
            self._pending, self._in_work = self._in_work, self._pending
        self._pending |= self._in_work
        self._in_work = set()

    def check(self, placements: Sequence[Placement], running: int) -> list[Placement]:
        """Return the placements that are right at present, in their order; the others are dropped.

        Right are: a queued job, at most once; an offer that is at hand, has the attributes the job asks for
        and room for all that is placed on it; no more running jobs than ``max_running``, and no more of anything
        than its user may hold; on an agent that is kept for a job, only what does not delay that one (at the time of
        the pass).
        """
        now = self._now
        self._reckon_changed(now)
        guard = None
        if self._places.by_agent:
            guard = Guard(self._kept(now), now, self._standings if self._by_user else None)
        checker = Checker(self._queue, self._offers, self.user_limits if self._limited else None, self._holdings, guard)
        most = self.max_running - running if self.max_running else len(placements)
        return checker.right(placements, most)
