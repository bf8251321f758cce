"""Who used what in a time: the jobs that live are looked at here, the archived ones in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from retz.model.job import Attempt, Job, State, Usage
from retz.store.usage import Meter, MeteredAttempt, MeteredJob, MeteredUsage, Sums, add_archived

if TYPE_CHECKING:
    from .core import Core

MAX_ASKED = 10_000
"""So many running tasks an engine is asked about; of more, what they use so far is left out."""
SLICE = 500
_HELD: tuple[State, ...] = ("STARTING", "STARTED", "FINISHED", "FAILED", "KILLED")


async def usage_between(core: Core, since: float, until: float, owner: str | None) -> Sums:
    """Sum up what the jobs of a user, or of everybody, held and used in a time. One caller at a time is served."""
    async with core.metering:
        meter = Meter(since, min(until, core.clock()))
        # The live ones first: a job that is archived meanwhile is then met twice, never missed.
        known = await _add_live(core, meter, owner)
        await asyncio.to_thread(add_archived, meter, core.archive, owner, known)
        return meter.sums


async def _add_live(core: Core, meter: Meter, owner: str | None) -> set[int]:
    jobs = [job for job in _held_something(core) if job.array is None and owner in (None, job.owner)]
    running = [job.task_id for job in jobs if job.task_id and job.attempts[-1].ended is None]
    measured = await core.engine.usage(running) if 0 < len(running) <= MAX_ASKED else {}
    for start in range(0, len(jobs), SLICE):
        for job in jobs[start : start + SLICE]:
            meter.add(_metered(job, measured))
        await asyncio.sleep(0)
    return {job.id for job in jobs}


def _held_something(core: Core) -> Iterator[Job]:
    """The live jobs that hold resources, held some before they were queued again, or have just ended."""
    jobs = core.db.jobs
    for state in _HELD:
        yield from filter(None, map(jobs.record, list(jobs.ids("state", state))))
    yield from (job for job in map(jobs.record, list(jobs.ids("state", "QUEUED"))) if job and job.attempts)


def _metered(job: Job, measured: dict[str, Usage]) -> MeteredJob:
    return MeteredJob(
        id=job.id,
        owner=job.owner,
        resources=job.resources,
        application=job.application,
        state=job.state,
        ended=job.ended,
        attempts=tuple(
            MeteredAttempt(each.launched, each.ended, _use(each, measured.get(f"{job.id}.{each.number}")), each.number)
            for each in job.attempts
        ),
        sized=job.sized,
    )


def _use(attempt: Attempt, measured: Usage | None) -> MeteredUsage | None:
    usage = attempt.usage or measured
    return None if usage is None else MeteredUsage(usage.cpu_s, usage.max_rss_mb, usage.gpu_util, usage.series)
