"""``/job`` and ``/jobs``: submit, list, look at, kill. Everybody sees their own jobs only, administrators too."""

from __future__ import annotations

import re

from aiohttp import web
from msgspec import Raw
from msgspec.structs import replace

from retz.model.job import Job, State
from retz.store.job_query import MAX_LIMIT, JobQuery
from retz.store.query import window

from ...admission import DEFAULT_APPLICATION
from ...problem import Problem
from .. import body as bodies
from .. import streaming
from ..api import Call
from ..params import refuse
from ..responses import encode, encoded, stream
from . import messages
from .answers import answer, error, plain
from .messages import OldState
from .translate import as_accepted, job_message, spec_of

MAX_LISTED = 65_536
"""Jobs in one answer: Retz's own limit. Its protocol knows no pages."""

_STATES: dict[OldState, tuple[State, ...]] = {"KILLED": ("KILLED", "FAILED")}
_ID = re.compile(r"-?[0-9]{1,18}", re.ASCII)


def origin_of(call: Call) -> str:
    """This server's address, as the client knows it."""
    return f"{call.request.scheme}://{call.request.host}"


def id_of(call: Call) -> int:
    """The ``{id}`` of the path."""
    text = call.request.match_info["id"]
    if not _ID.fullmatch(text):
        refuse("id", "must be the number of a job")
    return int(text)


def own_job(call: Call) -> Job | None:
    """The user's own job of the path; None if it does not exist or is somebody else's."""
    job = call.core.find(id_of(call))
    return job if job is not None and job.owner == call.user.key else None


async def list_jobs(call: Call) -> web.StreamResponse:
    """``POST /jobs``."""
    request = bodies.decode(messages.decode_list, call.body.data)
    query = JobQuery(
        states=_STATES.get(request.state) or (request.state,),
        owner=call.user.key,
        tags=() if request.tag is None else (request.tag,),
        limit=MAX_LIMIT,
    )
    jobs, more = await _listed(call, query)
    await call.core.settled()
    if len(jobs) > MAX_LIMIT:
        return await _stream(call, jobs, more)
    return answer(messages.ListAnswer(await _shown(call, jobs), more))


async def _shown(call: Call, jobs: list[Job]) -> Raw:
    origin = origin_of(call)
    return await encoded(jobs, lambda job: job_message(job, origin))


async def _stream(call: Call, jobs: list[Job], more: bool) -> web.StreamResponse:
    """The same answer, written as it is made: 65 536 jobs at once are 30 MB and would hold the loop for 50 ms."""
    response = stream(200, {"Content-Type": "application/json"})
    head, _, tail = encode(messages.ListAnswer(Raw(b"[]"), more)).partition(b"]")

    async def produce(response: web.StreamResponse) -> None:
        await response.write(head)
        for start in range(0, len(jobs), MAX_LIMIT):
            part = bytes(await _shown(call, jobs[start : start + MAX_LIMIT]))[1:-1]
            await response.write(b"," + part if start else part)
        await response.write(b"]" + tail)

    return await streaming.run(call.request, response, "POST jobs", produce)


async def _listed(call: Call, query: JobQuery) -> tuple[list[Job], bool]:
    core = call.core
    jobs: list[Job] = []
    while True:
        found = await window(core.db.jobs, core.archive, query, seq=lambda: core.db.published_seq)
        # A job may have left the state between the index and the record.
        jobs += [job for job in found.jobs if job.state in query.states]
        if found.next is None or len(jobs) >= MAX_LISTED:
            return jobs[:MAX_LISTED], found.next is not None or len(jobs) > MAX_LISTED
        query = replace(query, cursor=found.next)


async def schedule(call: Call) -> web.StreamResponse:
    """``POST /job``."""
    job = bodies.decode(messages.decode_schedule, call.body.data).job
    refused = _application_refusal(call, job.appid)
    if refused is not None:
        return refused
    try:
        (job_id,), _ = await call.core.submissions.submit(call.user, [spec_of(job)], None, "")
    except Problem as problem:
        if problem.code != "unprocessable":
            raise
        detail = problem.detail.removeprefix("jobs[0].")
        if detail.startswith("resources"):
            return plain(400, f"Job does not fit system limit: {detail}")
        return error(400, detail)
    accepted = call.core.find(job_id)
    if accepted is None:
        raise Problem("not-found", f"No such job: {job_id}")
    return answer(messages.ScheduleAnswer(job_message(as_accepted(accepted), origin_of(call))), 201)


def _application_refusal(call: Call, name: str | None) -> web.Response | None:
    application = call.core.db.applications.record(f"{call.user.key}/{name}")
    if application is None:
        known = name == DEFAULT_APPLICATION
        return None if known else error(404, f"No such application: {'null' if name is None else name}")
    return None if application.enabled else error(403, f"Application {name} is disabled")


async def get_job(call: Call) -> web.StreamResponse:
    """``GET /job/{id}``."""
    job = own_job(call)
    message = None if job is None else job_message(job, origin_of(call))
    await call.core.settled()
    return answer(messages.GetJobAnswer(message))


async def kill(call: Call) -> web.StreamResponse:
    """``DELETE /job/{id}``."""
    job = own_job(call)
    if job is None:
        return error(404, f"No such job: {id_of(call)}")
    (result,) = await call.core.actions.act(call.user, "kill", [job.id], origin=call.actor.origin)
    if result.ok or result.state in ("KILLED", "FAILED"):
        return answer(messages.KillAnswer())
    if result.state == "FINISHED":
        return error(500, "Can't kill job - due to unknown reason")
    raise Problem(result.code or "conflict", result.error or f"job {job.id} cannot be killed now")
