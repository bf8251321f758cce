"""Actions on jobs that exist: kill, hold, release, reprioritise, submit again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from retz.lifecycle import Event, Hold, Kill, Release, Reprioritise
from retz.model.job import ENDED_STATES, MAX_PRIORITY, MIN_PRIORITY, Job, State
from retz.model.submission import JobSpec, ResourcesSpec
from retz.model.user import User
from retz.store.database import Ticket

from .audit import Actor, named
from .problem import Problem
from .submitting import SLICE
from .tasks import array_variables

if TYPE_CHECKING:
    from .core import Core

Action = Literal["kill", "hold", "release", "update", "resubmit"]


class ActionResult(Struct, kw_only=True):
    """What became of one job of a bulk action."""

    id: int
    ok: bool
    state: State | None = None
    new_id: int | None = None
    error: str | None = None
    code: str | None = None


class Actions:
    """What users do to jobs. All methods are called on the event loop's thread."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def act(
        self,
        user: User,
        action: Action,
        ids: Sequence[int],
        *,
        priority: int | None = None,
        key: str | None = None,
        origin: str = "",
    ) -> list[ActionResult]:
        """Do ``action`` to each job, in slices; durable on return. Jobs it cannot be done to are reported, not raised.

        Args:
            origin: Network address that it was asked from: what an administrator does to others' jobs is recorded.

        Raises:
            Problem: when nothing can be changed at all, or the priority is out of range.
        """
        self._core.require_writable()
        if action == "update" and (priority is None or not MIN_PRIORITY <= priority <= MAX_PRIORITY):
            raise Problem("unprocessable", f"priority must be from {MIN_PRIORITY} to {MAX_PRIORITY}")
        if action == "resubmit":
            return await self._resubmit(user, ids, key)
        unique = list(dict.fromkeys(ids))
        if user.admin:
            await self._note_action(Actor(user, origin), action, unique)
        results: list[ActionResult] = []
        ticket: Ticket | None = None
        for start in range(0, len(unique), SLICE):
            ticket = self._act_on(user, action, unique[start : start + SLICE], priority, results) or ticket
            await asyncio.sleep(0)
        if ticket is not None:
            await ticket
        await self._core.dispatcher.settled()
        return results

    async def _note_action(self, actor: Actor, action: Action, ids: Sequence[int]) -> None:
        """Record what an administrator is about to do to the jobs of others; only live ones can be changed."""
        owners: dict[int, str] = {}
        for start in range(0, len(ids), SLICE * 10):
            jobs = (self._core.db.jobs.record(job_id) for job_id in ids[start : start + SLICE * 10])
            owners |= {job.id: job.owner for job in jobs if job is not None and job.owner != actor.user.key}
            await asyncio.sleep(0)
        if owners:
            self._core.dispatcher.apply([self._core.audit.change(actor, action, owners.values(), named(list(owners)))])

    def _act_on(
        self,
        user: User,
        action: Action,
        ids: Sequence[int],
        priority: int | None,
        results: list[ActionResult],
    ) -> Ticket | None:
        now = self._core.clock()
        pairs: list[tuple[Job, Event]] = []
        for job_id in ids:
            try:
                job = self._core.visible(user, job_id)
            except Problem as problem:
                results.append(ActionResult(id=job_id, ok=False, error=problem.detail, code=problem.code))
                continue
            error = _refusal(job, action)
            if error is not None:
                results.append(ActionResult(id=job_id, ok=False, state=job.state, error=error, code="conflict"))
                continue
            pairs.append((job, _event(action, now, priority, user, job)))
            results.append(ActionResult(id=job_id, ok=True))
        if not pairs:
            return None
        ticket = self._core.dispatcher.change(pairs)
        changed = {job.id for job, _ in pairs}
        for result in results[-len(ids) :]:
            if result.id in changed and (after := self._core.db.jobs.record(result.id)) is not None:
                result.state = after.shown_state
        return ticket

    async def _resubmit(self, user: User, ids: Sequence[int], key: str | None) -> list[ActionResult]:
        specs: list[JobSpec] = []
        sources: list[int] = []
        results: dict[int, ActionResult] = {}
        for number, job_id in enumerate(dict.fromkeys(ids), 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            try:
                job = self._core.visible(user, job_id)
                if job.owner != user.key:
                    raise Problem(
                        "forbidden",
                        f"job {job_id} belongs to somebody else: it can be resubmitted by them only",
                    )
            except Problem as problem:
                results[job_id] = ActionResult(id=job_id, ok=False, error=problem.detail, code=problem.code)
                continue
            specs.append(spec_of(job))
            sources.append(job_id)
            results[job_id] = ActionResult(id=job_id, ok=True, state="QUEUED")
        if specs:
            digest = ",".join(map(str, sources))
            name = None if key is None else f"resubmit:{key}"
            new_ids, _ = await self._core.submissions.submit(user, specs, name, digest, sources)
            for source, new_id in zip(sources, new_ids, strict=True):
                results[source].new_id = new_id
        return list(results.values())


def spec_of(job: Job) -> JobSpec:
    """The request that would make this job again: as part of a fresh run of its pipeline, if it has one."""
    need = job.resources if job.sized is None else job.sized.asked
    mem = None if job.mem_default else need.mem
    return JobSpec(
        command=job.command,
        application=None if job.application == "default" else job.application,
        name=job.name or None,
        tags=job.tags or None,
        priority=job.priority,
        resources=ResourcesSpec(cpus=need.cpus, mem=mem, disk=need.disk, gpus=need.gpus, ports=need.ports),
        environment={**job.environment, **array_variables(job)} or None,
        attributes=job.attributes or None,
        directory=job.directory,
        timeout_s=job.timeout_s,
        kill_grace_s=job.kill_grace_s,
        max_retries=job.max_retries,
        pipeline=job.pipeline,
        predicted=None if job.sized is None else True,
        array=None if job.array is None else job.array.text,
        max_fails=None if job.array is None else job.max_fails or None,
        on_end=job.on_end,
    )


def _refusal(job: Job, action: Action) -> str | None:
    """Why the action makes no sense for this job now."""
    if action == "kill":
        return f"job {job.id} has ended already ({job.state})" if job.state in ENDED_STATES else None
    if job.state != "QUEUED":
        return f"job {job.id} is {job.state}; only a queued job can be changed"
    return None


def _event(action: Action, now: float, priority: int | None, user: User, job: Job) -> Event:
    if action == "kill":
        return Kill(at=now, message="killed by its owner" if user.key == job.owner else "killed by an admin")
    if action == "hold":
        return Hold(at=now)
    if action == "release":
        return Release(at=now)
    assert priority is not None
    return Reprioritise(at=now, priority=priority)
