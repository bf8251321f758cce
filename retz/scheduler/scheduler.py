"""The scheduler: queue and offers in, placements out. It decides nothing about records, engines or time.

A pass has three steps: :meth:`Scheduler.prepare` takes a snapshot, :meth:`Work.solve` plans on it (in
another thread, if it is large), :meth:`Scheduler.check` compares the plan with the present before anybody
believes it.

Why passes are cheap: every offer has a stamp that rises with time, and every shape remembers up to which
stamp it fits nothing. A pass looks only at pairs of shape and offer that were never tried, so a job of a
shape that is known not to fit costs nothing until an offer appears.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from types import MappingProxyType

from retz.model.agent import Offer
from retz.model.job import Job
from retz.model.resources import Vector, fits, subtract

from . import planner as planners
from .queue import Queue, Shape
from .work import Placement, Room, Snapshot, Work

__all__ = ["Placement", "Scheduler", "Work"]

COPIED_SHAPES = 8000
"""Of so many shapes a pass sees the jobs behind the head; copying takes 0.3 µs each, on the loop."""

PENDING_LIMIT = 1000
"""More pending shapes than this are found in the sorted heads rather than sorted again."""


class Scheduler:
    """Queued jobs, offers, and a planner's order.

    Args:
        planner: Name of the planner.
        max_running: At most so many jobs run at once; 0 means no limit.

    Raises:
        ValueError: if there is no such planner; the text names those that exist.
    """

    def __init__(self, planner: str = "fifo", max_running: int = 0) -> None:
        self.planner = planner
        self.max_running = max_running
        self._queue = Queue(planners.find(planner))
        self._offers: dict[str, Offer] = {}
        self._rooms: dict[str, Room] = {}
        self._stamp = 0
        # Every shape that is neither in _pending nor in _in_work fits none of the offers with a stamp up to
        # _settled. A pass takes the set of pending shapes with it, which spares a copy.
        self._settled = 0
        self._pending: set[Shape] = set()
        self._in_work: set[Shape] = set()
        self._work: Work | None = None

    # -- jobs --------------------------------------------------------------------------------------------

    def add(self, job: Job) -> None:
        """Queue a job that waits for room. One that is queued already takes its new place."""
        new = self._queue.add(job)
        if new is not None:
            self._pending.add(new)

    def remove(self, job_id: int) -> None:
        """Take a job out of the queue; absent ids are ignored."""
        self._pending.difference_update(self._queue.remove((job_id,)))

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._queue

    @property
    def shapes(self) -> int:
        """Number of distinct shapes in the queue."""
        return len(self._queue.shapes)

    def ahead(self, job_id: int) -> int:
        """How many queued jobs the planner considers before this one; 0 for one that is not queued."""
        return self._queue.ahead(job_id)

    def ahead_ids(self, job_id: int, limit: int) -> list[int]:
        """The first ``limit`` of those, in the planner's order."""
        return self._queue.ahead_ids(job_id, limit)

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
        offer = self._offers.pop(offer_id)
        del self._rooms[offer_id]
        self._pending.difference_update(self._queue.remove(job_ids))
        return offer

    def idle_offers(self) -> list[str]:
        """Offers that no queued job can use now, as far as the passes so far have found out; worth declining.

        Complete after a :meth:`prepare` that returned None for lack of anything new to place.
        """
        if not self._queue:
            return list(self._offers)
        self._learn()
        if self._pending or self._in_work:
            return []
        return [offer_id for offer_id, room in self._rooms.items() if room.stamp <= self._settled]

    @property
    def hungry(self) -> bool:
        """Whether some queued job was not tried on everything that was ever offered: more room may help it."""
        return bool(self._queue) and (bool(self._pending or self._in_work) or self._settled < self._stamp)

    # -- a pass ------------------------------------------------------------------------------------------

    def prepare(self, running: int, limit: int = 256) -> Work | None:
        """Return a pass to solve, or None if it could place nothing that the last one did not.

        Finish one pass (:meth:`check`) before preparing the next: this one's findings replace it.

        Args:
            running: How many jobs run now, for ``max_running``.
            limit: Place at most so many in this pass; call again if it placed them all.
        """
        self._learn()
        self._give_up()
        if self.max_running:
            limit = min(limit, self.max_running - running)
        if limit <= 0 or not self._queue or not self._rooms:
            return None
        if self._settled == self._stamp and not self._pending:
            return None
        self._work = Work(self._snapshot(limit))
        self._in_work, self._pending = self._pending, set()
        return self._work

    def _snapshot(self, limit: int) -> Snapshot:
        queue, pending = self._queue, self._pending
        if self._settled < self._stamp or len(pending) > PENDING_LIMIT:
            heads, several = list(queue.heads), queue.several
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
        else:
            for shape in work.blocked:
                shape.tried = newest
        self._give_up()
        for offer_id in work.touched:
            if offer_id in self._offers:
                # Its placements were not used after all: what was blocked by them may fit.
                self._put(self._offers[offer_id])

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
        and room for all that is placed on it; no more running jobs than ``max_running``.
        """
        left: dict[str, Vector] = {}
        seen: set[int] = set()
        good: list[Placement] = []
        most = self.max_running - running if self.max_running else len(placements)
        for placement in placements:
            if len(good) >= most:
                break
            shape = self._queue.shape_of(placement.job)
            offer = self._offers.get(placement.offer)
            if shape is None or offer is None or placement.job in seen:
                continue
            room = left.get(offer.id, offer.room)
            if fits(shape.need, room) and shape.accepts(offer.attributes):
                left[offer.id] = subtract(room, shape.need)
                seen.add(placement.job)
                good.append(placement)
        return good
