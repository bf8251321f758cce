"""One planning pass over a snapshot: which jobs go to which offers.

The rule of placement. Jobs are considered in the planner's order. Each goes to the offer that fits tightest:
fewest free GPUs first (so that jobs without GPUs leave machines with GPUs alone), then fewest free cpus, then
least free memory, then the offer that has waited longest. A job that fits nowhere is passed by jobs of other
shapes; jobs of its own shape wait behind it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from heapq import heappop, heappush
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from retz.model.agent import Offer
from retz.model.resources import Vector, fits, subtract

from .constraints import Constraint
from .limits import NO_HOLDING, Holding, UserLimits
from .queue import FOREVER, Head, Shape


class Placement(NamedTuple):
    """Job ``job`` goes to offer ``offer``."""

    job: int
    offer: str


class Room(NamedTuple):
    """What is free on an offer, in the order in which offers are tried (see the module's text).

    ``stamp`` is unique and rises with time; ``labels`` is equal for agents with equal attributes.
    """

    gpus: int
    cpus: int
    mem: int
    disk: int
    ports: int
    stamp: int
    labels: str
    offer: Offer

    @staticmethod
    def of(offer: Offer, stamp: int) -> Room:
        """All of an offer."""
        cpus, mem, disk, gpus, ports = offer.room
        labels = repr(sorted(offer.attributes.items())) if offer.attributes else ""
        return Room(gpus, cpus, mem, disk, ports, stamp, labels, offer)

    def less(self, need: Vector, count: int) -> Room:
        """What is left after ``count`` jobs of this need."""
        return Room(
            self.gpus - need[3] * count,
            self.cpus - need[0] * count,
            self.mem - need[1] * count,
            self.disk - need[2] * count,
            self.ports - need[4] * count,
            self.stamp,
            self.labels,
            self.offer,
        )

    def holds(self, need: Vector) -> bool:
        """Whether one job of this need fits."""
        cpus, mem, disk, gpus, ports = need
        return cpus <= self.cpus and mem <= self.mem and disk <= self.disk and gpus <= self.gpus and ports <= self.ports

    def times(self, need: Vector, most: int) -> int:
        """How many jobs of this need it holds, at most ``most``. One fits, that is known."""
        if most == 1:
            return 1
        have = (self.cpus, self.mem, self.disk, self.gpus, self.ports)
        return min([most, *(h // n for h, n in zip(have, need, strict=True) if n > 0)])


Matches = Callable[[Constraint, Room], bool]


class Rooms:
    """The rooms of a pass, tightest first."""

    def __init__(self, rooms: Sequence[Room], matches: Matches) -> None:
        self._rooms = sorted(rooms)
        self._matches = matches
        self._kinds = list({room.labels: room for room in rooms}.values())
        # Rooms only shrink during a pass, so these bounds stay true.
        self._most_gpus = max(map(itemgetter(0), rooms), default=-1)
        self._most_cpus = max(map(itemgetter(1), rooms), default=-1)
        self._most_mem = max(map(itemgetter(2), rooms), default=-1)

    def find(
        self, need: Vector, constraint: Constraint, after: int, admits: Callable[[Room], bool] | None = None
    ) -> Room | None:
        """The tightest room with a stamp above ``after`` that fits and ``admits``."""
        cpus, mem, disk, gpus, ports = need
        if cpus > self._most_cpus or mem > self._most_mem or gpus > self._most_gpus:
            return None
        if constraint.clauses and not any(self._matches(constraint, room) for room in self._kinds):
            return None
        rooms = self._rooms
        first = bisect_left(rooms, (gpus, cpus, mem)) if len(rooms) > 8 else 0
        for room in islice(rooms, first, None):
            if (
                cpus <= room[1]
                and mem <= room[2]
                and disk <= room[3]
                and gpus <= room[0]
                and ports <= room[4]
                and room[5] > after
                and (not constraint.clauses or self._matches(constraint, room))
                and (admits is None or admits(room))
            ):
                return room
        return None

    def replace(self, room: Room, smaller: Room) -> None:
        """Put the smaller room in the place of ``room``, which was found here."""
        del self._rooms[bisect_left(self._rooms, room)]
        insort(self._rooms, smaller)


class Snapshot(NamedTuple):
    """What a pass gets to see.

    Attributes:
        heads: The shapes to look at, in the planner's order.
        following: For shapes of several jobs, their lowest ids, head included.
        unknown: Shapes of several jobs that are missing in ``following``.
        pending: Shapes that were not tried on all offers with a stamp up to ``settled``; the others were, and
            fit none.
        rooms: All offers.
        newest: The highest stamp.
        limit: Place no more than this; ``following`` reaches at least as far.
        now: Seconds since the epoch.
        user_limits: What each user may hold; None if nothing is limited.
        holdings: What each user holds; empty if nothing is limited.
        kept: Places held, by agent.
    """

    heads: list[Head]
    following: Mapping[Shape, list[int]]
    unknown: frozenset[Shape]
    pending: AbstractSet[Shape]
    rooms: list[Room]
    settled: int
    newest: int
    limit: int
    now: float = 0.0
    user_limits: UserLimits | None = None
    holdings: Mapping[str, Holding] = {}
    kept: Mapping[str, Kept] = {}


class Kept:
    """An agent kept for a job, as a pass sees it.

    Attributes:
        shape: The job's.
        turn: Score of its user (0 where the planner does not choose between users), rank and id: what comes before
            it in the planner's order may use the agent freely.
        start: When the job can start.
        spare: What is free beside it then.
        fulfilled: The job was placed here: nobody is kept from the rest any more.
    """

    __slots__ = ("fulfilled", "shape", "spare", "start", "turn")

    def __init__(self, shape: Shape, turn: tuple[float, int, int], start: float, spare: Vector) -> None:
        self.shape = shape
        self.turn = turn
        self.start = start
        self.spare = spare
        self.fulfilled = False

    def admits(self, shape: Shape, turn: tuple[float, int, int], now: float) -> bool:
        """Whether a job may use the agent, as far as the one with the place is concerned."""
        return (
            turn < self.turn
            or shape is self.shape
            or self.fulfilled
            or fits(shape.need, self.spare)
            or self._is_over(shape, now)
        )

    def took(self, shape: Shape, now: float) -> None:
        """A job of this shape was placed here."""
        if shape is self.shape:
            self.fulfilled = True
        elif not self._is_over(shape, now):
            self.spare = subtract(self.spare, shape.need)

    def _is_over(self, shape: Shape, now: float) -> bool:
        """Whether jobs of this shape have ended when the one with the place can start."""
        return shape.limit < FOREVER and now + shape.limit <= self.start


class Work:
    """A pass that is due. :meth:`solve` touches nothing but the snapshot: it may run in another thread.

    Attributes:
        solved: Whether :meth:`solve` has returned; the others are empty before.
        blocked: Shapes that fit none of these offers any more.
        used_up: Shapes all of whose known jobs were placed.
        limited: Shapes passed over because of what their users hold.
        touched: Ids of the offers that got jobs, in that order (values mean nothing).
        complete: Whether every shape was looked at until it was blocked or used up.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.solved = False
        self.blocked: list[Shape] = []
        self.used_up: list[Shape] = []
        self.limited: list[Shape] = []
        self.touched: dict[str, None] = {}
        self.complete = False
        self._placed: list[Placement] = []
        self._later: list[Head] = []
        """A heap: the next jobs of shapes that had one placed."""
        self._memo: dict[tuple[str, str], bool] = {}
        self._holdings: dict[str, Holding] = dict(snapshot.holdings)
        self._fresh = Rooms((), self._matches)
        self._old = self._kept_fresh = self._kept_old = self._fresh
        self._kept = False
        """Whether there are rooms of kept agents; they are in neither of the first two."""

    @property
    def size(self) -> int:
        """How many shapes the pass looks at."""
        return len(self.snapshot.heads)

    def solve(self) -> list[Placement]:
        """Return the placements, in the planner's order. Call it once."""
        self._sort_rooms()
        heads, newest, later = self.snapshot.heads, self.snapshot.newest, self._later
        limits = self.snapshot.user_limits
        position, going_on = 0, True
        while going_on:
            if position < len(heads) and not (later and later[0] < heads[position]):
                head = heads[position]
                position += 1
            elif later:
                head = heappop(later)
            else:
                self.complete = True
                break
            shape = head[2]
            if shape.tried >= newest:
                continue
            if limits is not None and not self._admitted(limits, shape, 1):
                self.limited.append(shape)
                continue
            room = self._find(shape)
            if room is None and self._kept:
                room = self._find_kept(head, 0.0)
            if room is None:
                self.blocked.append(shape)
            else:
                going_on = self._place(head, room, heads[position] if position < len(heads) else None)
        self.solved = True
        return self._placed

    def _sort_rooms(self) -> None:
        settled, kept = self.snapshot.settled, self.snapshot.kept
        rooms: Sequence[Room] = self.snapshot.rooms
        if kept:
            apart = [room for room in rooms if room.offer.agent in kept]
            rooms = [room for room in rooms if room.offer.agent not in kept]
            self._kept, (self._kept_fresh, self._kept_old) = bool(apart), self._parted(apart, settled)
        self._fresh, self._old = self._parted(rooms, settled)

    def _parted(self, rooms: Sequence[Room], settled: int) -> tuple[Rooms, Rooms]:
        fresh = [room for room in rooms if room.stamp > settled]
        return Rooms(fresh, self._matches), Rooms([room for room in rooms if room.stamp <= settled], self._matches)

    def _admitted(self, limits: UserLimits, shape: Shape, wanted: int) -> int:
        """How many more jobs of this shape its user may run, at most ``wanted``."""
        return limits.room(self._holdings.get(shape.owner, NO_HOLDING), shape.need, wanted)

    def _find(self, shape: Shape) -> Room | None:
        room = self._fresh.find(shape.need, shape.constraint, shape.tried)
        if shape in self.snapshot.pending:
            other = self._old.find(shape.need, shape.constraint, shape.tried)
            if other is not None and (room is None or other < room):
                return other
        return room

    def _find_kept(self, head: Head, score: float) -> Room | None:
        """The tightest room on a kept agent: looked for last, so that what is kept stays free if it can."""
        rank, job_id, shape = head
        kept, turn, now = self.snapshot.kept, (score, rank, job_id), self.snapshot.now

        def admits(room: Room) -> bool:
            return kept[room.offer.agent].admits(shape, turn, now)

        room = self._kept_fresh.find(shape.need, shape.constraint, shape.tried, admits)
        if shape in self.snapshot.pending:
            other = self._kept_old.find(shape.need, shape.constraint, shape.tried, admits)
            if other is not None and (room is None or other < room):
                return other
        return room

    def _place(self, head: Head, room: Room, rival: Head | None) -> bool:
        """Place jobs of one shape, from ``head`` on, until another shape is due. False: stop the pass."""
        rank, job_id, shape = head
        ids = self.snapshot.following.get(shape, [job_id])
        first = bisect_left(ids, job_id)
        if self._later and (rival is None or self._later[0] < rival):
            rival = self._later[0]
        end = len(ids) if rival is None or rival[0] > rank else bisect_left(ids, rival[1], first)
        count = self._put(shape, room, ids, first, end - first)
        if first + count < len(ids):
            heappush(self._later, (rank, ids[first + count], shape))
        else:
            self.used_up.append(shape)
        return len(self._placed) < self.snapshot.limit and shape not in self.snapshot.unknown

    def _put(self, shape: Shape, room: Room, ids: Sequence[int], first: int, most: int) -> int:
        """Place up to ``most`` jobs of a shape in a room where one fits. Returns how many."""
        snapshot = self.snapshot
        most = min(most, snapshot.limit - len(self._placed))
        if snapshot.user_limits is not None:
            most = self._admitted(snapshot.user_limits, shape, most)
        offer = room.offer
        kept = snapshot.kept.get(offer.agent) if self._kept else None
        rooms = (self._fresh, self._old) if kept is None else (self._kept_fresh, self._kept_old)
        if kept is not None and not kept.fulfilled:
            most = 1
        count = room.times(shape.need, most)
        self._placed += [Placement(placed_id, offer.id) for placed_id in ids[first : first + count]]
        self.touched[offer.id] = None
        smaller = room.less(shape.need, count)
        if kept is not None:
            kept.took(shape, snapshot.now)
        rooms[room.stamp <= snapshot.settled].replace(room, smaller)
        if snapshot.user_limits is not None:
            self._count(shape, count)
        return count

    def _count(self, shape: Shape, count: int) -> None:
        """So many more jobs of this shape count for their user's limits."""
        held = self._holdings.get(shape.owner, NO_HOLDING)
        self._holdings[shape.owner] = held.plus(shape.need, count)

    def _matches(self, constraint: Constraint, room: Room) -> bool:
        key = (constraint.text, room.labels)
        answer = self._memo.get(key)
        if answer is None:
            answer = self._memo[key] = constraint.matches(room.offer.attributes)
        return answer
