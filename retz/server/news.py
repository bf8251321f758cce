"""From an engine's update to the life cycle's event, and to the counts for metrics."""

from __future__ import annotations

from retz.engine.base import Update
from retz.lifecycle import Ended, Event, Lost, NotStarted, Started
from retz.model.job import Job

from .counters import Counters


def event_of(update: Update, number: int, job: Job, now: float) -> Event:
    """What the update says about attempt ``number`` of the job.

    Its times are from the attempt's launch, whatever its machine's clock says, until now.
    """
    launched = job.attempts[-1].launched if job.attempts else 0.0
    at = max(min(update.at, now), launched) if update.at else now
    if update.kind == "started":
        return Started(at=at, attempt=number)
    if update.kind == "lost":
        return Lost(at=at, attempt=number, message=update.message or "the machine was lost")
    if update.kind == "not_started":
        return NotStarted(at=at, attempt=number, message=update.message or "never started")
    return Ended(
        at=at,
        attempt=number,
        started=None if update.started is None else max(update.started, launched),
        exit_code=update.exit_code,
        signal=update.signal,
        reason=update.reason,
        message=update.message,
        usage=update.usage,
    )


def count_end(counters: Counters, job: Job) -> None:
    """Count a job by the state it ended in; one that has not is ignored."""
    if job.state == "FINISHED":
        counters.finished += 1
    elif job.state == "FAILED":
        counters.failed += 1
    elif job.state == "KILLED":
        counters.killed += 1


def count(counters: Counters, job: Job, update: Update) -> None:
    """Count what an update made of a job."""
    count_end(counters, job)
    if update.kind == "lost":
        counters.lost += 1
        if job.state == "QUEUED":
            counters.retried += 1
