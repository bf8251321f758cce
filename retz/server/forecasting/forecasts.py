"""The latest forecast, and when a new one is made: when somebody asks and it is stale.

Nothing here may stop the queue: what goes wrong is logged and told to those who ask, and tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from retz.config_server import ServerConfig
from retz.model.job import Job
from retz.scheduler.forecast import FUTURES, Foreseen
from retz.scheduler.outlook import Outlook

from ..frames import frame
from ..live import Live
from .gathering import History, gather
from .process import Fault, Worker
from .recent import Recent
from .wire import Request

log = logging.getLogger("retz.forecast")

BUDGET_S = 30.0
"""A worker that takes longer is killed."""

ENOUGH_S = 5.0
"""It begins no further future after so long."""

PAUSE_S = 2.0
DUTY = 10
"""A new forecast is made this many times as long after the last one as that took, at least: a tenth of a processor."""

STALE_S = 60.0
"""After so long it is made anew though nothing changed: what runs has run on."""

YOUNG_S = 60.0
"""While somebody looks all the time it is younger."""

TOO_OLD_S = 600.0
"""Lists do not show what is older."""

AFTER_FAULT_S = 60.0

CLOCK_SET_S = 5.0
"""By so much the wall clock differs from time that passed: somebody set it."""

FIRST_S = 5.0
"""Whoever asks first, or for a job that came after the last forecast, waits so long for an answer at most."""


class Latest:
    """A forecast as the server keeps it; see :class:`retz.scheduler.forecast.Forecast`.

    Attributes:
        at: Epoch seconds of the moment that it starts from.
        seq: The journal's sequence number at that time.
    """

    def __init__(
        self, jobs: dict[int, Foreseen], at: float, seq: int, rate: float, until: float | None, futures: int
    ) -> None:
        self.jobs = jobs
        self.at = at
        self.seq = seq
        self.rate = rate
        self.until = until
        self.futures = futures

    def not_before(self, ahead: int) -> float | None:
        """A bound for a job that was not looked at, with so many ahead of it; None if nothing is known."""
        if self.until is None:
            return None
        return max(self.until, self.at + ahead / self.rate) if self.rate > 0 else self.until


class Forecasts:
    """See the module's text. All methods are called on the event loop's thread.

    Args:
        seq: The journal's sequence number now.
        history: How long jobs ran.
        elapsed: Seconds, rising evenly whatever happens to the wall clock.
    """

    def __init__(
        self,
        live: Live,
        config: ServerConfig,
        history: History,
        seq: Callable[[], int],
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live = live
        self._config = config
        self._history = history
        self._seq = seq
        self._elapsed = elapsed
        self.worker = Worker()
        self.recent = Recent(live.clock())
        self.latest: Latest | None = None
        self.trouble: str | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._made_at = 0.0
        self._next_at = 0.0

    async def stop(self) -> None:
        """End the worker."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)
        await self.worker.stop()

    def of(self, job_id: int) -> Foreseen | None:
        """What is foreseen of a job; costs nothing and asks for nothing. What is too old is nothing."""
        latest = self.latest
        return latest.jobs.get(job_id) if latest is not None and self.age_s < TOO_OLD_S else None

    @property
    def age_s(self) -> float:
        """Seconds since the latest forecast's moment."""
        return self._elapsed() - self._made_at

    async def want(self, newest: float = 0.0) -> Latest | None:
        """The latest forecast, which is renewed if it is stale.

        The answer waits for a new one only where there is none yet, or where it began before ``newest``, when what is
        asked for was not there or not to be expected; and not for long.
        """
        self.refresh_if_stale(newest)
        until = self._elapsed() + FIRST_S
        while self.latest is None or self.latest.at < newest:
            pause = self._next_at - self._elapsed()
            if self._refreshing is not None:
                await asyncio.wait([self._refreshing], timeout=max(0.0, until - self._elapsed()))
            elif self._elapsed() + pause < until:
                await asyncio.sleep(pause)
            else:
                break
            if self._elapsed() >= until:
                break
            self.refresh_if_stale(newest)
        return self.latest

    async def soon(self, newest: float, seconds: float) -> None:
        """Wait so long at most for the forecast that is being made, if the latest one began before ``newest``.

        Where it is young nobody waits: a window that looks all the time would be late whenever a new one is made.
        """
        old = self.latest is None or (self.latest.at < newest and self.age_s >= YOUNG_S)
        if self._refreshing is not None and newest and old:
            await asyncio.wait([self._refreshing], timeout=seconds)

    def refresh_if_stale(self, newest: float = 0.0) -> None:
        """Begin a new forecast if the latest is stale, or began before ``newest``; nobody waits for it."""
        now = self._elapsed()
        if self._refreshing is not None or now < self._next_at:
            return
        latest = self.latest
        old = latest is None or latest.at < newest
        changed = old or latest is None or latest.seq != self._seq() or self._clock_was_set(latest)
        if changed or now - self._made_at >= STALE_S:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    def _clock_was_set(self, latest: Latest) -> bool:
        return abs(self._live.clock() - latest.at - self.age_s) > CLOCK_SET_S

    async def _refresh(self) -> None:
        began = self._elapsed()
        try:
            seq = self._seq()
            situation = await gather(self._live, self._config, self._history, self.recent)
            request = await asyncio.to_thread(frame, Request(situation, FUTURES, ENOUGH_S))
            jobs, rest = await self.worker.ask(request, BUDGET_S)
            self.latest = Latest(jobs, situation.now, seq, rest.rate, rest.until, rest.futures)
            self._made_at = began
            self._next_at = self._elapsed() + max(PAUSE_S, DUTY * (self._elapsed() - began))
            self.trouble = None
        except Fault as fault:
            self._failed(str(fault))
        except Exception:
            log.exception("the forecast failed")
            self._failed("it failed; see the server's log")
        finally:
            self._refreshing = None

    def _failed(self, why: str) -> None:
        if why != self.trouble:
            log.warning("no new forecast of starts and ends: %s; it is tried again in a minute or later", why)
        self.trouble = why
        self._next_at = self._elapsed() + AFTER_FAULT_S

    async def plan(self, job: Job) -> Outlook:
        """What would become of a job that is not submitted.

        Raises:
            Fault: nobody can tell at present.
        """
        situation = await gather(self._live, self._config, self._history, self.recent, job)
        request = await asyncio.to_thread(frame, Request(situation, FUTURES, ENOUGH_S))
        _, rest = await self.worker.ask(request, BUDGET_S)
        if rest.outlook is None:
            raise Fault("the answer is none")
        return rest.outlook
