"""Tells users' webhooks what there is to tell, again and again for a day."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from retz.model.job import Job
from retz.model.notice import NoticeState
from retz.model.user import User
from retz.store.database import Change, StoreFailed

from .document import document, headers
from .lines import Line, Lines, rest_s
from .outbox import Outbox, Pending
from .sender import Down, Refused

log = logging.getLogger("retz.notify")

KEEP_TRYING_S = 86_400.0
LOOK_AGAIN_S = 30.0
SLICE = 200
"""Notices given up in one turn of the loop."""


class Sends(Protocol):
    """What makes the calls; see :class:`retz.server.notify.sender.Sender`."""

    async def send(self, target: str, body: bytes, headers: dict[str, str], /) -> None:
        """Make one."""


class Courier:
    """One per server. All methods are called on the event loop's thread.

    Args:
        job: Looks a job up, live or archived.
        user: Looks a user up.
        apply: Records changes.
        clock: Seconds since the epoch.
        ticks: Seconds that never jump.
    """

    def __init__(
        self,
        outbox: Outbox,
        sender: Sends,
        *,
        job: Callable[[int], Job | None],
        user: Callable[[str], User | None],
        apply: Callable[[Sequence[Change]], Any],
        clock: Callable[[], float],
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._job = job
        self._user = user
        self._apply = apply
        self._clock = clock
        self._ticks = ticks
        self._lines = Lines()
        self._wake = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._round: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with what was left by the server before."""
        self.take(list(self._outbox.waiting))
        self._round = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Break off what is under way: it is told again after the next start."""
        tasks = [*self._calls, *((self._round,) if self._round else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def take(self, notice_ids: Sequence[str]) -> None:
        """These notices are durable now."""
        for notice_id in notice_ids:
            pending = self._outbox.waiting.get(notice_id)
            if pending is not None and not pending.listed:
                pending.listed = True
                self._lines.add(pending, self._ticks())
        self.wake()

    def wake(self) -> None:
        """Look what is due."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            while (found := self._lines.next(self._ticks())) is not None:
                call = asyncio.get_running_loop().create_task(self._serve(*found))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            at = self._lines.next_at()
            try:
                async with asyncio.timeout(None if at is None else min(max(at - self._ticks(), 0.0), LOOK_AGAIN_S)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _serve(self, line: Line, pending: Pending) -> None:
        """Make one call."""
        try:
            await self._tell(line, pending)
        except StoreFailed:
            return  # read-only from now on; the next server tells it
        except Exception as error:  # noqa: BLE001 (logged; a mistake of ours must neither lose the notice nor hold up others)
            # Without its text, which may be the URL.
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("a notification of job %d failed: %s\n%s", pending.notice.job, type(error).__name__, where)
            self._failed(line, pending, "the server met an unexpected error", down=False)
        self._lines.back(line, self._ticks())
        self.wake()

    async def _tell(self, line: Line, pending: Pending) -> None:
        try:
            await self._call(pending)
        except (Refused, Down) as error:
            self._failed(line, pending, str(error), down=isinstance(error, Down))
            await self._give_up(line)
            return
        pending.tries += 1
        line.failures = 0
        self._finish([pending], "delivered")

    async def _call(self, pending: Pending) -> None:
        notice = pending.notice
        user = self._user(notice.owner)
        if user is None or not user.enabled:
            raise Down("its owner is disabled")
        job = self._job(notice.job)
        if job is None or job.on_end is None:
            raise Refused("its record is gone")
        body = document(job, notice.event, notice.at, notice.id, notice.kind)
        signed = headers(user.secret, notice.event, notice.id, body, self._clock())
        await self._sender.send(job.on_end, body, signed)

    def _failed(self, line: Line, pending: Pending, error: str, *, down: bool) -> None:
        self._outbox.tally.failed_calls += 1
        pending.tries += 1
        pending.error = error
        now = self._ticks()
        if down:
            # It goes behind the others: if it is just this that the receiver cannot stomach, they are not held up.
            pending.due = now
            line.rest(now)
        else:
            pending.due = now + rest_s(pending.tries)
        line.add(pending)

    async def _give_up(self, line: Line) -> None:
        old = line.before(self._clock() - KEEP_TRYING_S)
        for start in range(0, len(old), SLICE):
            self._finish(old[start : start + SLICE], "given-up")
            await asyncio.sleep(0)

    def _finish(self, pendings: Sequence[Pending], state: NoticeState) -> None:
        changes = [change for pending in pendings for change in self._outbox.finished(pending, state)]
        if changes:
            self._apply(changes)
