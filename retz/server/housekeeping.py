"""Work in the background: ended jobs into the archive, aggregates every minute, old things away.

None of it is in anybody's way: file work happens in threads, deletes in slices, and a failure is logged and
tried again at the next turn, because the queue itself does not depend on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from retz.model.job import Job
from retz.store.database import Change, StoreFailed

from . import observing
from .clearing import load, tasks_of
from .core import Core
from .learning import watch
from .submitting import SLICE

log = logging.getLogger("retz.housekeeping")

ARCHIVE_BATCH = 1_000
ARCHIVE_AFTER_S = 2.0
"""Ended jobs are moved when a batch is full, or after this time."""

SAMPLE_EVERY_S = 10.0
KEY_LIFETIME_S = 86_400.0
AGGREGATES_KEPT_S = 30 * 86_400.0
SWEEP_EVERY_S = 600.0
COLLECT_BATCH = 500
NEWS_MAX_S = 60.0
"""News of an end may come so late; its sandbox would be overlooked if the mark had passed it by then."""
KEYS_LOOKED_AT = 2_000
"""Submission keys looked at between two yields to the loop: about a millisecond."""


class Housekeeping:
    """Owns the background tasks of one server."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._some_ended = asyncio.Event()
        self._batch_full = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._collected_until: float | None = None

    def start(self) -> None:
        """Begin. The event loop must be running."""
        self._core.dispatcher.live.on_ended = self._notice
        self._notice()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._archiving()),
            loop.create_task(_every(SAMPLE_EVERY_S, self._sample)),
            loop.create_task(_every(SWEEP_EVERY_S, self.sweep)),
            loop.create_task(_every(observing.LOOK_EVERY_S, self._core.observer.look)),
            loop.create_task(_every(watch.LOOK_EVERY_S, self._core.watch.look)),
        ]

    async def stop(self) -> None:
        """Stop; what was not archived yet is after the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _notice(self) -> None:
        waiting = len(self._core.dispatcher.ended)
        if waiting:
            self._some_ended.set()
        if waiting >= ARCHIVE_BATCH:
            self._batch_full.set()

    async def _archiving(self) -> None:
        while True:
            await self._some_ended.wait()
            try:
                # Not wait_for: it may swallow a cancellation (Python 3.11), and stop() would wait for ever.
                async with asyncio.timeout(ARCHIVE_AFTER_S):
                    await self._batch_full.wait()
            except TimeoutError:
                log.debug("archiving a part batch")
            self._some_ended.clear()
            self._batch_full.clear()
            try:
                await self.archive_ended()
            except StoreFailed:
                return
            except OSError as error:
                log.error("cannot archive ended jobs, trying again: %s", error)
                await asyncio.sleep(ARCHIVE_AFTER_S)
            except Exception:
                log.exception("cannot archive ended jobs, trying again")
                await asyncio.sleep(ARCHIVE_AFTER_S)
            self._notice()

    async def archive_ended(self) -> int:
        """Move every ended job to the archive: archive write first, then the hot delete. Returns how many."""
        core = self._core
        moved = 0
        while core.dispatcher.ended:
            batch = self._next_batch()
            # Only what is durably over may leave the queue; unlike core.settled(), this raises when it never will be.
            await core.dispatcher.settled()
            await asyncio.to_thread(core.archive.append, batch)
            for start in range(0, len(batch), SLICE):
                part = batch[start : start + SLICE]
                core.dispatcher.apply([Change("jobs", job.id, None) for job in part])
                await asyncio.sleep(0)
            for _ in batch:
                core.dispatcher.ended.popleft()
            moved += len(batch)
            core.counters.archived += len(batch)
        return moved

    def _next_batch(self) -> list[Job]:
        core = self._core
        while core.dispatcher.ended and core.db.jobs.record(core.dispatcher.ended[0]) is None:
            core.dispatcher.ended.popleft()
        jobs = (
            core.db.jobs.record(core.dispatcher.ended[index])
            for index in range(min(ARCHIVE_BATCH, len(core.dispatcher.ended)))
        )
        return [job for job in jobs if job is not None]

    async def _sample(self) -> None:
        core = self._core
        ledger = core.dispatcher.ledger
        sums = core.sums()
        points = core.collector.sample(
            core.clock(),
            queued=core.db.jobs.count("state", "QUEUED"),
            running=len(ledger.running),
            total=sums.total,
            used=sums.used,
            by_user=ledger.used_by_owner(),
        )
        for point in points:
            await asyncio.to_thread(core.aggregates.append, point)
        if points:
            core.dispatcher.save_shares()

    async def sweep(self) -> None:
        """Forget what is too old: submission keys, audit records, archived records, aggregates, sandboxes."""
        core = self._core
        now = core.clock()
        if outdated := core.audit.outdated(now):
            core.dispatcher.apply(outdated)
        await self._forget_keys(now - KEY_LIFETIME_S)
        # Of records that are gone nobody knows any more which sandboxes were theirs.
        keep = min(core.config.sandbox_keep, core.config.archive_keep)
        await self._collect_sandboxes(now, now - max(keep, NEWS_MAX_S))
        await asyncio.to_thread(core.archive.expire, now - core.config.archive_keep)
        await asyncio.to_thread(core.aggregates.expire, now - AGGREGATES_KEPT_S)

    async def _forget_keys(self, before: float) -> None:
        core = self._core
        keys = list(core.db.submissions.records())
        for start in range(0, len(keys), KEYS_LOOKED_AT):
            looked_at = ((key, core.db.submissions.record(key)) for key in keys[start : start + KEYS_LOOKED_AT])
            old = [key for key, record in looked_at if record is not None and record.at < before]
            if old:
                core.dispatcher.apply([Change("submissions", key, None) for key in old])
            await asyncio.sleep(0)

    async def _collect_sandboxes(self, now: float, before: float) -> None:
        """Hand the sandboxes of jobs that ended since the last mark and before ``before`` to the engine.

        The engine removes them slowly and forgets the rest when it stops. So the mark on disk stays one turn behind:
        what was handed over last is handed over again after a restart, which does no harm.
        """
        core = self._core
        mark = core.db.meta.record("sandboxes")
        marked = mark["collected_until"] if mark is not None else 0.0
        since = marked if self._collected_until is None else self._collected_until
        if since > now:  # the clock was ahead: all that ended before now was handed over then
            marked = since = self._mark(before)
        # What ended while the server was away may not have come to the archive yet, where it is looked for.
        before = min([before, *self._ends_not_archived()])
        if before <= since:
            return
        ids = await asyncio.to_thread(core.archive.ended_between, since, before)
        for start in range(0, len(ids), COLLECT_BATCH):
            jobs = await asyncio.to_thread(load, core, ids[start : start + COLLECT_BATCH])
            core.engine.collect([task for job in jobs for task in tasks_of(job)])
            await asyncio.sleep(0)
        if since != marked:
            self._mark(since)
        self._collected_until = before

    def _mark(self, until: float) -> float:
        self._core.dispatcher.apply([Change("meta", "sandboxes", {"collected_until": until})])
        self._collected_until = until
        return until

    def _ends_not_archived(self) -> list[float]:
        records = map(self._core.db.jobs.record, self._core.dispatcher.ended)
        return [job.ended for job in records if job is not None and job.ended is not None]


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` now and then every ``seconds``; a failure is logged and the next turn tries again."""
    while True:
        try:
            await work()
        except StoreFailed:
            return
        except OSError as error:
            log.error("%s: %s", getattr(work, "__name__", "housekeeping"), error)
        except Exception:
            log.exception("%s failed, trying again later", getattr(work, "__name__", "housekeeping"))
        await asyncio.sleep(seconds)
