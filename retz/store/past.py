"""A job's record cut back to what was true at an earlier time. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from retz.model.job import Attempt, Job, State


def as_of(job: Job, at: float) -> Job | None:
    """The job as it stood at ``at``; None if it was not submitted yet, or had ended already.

    State, attempts, ``ended``, ``kill_requested``, results and usage are what they were. What the record does not
    remember is the best that can be said: ``priority`` is today's; ``held`` is kept only for a job that is still
    waiting in the same place of its life, and is False otherwise; ``losses`` counts the attempts that had been
    lost by then, taking launches that were merely taken back for losses only up to today's number.
    """
    if at < job.submitted or (job.ended is not None and at >= job.ended):
        return None
    attempts = tuple(_cut(attempt, at) for attempt in job.attempts if attempt.launched <= at)
    last = attempts[-1] if attempts else None
    running = last is not None and last.ended is None
    kill = job.kill_requested if job.kill_requested is not None and job.kill_requested <= at else None
    state: State = "QUEUED"
    if last is not None and running:
        state = "STARTED" if last.started is not None else "STARTING"
    losses = min(job.losses, sum(1 for attempt in attempts if attempt.ended is not None))
    waiting_again = last is not None and not running and losses > 0
    message = last.message if last is not None and waiting_again else None
    return replace(
        job,
        state=state,
        attempts=attempts,
        ended=None,
        exit_code=None,
        signal=None,
        kill_requested=kill,
        losses=losses,
        held=job.held and state == job.state and attempts == job.attempts,
        reason="lost" if waiting_again else None,
        message=job.message if kill is not None else message,
    )


def _cut(attempt: Attempt, at: float) -> Attempt:
    if attempt.ended is not None and attempt.ended <= at:
        return attempt
    return Attempt(
        number=attempt.number,
        agent=attempt.agent,
        launched=attempt.launched,
        started=attempt.started if attempt.started is not None and attempt.started <= at else None,
        gpus=attempt.gpus,
        ports=attempt.ports,
        host=attempt.host,
    )
