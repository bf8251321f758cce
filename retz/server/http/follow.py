"""Following a file of a job while it is written, over attempts, until the job has ended."""

from __future__ import annotations

import time

from aiohttp import web

from retz.engine.base import FileReader, FilesUnavailable
from retz.model.job import ENDED_STATES, Attempt, Job

from . import streaming
from .api import Call

CHUNK = 256 * 1024
SHORTEST_S, LONGEST_S = 0.02, 1.0
"""Waits between two looks at a file: short while it grows, longer the longer it does not."""
AWAY_S = 60.0
"""How long a follower waits, once an attempt is over, for the rest of its output from a machine that is away."""


class Follower:
    """Sends one file of a job, from ``offset``, as it grows; then the same file of the next attempt.

    Args:
        number: Attempt to begin with.
    """

    def __init__(self, call: Call, job_id: int, path: str, offset: int, number: int) -> None:
        self._call = call
        self._job_id = job_id
        self._path = path
        self._offset = offset
        self._number = number
        self._reader: FileReader | None = None
        self._pause = SHORTEST_S
        self._away_since: float | None = None

    @property
    def opened(self) -> bool:
        """Whether the present attempt's file is open."""
        return self._reader is not None

    async def open(self, attempt: Attempt) -> None:
        """Open the present attempt's file if it is there.

        Raises:
            FileRefused: it is not a file one may read.
            FilesUnavailable: the machine that has it cannot be asked.
        """
        task_id = f"{self._job_id}.{attempt.number}"
        try:
            self._reader = await self._call.core.engine.open_file(task_id, self._path, attempt.agent)
        except (FileNotFoundError, NotADirectoryError):
            self._reader = None

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    async def produce(self, response: web.StreamResponse) -> None:
        """Write until the job has ended and everything was sent, or nobody may or wants to go on."""
        while self._call.api.may_go_on(self._call.user) and not streaming.gone(self._call.request):
            job = self._call.core.find(self._job_id)
            if job is None:
                return
            # What was written before the end was known is all there is: look for the end first, then read.
            over = _over(job, self._number)
            sent = await self._send_new(response, attempt) if (attempt := _attempt(job, self._number)) else 0
            if over and not sent and self._given_up(job):
                if not self._next(job):
                    await self._call.core.settled()
                    return
            elif sent:
                self._pause = SHORTEST_S
            else:
                await self._wait()

    def _given_up(self, job: Job) -> bool:
        """Whether there is nothing more to wait for; always so if the machine of the file is not away.

        Raises:
            ConnectionAbortedError: the rest is missing and nothing follows it: this must not look like the end.
        """
        if self._away_since is None:
            return True
        if time.monotonic() - self._away_since < AWAY_S:
            return False
        if not _later(job, self._number) and job.state in ENDED_STATES:
            raise ConnectionAbortedError("the machine that has the rest of the file is away")
        return True

    async def _send_new(self, response: web.StreamResponse, attempt: Attempt) -> int:
        try:
            sent = await self._copy_new(response, attempt)
        except FilesUnavailable as error:
            if not error.waiting_helps:
                raise ConnectionAbortedError(str(error)) from error
            if self._away_since is None:
                self._away_since = time.monotonic()
            return 0
        except FileNotFoundError:
            self.close()  # it was there: look for it again
            sent = 0
        self._away_since = None
        return sent

    async def _copy_new(self, response: web.StreamResponse, attempt: Attempt) -> int:
        if self._reader is None:
            await self.open(attempt)
        if self._reader is None:
            return 0
        size = await self._reader.refresh()
        total = 0
        while self._offset < size:
            data = await self._reader.read(self._offset, min(CHUNK, size - self._offset))
            if not data:
                break
            await response.write(data)
            self._offset += len(data)
            total += len(data)
        return total

    def _next(self, job: Job) -> bool:
        """Go on with the next attempt, existing or to come; False if there will be none."""
        later = _later(job, self._number)
        if not later and job.state in ENDED_STATES:
            return False
        self.close()
        self._number = later[0] if later else self._number + 1
        self._offset = 0
        self._away_since = None
        return True

    async def _wait(self) -> None:
        changed = await self._call.api.hub.changed(self._job_id, self._pause)
        self._pause = SHORTEST_S if changed else min(self._pause * 1.5, LONGEST_S)


def _attempt(job: Job, number: int) -> Attempt | None:
    return next((attempt for attempt in job.attempts if attempt.number == number), None)


def _later(job: Job, number: int) -> list[int]:
    return [attempt.number for attempt in job.attempts if attempt.number > number]


def _over(job: Job, number: int) -> bool:
    if job.state in ENDED_STATES:
        return True
    return any(
        attempt.number > number or (attempt.number == number and attempt.ended is not None) for attempt in job.attempts
    )
