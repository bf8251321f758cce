"""The queue, indexed by shape: what planning costs follows the number of distinct shapes, not of jobs.

A shape is everything that decides about placement: resources, constraint, owner, priority, time limit. Inside
a shape jobs stand in order of id, so that only its first job, its head, has to be looked at. Heads stand sorted
in lanes: one for all, or one for each user where the planner chooses between users.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import cast

from sortedcontainers import SortedList

from retz.model.agent import AttributeValue
from retz.model.job import Job
from retz.model.resources import Vector

from .constraints import Constraint, parse
from .planner import Planner

_LIST_LIMIT = 2000
"""Up to here a plain list is smaller and faster than a SortedList (0.2 against 1.2 µs to append)."""

ShapeKey = tuple[Vector, str, str, int, float]

FOREVER = math.inf
"""How long a job without a time limit is taken to run."""


def longest_run(job: Job) -> float:
    """Seconds after which an attempt of this job is over for sure."""
    return FOREVER if job.timeout_s is None else job.timeout_s + job.kill_grace_s


class Ids:
    """Ascending job ids: a plain list while short, because most shapes hold few, else a SortedList."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: list[int] | SortedList[int] = []

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, job_id: int) -> None:
        """Insert an id that is not in it."""
        ids = self._ids
        if not isinstance(ids, list):
            ids.add(job_id)
        elif not ids or job_id > ids[-1]:
            ids.append(job_id)
        else:
            insort(ids, job_id)
        if len(ids) == _LIST_LIMIT and isinstance(ids, list):
            self._ids = SortedList(ids)

    def remove(self, job_id: int) -> None:
        """Take out an id that is in it."""
        ids = self._ids
        if isinstance(ids, list):
            del ids[bisect_left(ids, job_id)]
        else:
            ids.remove(job_id)

    def head(self) -> int:
        """The lowest id."""
        return cast(int, self._ids[0])

    def below(self, job_id: int) -> int:
        """How many ids are lower."""
        ids = self._ids
        return bisect_left(ids, job_id) if isinstance(ids, list) else cast(int, ids.bisect_left(job_id))

    def first(self, count: int) -> list[int]:
        """A copy of the lowest ``count`` ids."""
        ids = self._ids
        return ids[:count] if isinstance(ids, list) else list(ids.islice(0, count))


class Shape:
    """Queued jobs that are alike to a planner.

    Attributes:
        limit: Its jobs end within so many seconds.
        rank: The planner's rank of all of its jobs.
        line: The ids of all jobs of its lane and rank.
        tried: It fits none of the offers with a stamp up to this one.
    """

    __slots__ = ("constraint", "ids", "key", "lane", "limit", "line", "need", "owner", "rank", "tried")

    def __init__(self, key: ShapeKey, rank: int, lane: Lane) -> None:
        self.key = key
        self.need = key[0]
        self.constraint: Constraint = parse(key[1])
        self.owner = key[2]
        self.limit = key[4]
        self.rank = rank
        self.lane = lane
        self.line = lane.line(rank)
        self.ids = Ids()
        self.tried = 0

    def accepts(self, attributes: Mapping[str, AttributeValue]) -> bool:
        """Whether its constraint holds for an agent with these attributes."""
        return not self.constraint.clauses or self.constraint.matches(attributes)


Head = tuple[int, int, Shape]
"""(rank, id, shape): ids are unique, so comparing never reaches the shape."""


class Lane:
    """Jobs that stand in one order of (rank, id). ``heads`` are those of its shapes, sorted."""

    __slots__ = ("heads", "lines", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.heads: SortedList[Head] = SortedList()
        self.lines: dict[int, Ids] = {}

    def __len__(self) -> int:
        return sum(map(len, self.lines.values()))

    def line(self, rank: int) -> Ids:
        """All ids of one rank."""
        found = self.lines.get(rank)
        if found is None:
            found = self.lines[rank] = Ids()
        return found

    def first(self, count: int) -> list[int]:
        """The ids of its first jobs, in order."""
        found: list[int] = []
        for rank in sorted(self.lines):
            found += self.lines[rank].first(count - len(found))
        return found

    def ahead(self, shape: Shape, job_id: int) -> int:
        """How many of its jobs come before this one."""
        lower = sum(len(ids) for rank, ids in self.lines.items() if rank < shape.rank)
        return lower + shape.line.below(job_id)

    def ahead_ids(self, shape: Shape, job_id: int, limit: int) -> list[int]:
        """The first ``limit`` of them, in order."""
        found: list[int] = []
        for rank in sorted(rank for rank in self.lines if rank < shape.rank):
            found += self.lines[rank].first(limit - len(found))
        return found + shape.line.first(min(limit - len(found), shape.line.below(job_id)))


class Queue:
    """All queued jobs. Changing one costs O(log n)."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.lanes: dict[str, Lane] = {}
        """By user where the planner chooses between users, else one named ``""``."""
        self.shapes: dict[ShapeKey, Shape] = {}
        self.several: set[Shape] = set()
        """Shapes of more than one job."""
        self._shape_of: dict[int, Shape] = {}

    def __len__(self) -> int:
        return len(self._shape_of)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._shape_of

    def shape_of(self, job_id: int) -> Shape | None:
        """The shape a queued job belongs to; None for others."""
        return self._shape_of.get(job_id)

    def add(self, job: Job) -> Shape | None:
        """Put a job in; one that is there already is taken out first. Returns its shape if that is new."""
        job_id = job.id
        if job_id in self._shape_of:
            self.remove((job_id,))
        key = (job.resources.vector, job.attributes, job.owner, job.priority, longest_run(job))
        shape = self.shapes.get(key)
        if shape is None:
            shape = self._new_shape(key)
            new = shape
        else:
            new = None
            self._before_growth(shape, job_id)
        shape.ids.add(job_id)
        self._shape_of[job_id] = shape
        shape.line.add(job_id)
        if new is not None:
            shape.lane.heads.add((shape.rank, job_id, shape))
        return new

    def _new_shape(self, key: ShapeKey) -> Shape:
        name = key[2] if self.planner.by_user else ""
        lane = self.lanes.get(name)
        if lane is None:
            lane = self.lanes[name] = Lane(name)
        shape = self.shapes[key] = Shape(key, self.planner.rank(key[2], key[3]), lane)
        return shape

    def _before_growth(self, shape: Shape, job_id: int) -> None:
        if len(shape.ids) == 1:
            self.several.add(shape)
        head = shape.ids.head()
        if job_id < head:
            shape.lane.heads.remove((shape.rank, head, shape))
            shape.lane.heads.add((shape.rank, job_id, shape))

    def remove(self, job_ids: Iterable[int]) -> list[Shape]:
        """Take jobs out; ids that are not there are ignored. Returns the shapes that are empty now."""
        head_before: dict[Shape, int] = {}
        for job_id in job_ids:
            shape = self._shape_of.pop(job_id, None)
            if shape is None:
                continue
            if shape not in head_before:
                head_before[shape] = shape.ids.head()
            shape.ids.remove(job_id)
            shape.line.remove(job_id)
        return [shape for shape, head in head_before.items() if self._shrunk(shape, head)]

    def _shrunk(self, shape: Shape, old_head: int) -> bool:
        left = len(shape.ids)
        if left < 2:
            self.several.discard(shape)
        if left and shape.ids.head() == old_head:
            return False
        heads = shape.lane.heads
        heads.remove((shape.rank, old_head, shape))
        if left:
            heads.add((shape.rank, shape.ids.head(), shape))
            return False
        del self.shapes[shape.key]
        if not heads and self.planner.by_user:
            del self.lanes[shape.lane.name]
        return True

    def all_heads(self) -> list[Head]:
        """The heads of all lanes, each lane's in order, one lane after the other."""
        lanes = list(self.lanes.values())
        if len(lanes) == 1:
            return list(lanes[0].heads)
        return [head for lane in lanes for head in lane.heads]
