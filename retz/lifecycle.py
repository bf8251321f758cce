"""The job's life: one table from (state, event) to the next record and what must be done about it.

Pure: no clock, no I/O. Times come inside the events. The table below is the whole truth; a pair that is not
in it changes nothing (stale news about an earlier attempt, a kill of a job that has ended), so that applying
an event twice is the same as applying it once.

========  ==========================  ========================================================
state     event                       next
========  ==========================  ========================================================
QUEUED    Launch                      STARTING, a new attempt
QUEUED    Kill                        KILLED
QUEUED    Drop                        FAILED (dependency, start) or KILLED (max_fails), never started
QUEUED    Hold, Release, Reprioritise QUEUED, marked
STARTING  Started                     STARTED
STARTING  NotStarted                  QUEUED (the claim shows that nothing ran: not a loss)
STARTED   NotStarted                  as Lost (it did run: its claim went with a power failure)
running   Ended                       FINISHED (exit 0), KILLED (a kill was asked), else FAILED; but QUEUED once
                                      more after ``oom`` under a size that past runs gave it
running   Lost                        QUEUED, or KILLED (a kill was asked), or FAILED (too often)
running   Kill                        unchanged, ``kill_requested``: the engine confirms later
STARTED   Strayed                     unchanged, ``off_path``: once for each kind
========  ==========================  ========================================================

"running" is STARTING or STARTED. FINISHED, FAILED and KILLED are final.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from .model.job import Attempt, Job, OffPath, Reason, Sized, State, Usage

IDLE_ATTEMPTS_KEPT = 20
"""So many of a job's attempts that never ran stay in its record."""

Effect = Literal["enqueue", "dequeue", "launch", "kill", "end"]
"""``enqueue``: it waits for room from now on; ``dequeue``: it no longer does; ``launch``: hand it to the
engine; ``kill``: ask the engine to end the running attempt; ``end``: it is final, the archive may have it."""


class Launch(Struct, frozen=True):
    """A planner found room; recorded before the engine hears of it."""

    at: float
    agent: str
    gpus: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    host: str = ""
    waited: tuple[tuple[str, float], ...] = ()


class Started(Struct, frozen=True):
    """The engine says that the process of this attempt runs."""

    at: float
    attempt: int


class NotStarted(Struct, frozen=True):
    """The attempt's claim was taken back before anything ran."""

    at: float
    attempt: int
    message: str = ""


class Ended(Struct, frozen=True, kw_only=True):
    """The process of this attempt is over, with its true result."""

    at: float
    attempt: int
    started: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    message: str | None = None
    usage: Usage | None = None


class Lost(Struct, frozen=True):
    """The machine, or the result, of this attempt is gone."""

    at: float
    attempt: int
    message: str = ""


class Kill(Struct, frozen=True):
    """Somebody wants it ended."""

    at: float
    message: str = "killed by its owner"


class Hold(Struct, frozen=True):
    """Do not start it until released."""

    at: float


class Release(Struct, frozen=True):
    """Take the hold away."""

    at: float


class Reprioritise(Struct, frozen=True):
    """Change its place among the others."""

    at: float
    priority: int


class Drop(Struct, frozen=True):
    """It will never start: for the sake of others (``dependency``, ``max_fails``), or it may not (``start``)."""

    at: float
    reason: Reason
    message: str


class Strayed(Struct, frozen=True):
    """It left the path of its step's past runs."""

    how: OffPath


Event = Launch | Started | NotStarted | Ended | Lost | Kill | Hold | Release | Reprioritise | Drop | Strayed
Outcome = tuple[Job, tuple[Effect, ...]]


def advance(job: Job, event: Event) -> Outcome:
    """Return the record after ``event`` and the effects; ``(job, ())``, the very same record, if nothing changes."""
    rule = _TABLE.get((job.state, type(event)))
    if rule is None:
        return job, ()
    return rule(job, event)


def _current(job: Job, number: int) -> Attempt | None:
    attempt = job.attempts[-1] if job.attempts else None
    return attempt if attempt is not None and attempt.number == number else None


def _with_attempt(job: Job, attempt: Attempt) -> tuple[Attempt, ...]:
    return (*job.attempts[:-1], attempt)


def _launch(job: Job, event: Launch) -> Outcome:
    if job.held:
        return job, ()
    number = job.attempts[-1].number + 1 if job.attempts else 1
    attempt = Attempt(
        number=number, agent=event.agent, launched=event.at, gpus=event.gpus, ports=event.ports, host=event.host,
        waited=event.waited,
    )  # fmt: skip
    attempts = (*_worth_keeping(job.attempts), attempt)
    after = replace(job, state="STARTING", reason=None, message=None, attempts=attempts)
    return after, ("dequeue", "launch")


def _worth_keeping(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """All that ran and the latest that did not: a record must not grow with every launch that was taken back."""
    if len(attempts) <= IDLE_ATTEMPTS_KEPT:
        return attempts
    idle = [attempt for attempt in attempts if attempt.started is None]
    if len(idle) <= IDLE_ATTEMPTS_KEPT:
        return attempts
    gone = {attempt.number for attempt in idle[:-IDLE_ATTEMPTS_KEPT]}
    return tuple(attempt for attempt in attempts if attempt.number not in gone)


def _started(job: Job, event: Started) -> Outcome:
    attempt = _current(job, event.attempt)
    if attempt is None:
        return job, ()
    return replace(job, state="STARTED", attempts=_with_attempt(job, replace(attempt, started=event.at))), ()


def _not_started(job: Job, event: NotStarted) -> Outcome:
    attempt = _current(job, event.attempt)
    if attempt is None:
        return job, ()
    attempts = _with_attempt(job, replace(attempt, ended=event.at, reason="lost", message=event.message))
    if job.kill_requested is not None:
        return _killed(job, event.at, attempts)
    return replace(job, state="QUEUED", attempts=attempts), ("enqueue",)


def _vanished(job: Job, event: NotStarted) -> Outcome:
    return _lost(job, Lost(at=event.at, attempt=event.attempt, message=event.message))


def _ended(job: Job, event: Ended) -> Outcome:
    attempt = _current(job, event.attempt)
    if attempt is None:
        return job, ()
    reason = event.reason
    if reason is None and event.signal is not None:
        reason = "signal"
    elif reason is None and event.exit_code != 0:
        reason = "exit"
    killed = job.kill_requested is not None
    attempt = replace(
        attempt,
        started=attempt.started if attempt.started is not None else event.started,
        ended=event.at,
        exit_code=event.exit_code,
        signal=event.signal,
        reason="user" if killed else reason,
        message=event.message,
        usage=event.usage if event.usage is not None else attempt.usage,
    )
    sized = job.sized
    if reason == "oom" and not killed and sized is not None and sized.outgrew is None and sized.again_mem:
        return _once_more(job, sized, _with_attempt(job, attempt))
    state: State = "KILLED" if killed else "FINISHED" if reason is None else "FAILED"
    after = replace(
        job,
        state=state,
        ended=event.at,
        reason="user" if killed else reason,
        message=job.message if killed else event.message,
        exit_code=event.exit_code,
        signal=event.signal,
        attempts=_with_attempt(job, attempt),
    )
    return after, ("end",)


def _once_more(job: Job, sized: Sized, attempts: tuple[Attempt, ...]) -> Outcome:
    """It needed more than past runs did. That was our mistake: no retry of its own is used up."""
    after = replace(
        job,
        state="QUEUED",
        reason="oom",
        message=f"outgrew the {sized.mem} MiB predicted for it: once more with {sized.again_mem} MiB",
        resources=replace(job.resources, mem=sized.again_mem),
        sized=replace(sized, outgrew=attempts[-1].number),
        attempts=attempts,
    )
    return after, ("enqueue",)


def _lost(job: Job, event: Lost) -> Outcome:
    attempt = _current(job, event.attempt)
    if attempt is None:
        return job, ()
    attempts = _with_attempt(job, replace(attempt, ended=event.at, reason="lost", message=event.message))
    if job.kill_requested is not None:
        return _killed(job, event.at, attempts)
    losses = job.losses + 1
    if losses > job.max_retries:
        message = f"lost {losses} times, last: {event.message}" if losses > 1 else f"lost: {event.message}"
        after = replace(
            job, state="FAILED", reason="lost", message=message, ended=event.at, losses=losses, attempts=attempts
        )
        return after, ("end",)
    after = replace(job, state="QUEUED", reason="lost", message=event.message, losses=losses, attempts=attempts)
    return after, ("enqueue",)


def _killed(job: Job, at: float, attempts: tuple[Attempt, ...]) -> Outcome:
    after = replace(job, state="KILLED", reason="user", ended=at, attempts=attempts, held=False)
    return after, ("end",)


def _kill_queued(job: Job, event: Kill) -> Outcome:
    after = replace(
        job,
        state="KILLED",
        reason="user",
        message=event.message,
        ended=event.at,
        kill_requested=event.at,
        held=False,
    )
    return after, ("dequeue", "end")


def _drop_queued(job: Job, event: Drop) -> Outcome:
    state: State = "KILLED" if event.reason == "max_fails" else "FAILED"
    after = replace(job, state=state, reason=event.reason, message=event.message, ended=event.at, held=False)
    return after, ("dequeue", "end")


def _kill_running(job: Job, event: Kill) -> Outcome:
    if job.kill_requested is not None:
        # Asking again is harmless and useful: the first request may have met a dead launcher.
        return job, ("kill",)
    return replace(job, kill_requested=event.at, message=event.message), ("kill",)


def _hold(job: Job, _event: Hold) -> Outcome:
    return (job, ()) if job.held else (replace(job, held=True), ("dequeue",))


def _release(job: Job, _event: Release) -> Outcome:
    return (replace(job, held=False), ("enqueue",)) if job.held else (job, ())


def _reprioritise(job: Job, event: Reprioritise) -> Outcome:
    if job.priority == event.priority:
        return job, ()
    after = replace(job, priority=event.priority)
    return after, (() if job.held else ("dequeue", "enqueue"))


def _strayed(job: Job, event: Strayed) -> Outcome:
    how = event.how
    known = any(before.kind == how.kind for before in job.off_path)
    if known or _current(job, how.attempt) is None:
        return job, ()
    return replace(job, off_path=(*job.off_path, how)), ()


_TABLE: dict[tuple[State, type], Callable[..., Outcome]] = {
    ("QUEUED", Launch): _launch,
    ("QUEUED", Kill): _kill_queued,
    ("QUEUED", Drop): _drop_queued,
    ("QUEUED", Hold): _hold,
    ("QUEUED", Release): _release,
    ("QUEUED", Reprioritise): _reprioritise,
    ("STARTING", Started): _started,
    ("STARTING", NotStarted): _not_started,
    ("STARTED", NotStarted): _vanished,
    ("STARTING", Ended): _ended,
    ("STARTED", Ended): _ended,
    ("STARTING", Lost): _lost,
    ("STARTED", Lost): _lost,
    ("STARTING", Kill): _kill_running,
    ("STARTED", Kill): _kill_running,
    ("STARTED", Strayed): _strayed,
}
