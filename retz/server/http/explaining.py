"""Reason lines and the whole ``why``, against the present moment."""

from __future__ import annotations

from msgspec.structs import replace

from retz.array_life import summary
from retz.model.job import ENDED_STATES, Job
from retz.model.units import format_size
from retz.scheduler.causes import BlockedBy
from retz.scheduler.explain import Explainer, Why
from retz.scheduler.outcome import Past, ended, strayed
from retz.scheduler.waits import history, shown

from ..learning.past import StepKey, step_of
from .api import Call
from .views import time_of

_SHOWN = 5


class Reasons:
    """Explains the jobs of one answer; looks at agents only if one of them is queued."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._explainer: Explainer | None = None

    def line(self, job: Job) -> str | None:
        """One line for a queued job, None for any other."""
        if job.state != "QUEUED":
            return None
        waits = _waits(self._call, job)
        if waits is not None:
            return waits[1]
        if self._explainer is None:
            self._explainer = explainer_of(self._call)
        if job.array is None:
            return self._explainer.line(job)
        task = _next_task(self._call, job)
        return _joined(job, None if task is None else _full(job) or self._explainer.line(task))


def why_of(call: Call, job: Job) -> Why:
    """Everything there is to say about one job; of jobs of others, how many are ahead, but not which."""
    why = _with_history(call, job, _explained(call, job))
    if call.user.admin:
        return why
    records = call.core.db.jobs
    mine = [ahead for ahead in why.ahead_ids if (other := records.record(ahead)) and other.owner == call.user.key]
    return replace(why, ahead_ids=mine)


def _with_history(call: Call, job: Job, why: Why) -> Why:
    now, live = call.core.clock(), call.core.dispatcher.live
    if job.state in ENDED_STATES:
        why = replace(why, summary=ended(job, past_of(call, job), _most_mb(call)))
    elif job.state == "QUEUED" and job.sized is not None and job.sized.outgrew is not None:
        given, again = format_size(job.sized.mem or 0), format_size(job.resources.mem)
        why = replace(why, summary=f"{why.summary}; it outgrew the {given} predicted for it, and gets {again} now")
    elif job.off_path and job.state == "STARTED":
        why = replace(why, summary=f"{why.summary}; {strayed(job)}")
    told = history(job, live.waited(job, now) if job.state == "QUEUED" else [], now)
    return replace(why, waited_s=told.total_s, waited=shown(told.shares), unknown_s=told.unknown_s)


def past_of(call: Call, job: Job) -> Past | None:
    """What is known of the runs of its step before a job; None for one of no pipeline."""
    learner = call.core.learner
    if job.pipeline is None:
        return None
    runs = [run for run in learner.past.of(job) if run.run != job.run]
    size = learner.sizes.of(StepKey(job.owner, job.pipeline, step_of(job)))
    return Past(
        job.pipeline,
        [run.peak_mb for run in runs if run.peak_mb is not None and not run.partial],
        [run.duration_s for run in runs if run.outcome == "finished"],
        size.memory.limit if size.runs >= call.core.config.estimator_min_runs else None,
    )


def _most_mb(call: Call) -> int | None:
    """Memory of the largest machine, if that is known."""
    agents = call.core.agents()
    if not agents or any(agent.guessed for agent in agents):
        return None
    return max(agent.total.mem for agent in agents)


def _explained(call: Call, job: Job) -> Why:
    waits = _waits(call, job) if job.state == "QUEUED" else None
    if waits is not None:
        return replace(explainer_of(call).why(job), blocked_by=waits[0], summary=waits[1])
    if job.array is None or job.state != "QUEUED":
        return explainer_of(call).why(job)
    task = _next_task(call, job)
    if task is None:
        why = explainer_of(call).why(job)
        return replace(why, state=job.shown_state, blocked_by=None, summary=_joined(job, None))
    why = explainer_of(call).why(task)
    full = _full(job)
    if full is not None:
        return replace(why, id=job.id, blocked_by="array", summary=_joined(job, full))
    return replace(why, id=job.id, summary=_joined(job, why.summary))


def _joined(job: Job, line: str | None) -> str:
    """How far an array is, and what its next task waits for."""
    assert job.array is not None
    return summary(job.array) + (f"; next: {line}" if line else "")


def _full(array: Job) -> str | None:
    """That as many tasks of an array run as may, if so."""
    window = array.array
    if window is None or array.held or not 0 < window.limit <= window.active:
        return None
    return f"at most {window.limit} at a time"


def _next_task(call: Call, job: Job) -> Job | None:
    """The first task that has no record yet, if one will get one."""
    array = job.array
    if array is None or not array.waiting:
        return None
    place = next(place for place in range(array.next, array.end) if place not in array.apart)
    task = call.core.find(job.id + 1 + place)
    # The hold is the whole array's: that is what one releases.
    return replace(task, id=job.id) if task is not None and task.held else task


def _waits(call: Call, job: Job) -> tuple[BlockedBy, str] | None:
    """What keeps it back that has nothing to do with room: other jobs, the time, or other tasks of its array."""
    if job.array_id is not None and call.core.db.jobs.record(job.id) is None:
        return _array_waits(call, job)
    waiting = call.core.dispatcher.following.waiting
    if job.held or not waiting.blocks(job.id):
        return None
    awaited = waiting.awaited(job.id)
    if awaited:
        more = f" and {len(awaited) - _SHOWN} more" if len(awaited) > _SHOWN else ""
        ids = ", ".join(map(str, awaited[:_SHOWN])) + more
        return "dependency", f"waits for job{'s' * (len(awaited) > 1)} {ids}"
    return "time", f"not before {time_of(waiting.until(job.id) or 0.0)}"


def _array_waits(call: Call, task: Job) -> tuple[BlockedBy, str] | None:
    """The same of a task that has no record yet: what keeps its array back."""
    array = call.core.find(task.array_id or 0)
    if array is None or array.held:
        return None
    full = _full(array)
    return _waits(call, array) or (("array", f"of its array {full}") if full is not None else None)


def explainer_of(call: Call) -> Explainer:
    """Explains jobs against the present moment."""
    core = call.core
    return Explainer(
        core.scheduler,
        core.machines(),
        mode=core.mode,
        running=core.running(),
        trouble=core.engine_failure,
        now=core.clock(),
    )
