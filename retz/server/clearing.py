"""Removing on request what housekeeping would remove later: sandboxes of ended jobs, and their records."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from retz.model.job import Job

from .audit import Actor

if TYPE_CHECKING:
    from .core import Core

BATCH = 500


class Cleared(NamedTuple):
    """Jobs whose sandboxes were given to the engine to be removed, and records that were forgotten."""

    sandboxes: int
    records: int


async def clear(core: Core, actor: Actor, older_than_s: float, records: bool) -> Cleared:
    """Remove the sandboxes of jobs that ended longer ago; with ``records`` their records, too.

    The engine removes slowly, so that nobody is held up. Records go in whole segments of the archive: those in which
    every job is old enough.
    """
    before = core.clock() - older_than_s
    what = "sandboxes and records" if records else "sandboxes"
    await core.dispatcher.apply([core.audit.change(actor, "gc", (), f"{what} older than {older_than_s:.0f} s")])
    mark = core.db.meta.record("sandboxes")
    since = mark["collected_until"] if mark is not None and mark["collected_until"] < before else 0.0
    ids = await asyncio.to_thread(core.archive.ended_between, since, before)
    for start in range(0, len(ids), BATCH):
        jobs = await asyncio.to_thread(load, core, ids[start : start + BATCH])
        core.engine.collect([task for job in jobs for task in tasks_of(job)])
        await asyncio.sleep(0)
    # Last: of records that are gone nobody knows any more which sandboxes were theirs.
    forgotten = await asyncio.to_thread(core.archive.expire, before) if records else 0
    return Cleared(len(ids), forgotten)


def load(core: Core, ids: list[int]) -> list[Job]:
    """Jobs from the archive, as far as they are there. Blocks."""
    return [job for job in map(core.archive.get, ids) if job is not None]


def tasks_of(job: Job) -> list[str]:
    """All attempts there were: the record does not keep every one that never ran."""
    last = job.attempts[-1].number if job.attempts else 0
    return [f"{job.id}.{number}" for number in range(1, last + 1)]
