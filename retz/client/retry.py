"""When to try again, and after how long. One rule for every kind of client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .calls import Call
from .errors import ApiError, ConnectionLost, NoServer

FIRST_DELAY_S, MAX_DELAY_S = 0.05, 2.0
REFUSED_LIMIT_S = 1.5
"""Long enough for a quick restart, short enough for somebody who forgot to start the server."""


def new_key() -> str:
    """Return a submission key that nobody else has: 128 random bits."""
    return os.urandom(16).hex()


class Backoff:
    """Delays between the attempts at one call: doubling from 50 ms to 2 s, up to a limit.

    Args:
        limit_s: How long to go on after an answer was lost.
        refused_limit_s: How long to go on while no connection can be made, or the server says 503 (it drains, or cannot
            write): people are told soon, programs (None: the same as ``limit_s``) are patient.
    """

    def __init__(
        self,
        limit_s: float,
        refused_limit_s: float | None = REFUSED_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_s = limit_s
        self._refused_limit_s = limit_s if refused_limit_s is None else refused_limit_s
        self._clock = clock
        self._began = clock()
        self._delay = FIRST_DELAY_S

    def progressed(self) -> None:
        """The server answered: the next failure is a new one."""
        self._began, self._delay = self._clock(), FIRST_DELAY_S

    def delay_after(self, error: Exception, call: Call) -> float | None:
        """Return the seconds to wait before the next attempt; None to give up."""
        if not _retryable(error, call):
            return None
        absent = isinstance(error, ApiError | NoServer)
        limit = self._refused_limit_s if absent else self._limit_s
        if self._clock() - self._began + self._delay > limit:
            return None
        delay, self._delay = self._delay, min(self._delay * 2, MAX_DELAY_S)
        return delay


def _retryable(error: Exception, call: Call) -> bool:
    if isinstance(error, NoServer):
        return True  # the request was never received
    if isinstance(error, ConnectionLost):
        return call.repeat
    return isinstance(error, ApiError) and error.status == 503 and call.method != "PUT"
