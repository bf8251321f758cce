"""Reason lines and the whole ``why``, against the present moment."""

from __future__ import annotations

from msgspec.structs import replace

from retz.model.job import Job
from retz.scheduler.explain import Explainer, Why

from .api import Call


class Reasons:
    """Explains the jobs of one answer; looks at agents only if one of them is queued."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._explainer: Explainer | None = None

    def line(self, job: Job) -> str | None:
        """One line for a queued job, None for any other."""
        if job.state != "QUEUED":
            return None
        if self._explainer is None:
            self._explainer = _explainer(self._call)
        return self._explainer.line(job)


def why_of(call: Call, job: Job) -> Why:
    """Everything there is to say about one job; of jobs of others, how many are ahead, but not which."""
    why = _explainer(call).why(job)
    if call.user.admin:
        return why
    records = call.core.db.jobs
    mine = [ahead for ahead in why.ahead_ids if (other := records.record(ahead)) and other.owner == call.user.key]
    return replace(why, ahead_ids=mine)


def _explainer(call: Call) -> Explainer:
    core = call.core
    return Explainer(core.scheduler, core.engine.agents(), core.free(), mode=core.mode, running=core.running())
