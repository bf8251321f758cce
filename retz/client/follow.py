"""Following a file across broken connections and attempts, without any I/O of its own.

A follow stream is the file of the latest attempt, then of the next one, and so on, as one run of bytes. When
the connection breaks, the number of bytes received so far says where to go on, once the sizes of the files of
earlier attempts are taken off it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from . import calls
from .calls import Call
from .errors import ApiError

ENDED = ("FINISHED", "FAILED", "KILLED")

Steps = Generator[Call, Any, Call]
"""Yields calls whose decoded answers (or ApiError, thrown in) it wants; returns the call to stream from."""


def drive(steps: Steps, answer_to: Callable[[Call], Any]) -> Call:
    """Answer the calls of ``steps`` one after the other, refusals thrown into it; return what it returns."""
    answer: Any = None
    error: ApiError | None = None
    while True:
        try:
            call = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as stop:
            result: Call = stop.value
            return result
        answer, error = None, None
        try:
            answer = answer_to(call)
        except ApiError as refused:
            error = refused


class Follow:
    """Where one follow stream stands.

    Args:
        offset: First byte wanted, of the attempt that is the latest when the following begins.
    """

    def __init__(self, job_id: int | str, path: str, offset: int = 0) -> None:
        self._job_id = job_id
        self._path = path
        self._attempt = 0
        self._position = offset

    def received(self, count: int) -> None:
        """So many more bytes arrived."""
        self._position += count

    def connect(self) -> Steps:
        """Steps to (re)connect. Attempts that ended meanwhile are read to their end first."""
        job: Mapping[str, Any] = yield calls.job(self._job_id)
        self._job_id = job["id"]
        latest = len(job["attempts"]) or 1
        self._attempt = self._attempt or latest
        while self._attempt < latest:
            size = yield from self._size()
            if self._position < size:
                break
            self._position -= size
            self._attempt += 1
        pinned = self._attempt if self._attempt < latest else None
        return calls.follow(self._job_id, self._path, self._position, pinned)

    def over(self) -> Call:
        """The call whose answer tells :meth:`is_over` whether a stream that ended cleanly was the last one."""
        return calls.job(self._job_id)

    def is_over(self, job: Mapping[str, Any]) -> bool:
        """False if the server merely stopped, or the job is tried again: connect once more."""
        return job["state"] in ENDED and len(job["attempts"]) <= self._attempt

    def _size(self) -> Generator[Call, Any, int]:
        try:
            listing = yield calls.files(self._job_id, self._path, self._attempt)
        except ApiError as error:
            if error.status != 404:
                raise
            return 0
        return sum(entry["size"] for entry in listing["entries"] if entry["path"] == self._path)
