"""Jobs: submit, list, look at one, change one or many."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from retz.model.job import MAX_PRIORITY, MIN_PRIORITY, RUNNING_STATES, Job, State, Usage
from retz.model.submission import MAX_JOBS_PER_REQUEST
from retz.store.query import select_ids, window

from ..acting import Action, ActionResult
from ..problem import FieldError, Problem
from . import body as bodies
from . import selection, submission
from .api import Call
from .eta import foreseen, refreshed
from .explaining import Reasons, why_of
from .files import attempt_of
from .params import MAX_ID
from .responses import encode, encoded, json_bytes, json_of
from .views import JobView, job_of

MAX_WAIT_S = 60.0
DEFAULT_LIMIT = 100

Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]


class WarningView(Struct):
    """So many jobs of the request, the first of which has this id, could never run on the agents known now."""

    first: int
    jobs: int
    message: str


class Submitted(Struct, omit_defaults=True):
    """The ids, in the order of the request; ``replayed`` if its key had been used for the same request.

    ``warnings`` is left out where there are none.
    """

    ids: list[int]
    replayed: bool
    warnings: list[WarningView] = []


class JobList(Struct):
    """A window of the list. ``as_of`` is the journal's sequence number that it reflects."""

    jobs: list[JobView]
    total: int
    total_exact: bool
    next: str | None
    as_of: int
    counts: dict[str, int]


class _EncodedList(Struct):
    jobs: Raw
    total: int
    total_exact: bool
    next: str | None
    as_of: int
    counts: dict[str, int]


class PatchRequest(Struct, forbid_unknown_fields=True):
    """What of a queued job shall change."""

    priority: Priority | None = None
    held: bool | None = None


class ActRequest(Struct, forbid_unknown_fields=True):
    """Jobs by id or by filter. ``priority`` goes with ``update``, ``key`` with ``resubmit``."""

    ids: (
        Annotated[list[Annotated[int, Meta(ge=1, le=MAX_ID)]], Meta(min_length=1, max_length=MAX_JOBS_PER_REQUEST)]
        | None
    ) = None
    filter: selection.Filter | None = None
    priority: Priority | None = None
    key: submission.Key | None = None


class ResultView(Struct):
    """What became of one job."""

    id: int
    ok: bool
    state: State | None
    new_id: int | None
    error: str | None


class ActResult(Struct):
    """What became of all of them."""

    results: list[ResultView]
    ok: int
    failed: int


class _EncodedResult(Struct):
    results: Raw
    ok: int
    failed: int


class UsageSeries(Struct):
    """Usage of an attempt over time: points (cpus in use, resident MiB), one every ``interval_s``."""

    interval_s: float
    cpu_s: float
    max_rss_mb: float
    series: list[Annotated[list[float], Meta(min_length=2, max_length=2)]]
    attempt: int


_decode_patch = msgspec.json.Decoder(PatchRequest).decode
_decode_act = msgspec.json.Decoder(ActRequest).decode


async def submit(call: Call) -> web.StreamResponse:
    """``POST /jobs``."""
    request = await submission.decode(call.body.data)
    most = call.core.config.max_jobs_per_request
    if len(request.jobs) > most:
        message = f"this server takes at most {most} jobs in one request; send several"
        raise Problem("bad-request", f"jobs: {message}", [FieldError("jobs", message)])
    ids, replayed = await call.core.submissions.submit(call.user, request.jobs, request.key, call.body.md5.hexdigest())
    warned = call.core.admission.warnings(request.jobs, ids)
    if len(ids) == 1 and not replayed and not warned:
        return json_bytes(b'{"ids":[%d],"replayed":false}' % ids[0], 201)
    warnings = [WarningView(*warning) for warning in warned]
    response = json_of(Submitted(list(ids), replayed, warnings), 200 if replayed else 201)
    await submission.free(request.jobs)
    return response


async def list_jobs(call: Call) -> web.StreamResponse:
    """``GET /jobs``."""
    core = call.core
    query = selection.from_params(call)
    # Not db.seq: that counts a bulk in its first instant, whose jobs are not in the table yet.
    found = await window(core.db.jobs, core.archive, query, seq=lambda: core.db.published_seq)
    counts = selection.counts(call, query.owner)
    reasons = Reasons(call)
    if call.request.query.get("foresee") == "true":
        await refreshed(call, found.jobs)
    if query.at:
        jobs = await encoded(found.jobs, job_of)
    else:
        jobs = await encoded(found.jobs, lambda job: job_of(job, reasons.line(job), eta=foreseen(call, job)))
    # What is shown must not vanish in a crash.
    await core.settled()
    return json_of(_EncodedList(jobs, found.total, found.exact, found.next, found.as_of, counts))


async def get_job(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}``."""
    call.params()
    return await _shown(call, call.job())


async def why(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}/why``."""
    call.params()
    view = why_of(call, call.job())
    await call.core.settled()
    return json_of(view)


async def usage(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}/usage``."""
    params = call.params("attempt")
    job = call.job()
    attempt = attempt_of(job, params)
    if attempt is None:
        raise Problem("not-found", f"job {job.id} has not been started: it has used nothing yet")
    used = attempt.usage
    if job.state in RUNNING_STATES and attempt == job.attempt:
        task = f"{job.id}.{attempt.number}"
        used = (await call.core.engine.usage([task])).get(task, used)
    used = used or Usage()
    series = [[cpus / 100, float(rss_mb)] for cpus, rss_mb in used.series]
    return json_of(UsageSeries(used.interval_s, used.cpu_s, used.max_rss_mb, series, attempt.number))


async def wait(call: Call) -> web.StreamResponse:
    """``GET /jobs/{id}/wait``."""
    timeout_s = call.params("timeout_s").number("timeout_s", 30.0, 0.0, MAX_WAIT_S)
    return await _shown(call, await _ended(call, call.job().id, timeout_s))


async def _ended(call: Call, job_id: int, timeout_s: float) -> Job:
    """Wait for the job's end, the time's end, or the server's."""
    ended = asyncio.ensure_future(call.core.ended(job_id, timeout_s))
    closing = asyncio.ensure_future(call.api.closing.wait())
    try:
        await asyncio.wait((ended, closing), return_when=asyncio.FIRST_COMPLETED)
        return ended.result() if ended.done() else call.core.visible(call.user, job_id)
    finally:
        ended.cancel()
        closing.cancel()


async def patch(call: Call) -> web.StreamResponse:
    """``PATCH /jobs/{id}``."""
    call.params()
    job_id = call.job_id()
    request = bodies.decode(_decode_patch, call.body.data)
    if request.priority is None and request.held is None:
        raise Problem("bad-request", "nothing to change: give priority, held, or both")
    if request.priority is not None:
        await _act_on_one(call, "update", job_id, priority=request.priority)
    if request.held is not None:
        await _act_on_one(call, "hold" if request.held else "release", job_id)
    return await _shown(call, call.core.visible(call.user, job_id))


async def kill(call: Call) -> web.StreamResponse:
    """``DELETE /jobs/{id}``."""
    call.params()
    job_id = call.job_id()
    await _act_on_one(call, "kill", job_id)
    return await _shown(call, call.core.visible(call.user, job_id), 202)


async def _act_on_one(call: Call, action: Action, job_id: int, **options: Any) -> None:
    (result,) = await call.core.actions.act(call.user, action, [job_id], origin=call.actor.origin, **options)
    if not result.ok:
        raise Problem(result.code or "conflict", result.error or f"job {job_id} cannot be changed now")


async def _shown(call: Call, job: Job, status: int = 200) -> web.StreamResponse:
    news = call.core.outbox.of_job(job.id)
    body = encode(job_of(job, Reasons(call).line(job), news, foreseen(call, job)))
    await call.core.settled()
    return json_bytes(body, status)


async def _act(call: Call, action: Action) -> web.StreamResponse:
    call.params()
    request = bodies.decode(_decode_act, call.body.data)
    _check_act(request, action)
    if request.filter is None:
        ids = request.ids or []
    else:
        query = selection.from_filter(call, request.filter, action)
        ids = await select_ids(call.core.db.jobs, call.core.archive, query)
    origin = call.actor.origin
    results = await call.core.actions.act(
        call.user, action, ids, priority=request.priority, key=request.key, origin=origin
    )
    ok = sum(result.ok for result in results)
    return json_of(_EncodedResult(await encoded(results, _result), ok, len(results) - ok))


def _check_act(request: ActRequest, action: Action) -> None:
    if (request.ids is None) == (request.filter is None):
        raise Problem("bad-request", 'say which jobs: either "ids" or "filter"')
    if (request.priority is not None) != (action == "update"):
        word = "needs" if action == "update" else "takes no"
        raise Problem("bad-request", f"{action} {word} priority", [FieldError("priority", f"{action} {word} it")])
    if request.key is not None and action != "resubmit":
        raise Problem(
            "bad-request", f"{action} takes no key: it may be repeated anyway", [FieldError("key", "is not used")]
        )


def _result(result: ActionResult) -> ResultView:
    return ResultView(result.id, result.ok, result.state, result.new_id, result.error)


async def kill_many(call: Call) -> web.StreamResponse:
    """``POST /jobs/kill``."""
    return await _act(call, "kill")


async def hold_many(call: Call) -> web.StreamResponse:
    """``POST /jobs/hold``."""
    return await _act(call, "hold")


async def release_many(call: Call) -> web.StreamResponse:
    """``POST /jobs/release``."""
    return await _act(call, "release")


async def update_many(call: Call) -> web.StreamResponse:
    """``POST /jobs/update``."""
    return await _act(call, "update")


async def resubmit_many(call: Call) -> web.StreamResponse:
    """``POST /jobs/resubmit``."""
    return await _act(call, "resubmit")
