"""``/apps`` and ``/app/{name}``. Names are per user: what others have registered is neither seen nor in the way."""

from __future__ import annotations

from aiohttp import web

from retz.model.application import Application

from ...admission import DEFAULT_APPLICATION
from ...problem import Problem
from .. import body as bodies
from ..api import Call
from ..applications import check_name
from . import messages
from .answers import answer, error, plain
from .translate import application_message, application_of


async def list_applications(call: Call) -> web.StreamResponse:
    """``GET /apps``."""
    mine = [record for record in call.core.db.applications.records().values() if record.owner == call.user.key]
    await call.core.settled()
    mine.sort(key=lambda record: record.name)
    return answer(messages.ListAppAnswer([application_message(record) for record in mine]))


async def get_application(call: Call) -> web.StreamResponse:
    """``GET /app/{name}``."""
    name = call.request.match_info["name"]
    record = call.core.db.applications.record(f"{call.user.key}/{name}")
    if record is None and name == DEFAULT_APPLICATION:
        record = Application(name=name, owner=call.user.key)
    await call.core.settled()
    if record is None:
        return error(404, f"No such application: {name}")
    return answer(messages.GetAppAnswer(application_message(record)))


async def put_application(call: Call) -> web.StreamResponse:
    """``PUT /app/{name}``; as in Retz, the name in the body counts."""
    asked = bodies.decode(messages.decode_load_app, call.body.data).application
    if asked.owner != call.user.key:
        return plain(400, "Invalid request: requester and owner does not match")
    if asked.user == "root" and not isinstance(asked.container, messages.DockerRequest):
        return error(400, "root user is only allowed with Docker container")
    check_name(asked.appid)
    # As in Retz: a registration says nothing of whether it works here, the reason of its jobs' end does.
    await call.core.put_application(call.user, application_of(asked), unseen=True)
    return answer(messages.LoadAppAnswer())


async def delete_application(call: Call) -> web.StreamResponse:
    """``DELETE /app/{name}``; one that is not there is gone already."""
    try:
        await call.core.delete_application(call.user, call.request.match_info["name"])
    except Problem as problem:
        if problem.code != "not-found":
            raise
    return answer(messages.UnloadAppAnswer())
