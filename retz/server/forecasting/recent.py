"""What was submitted lately: such jobs will come again, and a forecast that forgets them promises too much."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from retz.model.job import Job

DAY_S = 86_400.0
"""So far back, because days are alike."""

LEAST_S = 3600.0
"""Less than this says nothing about what is usual."""

MOST = 1000
PER_MINUTE = 20
"""Of more jobs in one minute from one user, as many are taken for usual: a bulk submit does not come every day."""


class Recent:
    """The jobs submitted in the last day, of those that the server saw.

    Args:
        now: Since when it sees them, epoch seconds.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self._jobs: deque[tuple[Job, int]] = deque()
        self._count = 0
        self._minute: tuple[str, float] = ("", 0.0)
        self._in_minute = 0

    def add(self, jobs: Sequence[Job]) -> None:
        """Take new jobs, in order of their submission. Of a bulk most are ignored, at no cost."""
        for job in jobs:
            minute = (job.owner, job.submitted // 60)
            if minute != self._minute:
                self._minute, self._in_minute = minute, 0
            if self._in_minute >= PER_MINUTE:
                break  # all of a submission are of one user and minute
            size = 1 if job.array is None else min(job.array.size, PER_MINUTE - self._in_minute)
            self._in_minute += size
            self._count += size
            self._jobs.append((job, size))
        while self._count > MOST:
            self._since = max(self._since, self._jobs[0][0].submitted)
            self._count -= self._jobs.popleft()[1]

    def seen(self, now: float) -> tuple[list[Job], float]:
        """The jobs of the last day, an array as several of its tasks, and how many seconds that is; none if too few.

        Clocks that were set make them none for a day at most.
        """
        since = max(self._since, now - DAY_S)
        if now - since < LEAST_S:
            return [], 0.0
        jobs = [job for job, size in self._jobs if since < job.submitted <= now for _ in range(size)]
        return jobs, now - since
