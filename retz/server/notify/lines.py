"""In which order calls are made, and when again: pure, the time comes in as an argument.

Notices for one receiver (scheme, host, port) of one user stand in one line. A receiver that does not answer rests,
longer and longer, and with it its whole line; then one call tries whether it is back. So 10 000 notices for a dead
receiver cost one call per rest. A notice that just it was refused waits alone.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from typing import Literal

from .outbox import Pending

FIRST_REST_S = 5.0
LONGEST_REST_S = 900.0
PER_USER = 4
"""Calls for one user at one time: of one receiver if it answers, of several otherwise."""
IN_ALL = 16


def rest_s(failures: int) -> float:
    """How long to wait after so many failures in a row: 5 s, 10 s, 20 s ... 15 min."""
    return float(min(LONGEST_REST_S, FIRST_REST_S * 2 ** min(failures - 1, 20)))


class Line:
    """Notices for one receiver of one user.

    Attributes:
        failures: How often in a row the receiver was down.
        rests_until: It is not called before.
        calls: How many calls are under way.
        where: Whether it waits for its time (or its turn among the user's lines), or for no next call at all.
        listed_at: The time for which it waits.
    """

    __slots__ = ("_heap", "_number", "calls", "failures", "key", "listed_at", "rests_until", "where")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.failures = 0
        self.rests_until = 0.0
        self.calls = 0
        self.where: Literal["idle", "listed", "parked"] = "idle"
        self.listed_at = 0.0
        self._heap: list[tuple[float, int, Pending]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def ready_at(self) -> float:
        """When its next call may be made. There must be one."""
        return max(self.rests_until, self._heap[0][0])

    @property
    def open(self) -> bool:
        """Whether another call may be made beside those under way: not to find out whether the receiver is back."""
        return bool(self._heap) and (not self.calls or not self.failures)

    def rest(self, now: float) -> None:
        """The receiver is down. Of calls that were under way together only the first to tell counts."""
        if now >= self.rests_until:
            self.failures += 1
            self.rests_until = now + rest_s(self.failures)

    def add(self, pending: Pending) -> None:
        """Put a notice behind those that are due as early."""
        self._number += 1
        heapq.heappush(self._heap, (pending.due, self._number, pending))

    def take(self) -> Pending:
        """The notice that is due first."""
        return heapq.heappop(self._heap)[2]

    def before(self, at: float) -> list[Pending]:
        """Take out all notices of events before a time."""
        old = [entry for entry in self._heap if entry[2].notice.at < at]
        if old:
            self._heap = [entry for entry in self._heap if entry[2].notice.at >= at]
            heapq.heapify(self._heap)
        return [entry[2] for entry in old]


class Lines:
    """All lines, and how many calls are under way."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], Line] = {}
        self._heap: list[tuple[float, int, Line]] = []
        """Listed lines; an entry is of no account if its line is not listed, or for another time."""
        self._calls: Counter[str] = Counter()
        self._parked: dict[str, deque[Line]] = {}
        self._number = 0

    def add(self, pending: Pending, now: float) -> None:
        """A new notice."""
        key = (pending.notice.owner, pending.notice.receiver)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key)
        line.add(pending)
        self._list(line, now)

    def _list(self, line: Line, now: float) -> None:
        """Let it wait for its next call, if there is to be one: behind those that wait already, so all have turns."""
        if line.where == "parked" or not line.open:
            return
        at = max(line.ready_at, now)
        if line.where == "listed" and line.listed_at <= at:
            return
        line.where, line.listed_at = "listed", at
        self._number += 1
        heapq.heappush(self._heap, (at, self._number, line))

    def next(self, now: float) -> tuple[Line, Pending] | None:
        """A notice that is to be told now, and its line; say :meth:`back` when that is over."""
        while self._heap and self._heap[0][0] <= now and self._calls.total() < IN_ALL:
            at, _, line = heapq.heappop(self._heap)
            if line.where != "listed" or line.listed_at != at:
                continue
            line.where = "idle"
            if not line.open or line.ready_at > now:  # since then a call failed, or took what was due
                self._list(line, now)
                continue
            owner = line.key[0]
            if self._calls[owner] >= PER_USER:
                line.where = "parked"
                self._parked.setdefault(owner, deque()).append(line)
                continue
            pending = line.take()
            line.calls += 1
            self._calls[owner] += 1
            self._list(line, now)
            return line, pending
        return None

    def back(self, line: Line, now: float) -> None:
        """One of its calls is over."""
        owner = line.key[0]
        self._calls[owner] -= 1
        if not self._calls[owner]:
            del self._calls[owner]
        line.calls -= 1
        if line or line.calls:
            self._list(line, now)
        else:
            del self._lines[line.key]
        parked = self._parked.get(owner)
        if parked:
            first = parked.popleft()
            first.where = "idle"
            self._list(first, now)
            if not parked:
                del self._parked[owner]

    def next_at(self) -> float | None:
        """When to look again, if nothing changes before; None: there is nothing to do but what is under way."""
        return self._heap[0][0] if self._heap and self._calls.total() < IN_ALL else None
