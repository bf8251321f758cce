"""Comparing a plan with the present, before anybody believes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retz.model.agent import Offer
from retz.model.resources import Vector, add, fits, subtract

from .limits import NO_HOLDING, NOTHING, Holding, UserLimits
from .queue import Queue, Shape
from .shares import Standings
from .work import Kept, Placement


class Guard:
    """Watches over kept agents while a plan is checked: the same rule that passes keep (``work.Kept``)."""

    def __init__(self, kept: Mapping[str, Kept], now: float, standings: Standings | None) -> None:
        self._kept = kept
        self._now = now
        self._standings = standings
        self._placed: dict[str, Vector] = {}

    def admits(self, agent: str, shape: Shape, job_id: int) -> bool:
        """Whether the job may go to the agent; if so, it is taken to do so."""
        kept = self._kept.get(agent)
        if kept is not None:
            if not kept.admits(shape, (self._score(shape.owner), shape.rank, job_id), self._now):
                return False
            kept.took(shape, self._now)
        if self._standings is not None:
            self._placed[shape.owner] = add(self._placed.get(shape.owner, NOTHING), shape.need)
        return True

    def _score(self, user: str) -> float:
        return self._standings.score(user, self._placed.get(user, NOTHING), 1) if self._standings is not None else 0.0


class Checker:
    """Checks one plan. What it finds right counts for what comes after."""

    def __init__(
        self,
        queue: Queue,
        offers: Mapping[str, Offer],
        limits: UserLimits | None,
        holdings: Mapping[str, Holding],
        guard: Guard | None,
    ) -> None:
        self._queue = queue
        self._offers = offers
        self._limits = limits
        self._holdings = dict(holdings)
        self._guard = guard
        self._left: dict[str, Vector] = {}
        self._seen: set[int] = set()

    def right(self, placements: Sequence[Placement], most: int) -> list[Placement]:
        """The placements that are right (see :meth:`.scheduler.Scheduler.check`), no more than ``most``."""
        good: list[Placement] = []
        for placement in placements:
            if len(good) >= most:
                break
            if self._is_right(placement):
                good.append(placement)
        return good

    def _is_right(self, placement: Placement) -> bool:
        shape = self._queue.shape_of(placement.job)
        offer = self._offers.get(placement.offer)
        if shape is None or offer is None or placement.job in self._seen:
            return False
        room, holding = self._left.get(offer.id, offer.room), self._holdings.get(shape.owner, NO_HOLDING)
        if not fits(shape.need, room) or not shape.accepts(offer.attributes):
            return False
        if self._limits is not None and not self._limits.admits(holding, shape.need):
            return False
        if self._guard is not None and not self._guard.admits(offer.agent, shape, placement.job):
            return False
        if self._limits is not None:
            self._holdings[shape.owner] = holding.plus(shape.need)
        self._left[offer.id] = subtract(room, shape.need)
        self._seen.add(placement.job)
        return True
