"""Pipelines: the history of recurring work, and what its next run will need.

The work is done by the estimator's processes; what they answer is handed on as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from estimator.config import SOLVERS
from estimator.errors import BadArgument, Busy, EstimatorError, InvalidInput, RecurrenceIdNotFound, StoreDamaged
from estimator.errors import WorkerFailed as WorkerFailure
from estimator.operations import Outcome

from ..problem import Problem
from .api import Call
from .params import Params, refuse
from .responses import json_bytes, json_of, text
from .streaming import gone
from .views import Time, time_of

MAX_NAME = 200
FORMATS = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
KINDS = ("allocated", "used")
WISHES = ("solver", "alpha", "beta", "interval", "kind")
MAX_INTERVAL = 86_400
MAX_SKYLINES = 100
WIDTHS, HEIGHTS = (20, 1000), (6, 300)
LOOK_EVERY_S = 0.5
"""How soon a client that hung up is noticed while its prediction is made."""

Amounts = dict[str, float]
T = TypeVar("T")


class PipelineView(Struct):
    """A pipeline: ``predicted`` says whether a prediction is kept, current or not."""

    name: str
    runs: int
    predicted: bool


class PipelineList(Struct):
    """Your pipelines that have a history, by name."""

    pipelines: list[PipelineView]


class SkylineView(Struct):
    """Steps: second from the run's start -> amounts from then on; the last is zero."""

    resourceAllocation: dict[str, Amounts]


class SkylinesView(Struct):
    """What a run reserved and what it used over time; ``used`` is null where nobody measured."""

    allocated: SkylineView
    used: SkylineView | None


class RunView(Struct):
    """A run: its peaks of what was reserved and used (null where nobody measured); its skylines if asked for."""

    run: str
    start: Time
    duration_s: float
    allocated: Amounts
    used: Amounts | None
    skylines: SkylinesView | None


class HistoryView(Struct):
    """The runs of a pipeline, in the order in which they came to its history."""

    name: str
    runs: list[RunView]


class ConfidenceView(Struct):
    """How far the prediction can be trusted, over the runs it was made from; sums are resource-seconds of one run."""

    runs: int
    lower: SkylineView
    upper: SkylineView
    over: Amounts
    under: Amounts
    needed: Amounts
    fixed: Amounts
    left_out_error: Amounts | None
    left_out_runs: int


class PredictionView(Struct):
    """What the next run will need. ``gap`` is the certified relative distance from the optimum."""

    pipeline: str
    solver: str
    kind: Literal["allocated", "used"]
    settings: dict[str, Any]
    runs: list[str]
    ignored: list[str]
    history: str
    objective: float | None
    gap: float | None
    skyline: SkylineView
    confidence: ConfidenceView | None


class _Listed(Struct):
    pipelineId: str
    runs: int
    predicted: bool


class _Run(Struct):
    run: str
    start: int
    duration_s: float
    allocated: Amounts
    used: Amounts | None
    skylines: SkylinesView | None = None


_decode_list = msgspec.json.Decoder(list[_Listed]).decode
_decode_runs = msgspec.json.Decoder(list[_Run]).decode


async def list_pipelines(call: Call) -> web.StreamResponse:
    """``GET /pipelines``."""
    owner = owner_of(call, call.params("user"))
    listed = _decode_list((await operate(call, owner, "pipelines")).body)
    return json_of(PipelineList([PipelineView(each.pipelineId, each.runs, each.predicted) for each in listed]))


async def get_pipeline(call: Call) -> web.StreamResponse:
    """``GET /pipelines/{name}``."""
    name, params = name_of(call), call.params("user", "skylines")
    owner = owner_of(call, params)
    runs = await _runs(call, owner, name, params.integer("skylines", 0, 0, MAX_SKYLINES))
    if not runs:
        raise _missing(call, owner, name)
    views = [
        RunView(run.run, time_of(run.start / 1000), run.duration_s, run.allocated, run.used, run.skylines)
        for run in runs
    ]
    return json_of(HistoryView(name, views))


async def delete_pipeline(call: Call) -> web.StreamResponse:
    """``DELETE /pipelines/{name}``."""
    name, owner = name_of(call), owner_of(call, call.params("user"))
    if not await _runs(call, owner, name):
        raise unknown(name)
    _note(call, owner, f"pipeline {name!r}")
    await operate(call, owner, "forget", pipeline=name)
    await call.core.learner.forget(owner, name)
    return web.Response(status=204)


async def delete_run(call: Call) -> web.StreamResponse:
    """``DELETE /pipelines/{name}/runs/{run}``."""
    name, owner = name_of(call), owner_of(call, call.params("user"))
    run = _part(call, "run")
    _note(call, owner, f"run {run!r} of pipeline {name!r}")
    try:
        await operate(call, owner, "delete_history", pipeline=name, run=run)
    except RecurrenceIdNotFound:
        raise Problem(
            "not-found", f"pipeline {name!r} has no run {run!r}; 'retz pipelines {name}' lists them"
        ) from None
    await call.core.learner.forget(owner, name, run)
    return web.Response(status=204)


async def prediction(call: Call) -> web.StreamResponse:
    """``GET /pipelines/{name}/prediction``."""
    name, params = name_of(call), call.params("user", *WISHES)
    owner, wishes = owner_of(call, params), _wishes(call, params)
    # What is known already does not wait behind somebody's solve.
    body = (await operate(call, owner, "current", pipeline=name, full=True, **wishes)).body
    if body == b"null":
        body = (await _predicted(call, owner, "estimate", name, full=True, **wishes)).body
    return json_bytes(body)


def picture(format: str) -> Callable[[Call], Awaitable[web.StreamResponse]]:
    """The handler of ``GET /pipelines/{name}/prediction.png`` and its like."""

    async def handle(call: Call) -> web.StreamResponse:
        name, params = name_of(call), call.params("user", "resource", *WISHES)
        owner, wishes = owner_of(call, params), _wishes(call, params)
        resource = params.text("resource", MAX_NAME) or "memory"
        drawn = await _predicted(call, owner, "plot", name, resource=resource, format=format, **wishes)
        return text(drawn.body, drawn.media)

    return handle


async def terminal_plot(call: Call) -> web.StreamResponse:
    """``GET /pipelines/{name}/prediction.txt``."""
    name, params = name_of(call), call.params("user", "resource", "width", "height", "colour", *WISHES)
    owner, wishes = owner_of(call, params), _wishes(call, params)
    drawn = await _predicted(
        call,
        owner,
        "text",
        name,
        resource=params.text("resource", MAX_NAME) or "memory",
        width=params.integer("width", 100, *WIDTHS),
        height=params.integer("height", 28, *HEIGHTS),
        colour=params.flag("colour") or False,
        **wishes,
    )
    return text(drawn.body, "text/plain; charset=utf-8")


# -- what is asked for -----------------------------------------------------------------------------------------------


def name_of(call: Call) -> str:
    """The pipeline that the path names."""
    return _part(call, "name")


def _part(call: Call, part: str) -> str:
    value = call.request.match_info[part]
    if len(value) > MAX_NAME or "\0" in value:
        refuse(part, f"must be at most {MAX_NAME} characters, none of them NUL")
    return value


def owner_of(call: Call, params: Params) -> str:
    """Whose history: one's own, or for an administrator that of the user named."""
    user = params.text("user")
    if user is None or user == call.user.key:
        return call.user.key
    if not call.user.admin:
        raise Problem("forbidden", "only an administrator sees the pipelines of other users: leave 'user' out")
    if call.api.user(user) is None:
        raise Problem("not-found", f"there is no user {user!r}; name one by access key")
    return user


def _note(call: Call, owner: str, what: str) -> None:
    """Record that an administrator forgets somebody else's history."""
    if owner != call.user.key:
        call.core.dispatcher.apply([call.core.audit.change(call.actor, "forget", [owner], what)])


def _wishes(call: Call, params: Params) -> dict[str, Any]:
    solver, kind = params.text("solver"), params.text("kind")
    if solver is not None and solver not in (*SOLVERS, call.core.config.estimator_solver):
        refuse("solver", f"must be one of {', '.join(SOLVERS)}")
    if kind is not None and kind not in KINDS:
        refuse("kind", f"must be one of {', '.join(KINDS)}")
    query = call.request.query
    return {
        "solver": solver,
        "alpha": params.number("alpha", 0.0, 0.0, 1.0) if "alpha" in query else None,
        "beta": params.number("beta", 0.0, 0.0, 1.0) if "beta" in query else None,
        "interval": params.integer("interval", 1, 1, MAX_INTERVAL) if "interval" in query else None,
        "kind": kind,
    }


# -- what is answered ------------------------------------------------------------------------------------------------


async def operate(call: Call, owner: str, operation: str, /, **arguments: Any) -> Outcome:
    """Have an operation done on the owner's history; given up when the client hangs up."""
    skylines = call.core.skylines
    if not skylines.enabled:
        raise Problem("conflict", "this server keeps no skylines: its administrator set retz.estimator.enabled = false")
    pipeline = arguments.get("pipeline")
    await skylines.caught_up(owner, pipeline)
    if not await asyncio.to_thread(skylines.place(owner).is_dir):
        # Who has no history yet starts no process to be told so.
        if pipeline is None:
            return Outcome(b"[]")
        raise _missing(call, owner, pipeline)
    try:
        return await _while_there(call.request, skylines.call(owner, operation, **arguments))
    except (InvalidInput, RecurrenceIdNotFound):
        raise
    except EstimatorError as error:
        raise _problem(error) from error


async def _while_there(request: web.Request, work: Awaitable[T]) -> T:
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait([task], timeout=LOOK_EVERY_S)
            if not task.done() and gone(request):
                raise ConnectionResetError("the client hung up")
        return task.result()
    finally:
        task.cancel()


async def _predicted(call: Call, owner: str, operation: str, name: str, /, **arguments: Any) -> Outcome:
    """The same for what needs a prediction: a history too thin for one is explained."""
    try:
        return await operate(call, owner, operation, pipeline=name, **arguments)
    except InvalidInput as error:
        raise await _refused(call, owner, name, arguments.get("kind"), str(error)) from error


async def _runs(call: Call, owner: str, name: str, skylines: int = 0) -> list[_Run]:
    return _decode_runs((await operate(call, owner, "runs", pipeline=name, skylines=skylines)).body)


async def _refused(call: Call, owner: str, name: str, kind: str | None, why: str) -> Problem:
    runs = await _runs(call, owner, name)
    if not runs:
        return _missing(call, owner, name)
    used = kind == "used"
    usable = sum(any((run.used if used else run.allocated) or {}) and run.duration_s > 0 for run in runs)
    needed = call.core.config.estimator_min_runs
    if usable >= needed:
        return Problem("unprocessable", why)
    what = "whose use was measured" if used else "that held anything"
    return Problem(
        "unprocessable",
        f"pipeline {name!r} has {usable} {'run' if usable == 1 else 'runs'} so far {what}; {needed} are needed for a "
        f"prediction: run it again with --pipeline {name}",
    )


def unknown(name: str) -> Problem:
    """There is no such pipeline, as far as this user may know."""
    return Problem(
        "not-found",
        f"no run of a pipeline {name!r} is known yet: runs are recorded when their last job has ended; "
        f"mark jobs with --pipeline {name}",
    )


def _missing(call: Call, owner: str, name: str) -> Problem:
    """There are no runs of it: as it should be, or because the history was lost."""
    if call.core.skylines.lost(owner, name):
        return Problem("unavailable", "this history was lost and is being made again; ask again in a minute")
    return unknown(name)


def _problem(error: EstimatorError) -> Problem:
    if isinstance(error, StoreDamaged):
        return Problem("unavailable", "this history was damaged and is being made again; ask again in a minute")
    if isinstance(error, WorkerFailure | Busy):
        return Problem("unavailable", f"the estimator cannot answer now: {error}")
    return Problem("bad-request" if isinstance(error, BadArgument) else "unprocessable", str(error))
