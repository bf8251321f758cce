"""Jobs that wait for other jobs, or for a time: indexes in memory, made from the records again at every start."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import islice
from typing import Literal

from retz.model.job import ENDED_STATES, Job


class Waiting:
    """Who waits for whom, and until when. The end of a job costs O(its dependents).

    Args:
        find: A job, live or archived.
    """

    def __init__(self, find: Callable[[int], Job | None]) -> None:
        self._find = find
        self._pending: dict[int, set[int]] = {}
        self._dependents: dict[int, list[int]] = {}
        self._must_be_well: set[tuple[int, int]] = set()
        """(waiting job, awaited job)."""
        self._times: list[tuple[float, int]] = []
        self._timed: dict[int, float] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._pending or self._timed or self._dependents)

    def enter(self, job: Job, now: float) -> int | None:
        """Remember what a new job waits for; return a job that should have ended well and did not: drop it then."""
        if job.start_at is not None and job.start_at > now:
            self._timed[job.id] = job.start_at
            heapq.heappush(self._times, (job.start_at, job.id))
        doom = self.doomed(job)
        if doom is not None:
            self._pending.setdefault(job.id, set()).add(doom)  # nothing may start it until it is dropped
        for awaited_id in (*job.after, *job.after_any):
            awaited = self._find(awaited_id)
            # One that is not even in the archive any more ended long ago: badly, and we would not be here.
            if awaited is None or awaited.state in ENDED_STATES:
                continue
            self._pending.setdefault(job.id, set()).add(awaited_id)
            self._dependents.setdefault(awaited_id, []).append(job.id)
            if awaited_id in job.after:
                self._must_be_well.add((job.id, awaited_id))
        return doom

    def doomed(self, job: Job) -> int | None:
        """A job that should have ended well before this one starts, and did not; None if there is none."""
        for awaited_id in job.after:
            awaited = self._find(awaited_id)
            if awaited is not None and awaited.state in ENDED_STATES and awaited.state != "FINISHED":
                return awaited_id
        return None

    def blocks(self, job_id: int) -> bool:
        """Whether this job waits for something."""
        return job_id in self._pending or job_id in self._timed

    def first(self, count: int) -> list[int]:
        """Some of the jobs that wait for something, those that began to wait first."""
        return list(dict.fromkeys([*islice(self._pending, count), *islice(self._timed, count)]))[:count]

    def awaited(self, job_id: int) -> list[int]:
        """The jobs it waits for."""
        return sorted(self._pending.get(job_id, ()))

    def until(self, job_id: int) -> float | None:
        """The time it waits for."""
        return self._timed.get(job_id)

    def forget(self, job_id: int) -> None:
        """It waits no more: it has ended."""
        self._timed.pop(job_id, None)
        for awaited in self._pending.pop(job_id, ()):
            self._must_be_well.discard((job_id, awaited))

    def dependents(self, job_id: int) -> list[int]:
        """Who waits for a job, which has ended: each must be told by :meth:`resolve`, and is blocked until then."""
        return self._dependents.pop(job_id, [])

    def resolve(self, waiting: int, ended: Job) -> Literal["ready", "doomed"] | None:
        """One that waited need not wait for this job any more: it may start now, or never, or still waits."""
        pending = self._pending.get(waiting)
        if pending is None or ended.id not in pending:
            return None  # killed meanwhile
        if (waiting, ended.id) in self._must_be_well and ended.state != "FINISHED":
            return "doomed"  # and stays pending until it is dropped: nothing may start it
        self._must_be_well.discard((waiting, ended.id))
        pending.discard(ended.id)
        if pending:
            return None
        del self._pending[waiting]
        return None if waiting in self._timed else "ready"

    def due(self, now: float) -> list[int]:
        """Jobs whose time has come and that wait for nothing else; call again when :attr:`next_time` has come."""
        ready: list[int] = []
        while self._times and self._times[0][0] <= now:
            _, job_id = heapq.heappop(self._times)
            if self._timed.pop(job_id, None) is not None and job_id not in self._pending:
                ready.append(job_id)
        return ready

    @property
    def timed(self) -> bool:
        """Whether anybody waits for a time."""
        return bool(self._timed)

    @property
    def next_time(self) -> float | None:
        """When the first of them is due; None if none waits for a time."""
        while self._times and self._times[0][1] not in self._timed:
            heapq.heappop(self._times)
        return self._times[0][0] if self._times else None
