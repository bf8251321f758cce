"""A pass that somebody else plans: a planner of a user's own, in another process.

The pass is shown as a :class:`~.plugin.Situation`, and the answer becomes placements. What users' limits or kept agents
do not allow is left out of it without a word: they are the queue's business. Solved by itself, the pass goes in order
of submission.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .limits import NOTHING
from .plugin import Amounts, Choice, Problem, Room, Situation, User, Waiting, problems
from .plugin import Kept as KeptView
from .queue import Head, Shape
from .shares import Standings
from .work import Kept, Placement, Snapshot, Work


class Nonsense(ValueError):
    """A plan that cannot be used. ``problem`` is the first thing that is wrong with it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.text)
        self.problem = problem


class _Asked(NamedTuple):
    """What was shown, and the shapes behind its keys."""

    situation: Situation
    heads: Mapping[int, Head]


class OutsideWork(Work):
    """See the module's text."""

    def __init__(self, snapshot: Snapshot, standings: Standings, running: int) -> None:
        super().__init__(snapshot)
        self._standings = standings
        self._running = running
        self._asked: _Asked | None = None

    def due(self) -> list[Placement]:
        """Jobs that fit now where a place is kept for them: they start, whatever the planner thinks. If there are any,
        that is the pass.
        """
        for room in self.snapshot.rooms:
            kept = self.snapshot.kept.get(room.offer.agent)
            if kept is None or kept.fulfilled or len(self._placed) >= self.snapshot.limit:
                continue
            shape, job_id = kept.shape, kept.turn[2]
            fits = room.holds(shape.need) and shape.accepts(room.offer.attributes)
            if fits and self._may(shape, (shape.rank, job_id, shape), kept):
                self._placed.append(Placement(job_id, room.offer.id))
                self.touched[room.offer.id] = None
        self.solved = bool(self._placed)
        return self._placed

    def show(self, waiting_since: Callable[[int], float]) -> Situation:
        """What a planner is to see. Touches nothing but the snapshot: it may run in another thread."""
        heads: dict[int, Head] = {}
        waiting: list[Waiting] = []
        for head in sorted(self.snapshot.heads):
            shape = self._shape(head, waiting_since)
            if shape.count:
                heads[shape.key] = head
                waiting.append(shape)
            else:
                self.limited.append(head[2])
        keys = {head[2]: key for key, head in heads.items()}
        situation = Situation(
            now=self.snapshot.now,
            limit=self.snapshot.limit,
            running=self._running,
            waiting=tuple(waiting),
            offers=tuple(self._offers(keys)),
            users=tuple(map(self._user, dict.fromkeys(shape.owner for shape in waiting))),
        )
        self._asked = _Asked(situation, heads)
        return situation

    def _shape(self, head: Head, waiting_since: Callable[[int], float]) -> Waiting:
        snapshot, (_, job_id, shape) = self.snapshot, head
        count = len(shape.ids)
        if snapshot.user_limits is not None:
            count = self._admitted(snapshot.user_limits, shape, count)
        need, waited = Amounts(*shape.need), max(0.0, snapshot.now - waiting_since(job_id))
        return Waiting(job_id, need, shape.key[1], shape.owner, shape.key[3], shape.limit, count, waited)

    def _offers(self, keys: Mapping[Shape, int]) -> list[Room]:
        now = self.snapshot.now
        kept = {
            agent: KeptView(keys.get(place.shape, 0), place.turn[2], place.start - now, Amounts(*place.spare))
            for agent, place in self.snapshot.kept.items()
        }
        offers = (room.offer for room in self.snapshot.rooms)
        return [
            Room(offer.id, offer.agent, offer.host, Amounts(*offer.room), offer.attributes, kept.get(offer.agent))
            for offer in offers
        ]

    def _user(self, name: str) -> User:
        standings = self._standings
        held = standings.held.get(name, NOTHING)
        return User(name, standings.share(name), standings.used.get(name, 0.0), Amounts(*held))

    def adopt(self, choices: Sequence[Choice]) -> list[Placement]:
        """Return the placements that a plan means. Call it once, after :meth:`show`.

        Raises:
            Nonsense: it cannot be used; nothing of it is.
        """
        assert self._asked is not None
        wrong = problems(self._asked.situation, choices)
        if wrong:
            raise Nonsense(wrong[0])
        rooms = {room.offer.id: room for room in self.snapshot.rooms}
        taken: dict[Shape, int] = {}
        for key, offer_id, count in choices:
            rank, job_id, shape = self._asked.heads[key]
            ids = self.snapshot.following.get(shape, [job_id])
            first = taken.get(shape, 0)
            for each in ids[first : first + count]:
                if len(self._placed) >= self.snapshot.limit:
                    break
                if not self._may(shape, (rank, each, shape), self.snapshot.kept.get(rooms[offer_id].offer.agent)):
                    break
                self._placed.append(Placement(each, offer_id))
                self.touched[offer_id] = None
                taken[shape] = taken.get(shape, 0) + 1
        # As long as something was placed there may be more: the planner is asked again.
        self.complete = not self._placed
        self.solved = True
        return self._placed

    def _may(self, shape: Shape, head: Head, kept: Kept | None) -> bool:
        """Whether limits and kept agents allow one more; if so, it counts."""
        now, limits = self.snapshot.now, self.snapshot.user_limits
        if limits is not None and not self._admitted(limits, shape, 1):
            return False
        if kept is not None:
            if not kept.admits(shape, (0.0, head[0], head[1]), now):
                return False
            kept.took(shape, now)
        if limits is not None:
            self._count(shape, 1)
        return True
