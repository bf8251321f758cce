"""The queue as a whole: status and mode."""

from __future__ import annotations

import socket
from functools import cache
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from retz.config import host_token
from retz.model.submission import MAX_COMMAND_BYTES, MAX_JOBS_PER_REQUEST
from retz.model.user import User

from ..clearing import clear
from . import body as bodies
from .api import Call
from .responses import json_of
from .views import ResourcesView, Time, resources_of, time_of

Mode = Literal["open", "paused", "draining"]


class UserView(Struct):
    """The user who asks."""

    key: str
    admin: bool
    info: str


class Limits(Struct):
    """What a request or a job may at most have."""

    largest_agent: ResourcesView
    max_jobs_per_request: int
    max_command_bytes: int


class Status(Struct):
    """The server and its queue, in numbers of all users."""

    version: str
    engine: str
    mode: Mode
    queued: int
    held: int
    starting: int
    started: int
    agents: int
    total: ResourcesView
    used: ResourcesView
    seq: int
    started_at: Time
    planner: str
    read_only: str | None
    engine_failure: str | None
    estimator_failure: str | None
    user: UserView
    host: str
    same_host_token: str
    local: bool
    limits: Limits
    planner_failure: str | None = None


class QueueRequest(Struct, forbid_unknown_fields=True):
    """``paused`` starts nothing; ``draining`` accepts nothing either, and lets running jobs end."""

    mode: Mode


class QueueState(Struct):
    """The queue's mode, and how many jobs run."""

    mode: Mode
    running: int


class GcRequest(Struct, forbid_unknown_fields=True):
    """Remove what belongs to jobs that ended longer ago; absent: than ``retz.sandbox.keep`` says.

    ``records`` forgets the jobs themselves, too.
    """

    older_than_s: Annotated[float, Meta(ge=0, le=1e10)] | None = None
    records: bool = False


class GcResult(Struct):
    """Jobs whose sandboxes are being removed, and records that were forgotten."""

    sandboxes: int
    records: int


_decode_gc = msgspec.json.Decoder(GcRequest).decode
_decode_mode = msgspec.json.Decoder(QueueRequest).decode


async def status(call: Call) -> web.StreamResponse:
    """``GET /status`` of the API."""
    call.params()
    core = call.core
    jobs = core.db.jobs
    await core.settled()
    sums = core.sums()
    return json_of(
        Status(
            version=core.version,
            engine=core.engine.name,
            mode=core.mode,
            queued=jobs.count("state", "QUEUED"),
            held=jobs.held,
            starting=jobs.count("state", "STARTING"),
            started=jobs.count("state", "STARTED") - jobs.started_arrays,
            agents=len(core.agents()),
            total=resources_of(sums.total),
            used=resources_of(sums.used),
            seq=core.db.durable_seq,
            started_at=time_of(core.started_at),
            planner=core.scheduler.planner,
            read_only=core.read_only,
            engine_failure=core.engine_failure,
            estimator_failure=core.skylines.failure if call.user.admin else None,
            user=_user(call.user),
            host=socket.gethostname(),
            same_host_token=_host_token(),
            local=core.engine.name == "local",
            limits=Limits(resources_of(sums.largest), MAX_JOBS_PER_REQUEST, MAX_COMMAND_BYTES),
            planner_failure=core.planner_failure if call.user.admin else None,
        )
    )


def _user(user: User) -> UserView:
    return UserView(user.key, user.admin, user.info)


@cache
def _host_token() -> str:
    return host_token()


async def put_queue(call: Call) -> web.StreamResponse:
    """``PUT /queue``."""
    call.params()
    mode = bodies.decode(_decode_mode, call.body.data).mode
    await call.core.set_mode(mode, call.actor)
    return json_of(QueueState(mode, call.core.running()))


async def gc(call: Call) -> web.StreamResponse:
    """``POST /gc``."""
    call.params()
    call.core.require_writable()
    request = bodies.decode(_decode_gc, call.body.data)
    older = call.core.config.sandbox_keep if request.older_than_s is None else request.older_than_s
    cleared = await clear(call.core, call.actor, older, request.records)
    return json_of(GcResult(cleared.sandboxes, cleared.records))
