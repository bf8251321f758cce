"""A pass that chooses between users: at every step the user with the least score goes next."""

from __future__ import annotations

from bisect import bisect_left
from heapq import heapify, heappop, heappush, heapreplace

from retz.model.resources import add

from .limits import NOTHING
from .queue import Head
from .shares import Standings
from .work import Placement, Snapshot, Work

_Turn = tuple[float, int, int, str]
"""(score, rank and id of the user's next job, user): the least goes next."""


class _Line:
    """What one user has still to be looked at, in order of (rank, id)."""

    __slots__ = ("heads", "later", "position", "score")

    def __init__(self, score: float) -> None:
        self.score = score
        self.heads: list[Head] = []
        self.position = 0
        self.later: list[Head] = []
        """A heap: the next jobs of shapes that had one placed."""

    def peek(self) -> Head | None:
        """The next, if there is one."""
        head = self.heads[self.position] if self.position < len(self.heads) else None
        if self.later and (head is None or self.later[0] < head):
            return self.later[0]
        return head

    def pop(self) -> Head:
        """The next, which leaves. There is one."""
        if self.later and (self.position == len(self.heads) or self.later[0] < self.heads[self.position]):
            return heappop(self.later)
        self.position += 1
        return self.heads[self.position - 1]


class FairWork(Work):
    """See the module's text. The heads of the snapshot are in order within each user."""

    def __init__(self, snapshot: Snapshot, standings: Standings) -> None:
        super().__init__(snapshot)
        self._held = dict(standings.held)
        self._standings = standings._replace(held=self._held)

    def solve(self) -> list[Placement]:
        """Return the placements, in the planner's order. Call it once."""
        self._sort_rooms()
        lines = self._lines()
        turns = [_turn(user, line) for user, line in lines.items()]
        heapify(turns)
        going_on = True
        while going_on and turns:
            user = turns[0][3]
            line = lines[user]
            # Of all others the best is one of the heap's first three.
            going_on = self._step(line, user, min(turns[1:3], default=None))
            if line.peek() is None:
                heappop(turns)
            else:
                heapreplace(turns, _turn(user, line))
        self.complete = going_on
        self.solved = True
        return self._placed

    def _lines(self) -> dict[str, _Line]:
        lines: dict[str, _Line] = {}
        newest = self.snapshot.newest
        for head in self.snapshot.heads:
            shape = head[2]
            if shape.tried >= newest:
                continue
            line = lines.get(shape.owner)
            if line is None:
                line = lines[shape.owner] = _Line(self._standings.score(shape.owner))
            line.heads.append(head)
        return lines

    def _step(self, line: _Line, user: str, rival: _Turn | None) -> bool:
        """Place the next jobs of one user, of one shape, until somebody else is due. False: stop the pass.

        What fits nowhere is passed at once, also if the rival is due: rooms only shrink.
        """
        snapshot = self.snapshot
        while (head := line.peek()) is not None:
            rank, job_id, shape = head
            if snapshot.user_limits is not None and not self._admitted(snapshot.user_limits, shape, 1):
                self.limited.append(line.pop()[2])
                continue
            room = self._find(shape)
            if room is None and self._kept:
                room = self._find_kept(head, line.score)
            if room is not None:
                break
            self.blocked.append(line.pop()[2])
        if head is None or room is None or (rival is not None and (line.score, rank, job_id) > rival[:3]):
            return True
        line.pop()
        ids = snapshot.following.get(shape, [job_id])
        first = bisect_left(ids, job_id)
        other = line.peek()
        end = len(ids) if other is None or other[0] > rank else bisect_left(ids, other[1], first)
        most = min(end - first, snapshot.limit - len(self._placed))
        count = self._put(shape, room, ids, first, self._turns(user, head, ids[first : first + most], rival))
        cpus, mem, disk, gpus, ports = shape.need
        more = (cpus * count, mem * count, disk * count, gpus * count, ports * count)
        self._held[user] = add(self._held.get(user, NOTHING), more)
        line.score = self._standings.score(user)
        if first + count < len(ids):
            heappush(line.later, (rank, ids[first + count], shape))
        else:
            self.used_up.append(shape)
        return len(self._placed) < snapshot.limit and shape not in snapshot.unknown

    def _turns(self, user: str, head: Head, ids: list[int], rival: _Turn | None) -> int:
        """How many of these jobs, one at least, are due before the rival is."""
        rank, _, shape = head
        if rival is None:
            return len(ids)
        for count in range(1, len(ids)):
            if (self._standings.score(user, shape.need, count), rank, ids[count]) > rival[:3]:
                return count
        return len(ids)


def _turn(user: str, line: _Line) -> _Turn:
    head = line.peek()
    assert head is not None
    return line.score, head[0], head[1], user
