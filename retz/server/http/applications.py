"""Applications: named environments, per user."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from retz.model.application import Application, Container, Predict, Volume
from retz.model.units import parse_size

from ..problem import Problem
from . import body as bodies
from .api import Call
from .params import refuse
from .responses import json_of
from .views import ApplicationView, application_of

DEFAULT = "default"
MAX_NAME = 200
_NAME = re.compile(r"[\w.@+-][\w.@+ -]*")
"""Letters of any script, digits and a few signs: a name is part of paths and of keys in the store."""

Text = Annotated[str, Meta(max_length=4096)]
Uri = Annotated[str, Meta(min_length=1, max_length=4096)]


class VolumeRequest(Struct, forbid_unknown_fields=True):
    """A container volume."""

    driver: Text
    name: Text
    container_path: Text
    mode: Literal["RO", "RW"] = "RO"
    options: dict[str, str] | None = None


class ContainerRequest(Struct, forbid_unknown_fields=True):
    """How jobs are contained."""

    type: Literal["none", "docker"] = "none"
    image: Text | None = None
    volumes: Annotated[list[VolumeRequest], Meta(max_length=100)] | None = None


class ApplicationRequest(Struct, forbid_unknown_fields=True):
    """An application; whatever is absent has its default."""

    files: Annotated[list[Uri], Meta(max_length=1000)] | None = None
    large_files: Annotated[list[Uri], Meta(max_length=1000)] | None = None
    user: Annotated[str, Meta(max_length=100)] | None = None
    grace_period_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    container: ContainerRequest | None = None
    enabled: bool | None = None
    predict: Predict | None = None
    predict_floor: int | float | str | None = None


class ApplicationList(Struct):
    """Your applications, in order of name."""

    applications: list[ApplicationView]


_decode = msgspec.json.Decoder(ApplicationRequest).decode


async def list_applications(call: Call) -> web.StreamResponse:
    """``GET /applications``."""
    call.params()
    mine = [record for record in call.core.db.applications.records().values() if record.owner == call.user.key]
    if not any(record.name == DEFAULT for record in mine):
        mine.append(_default(call))
    await call.core.settled()
    mine.sort(key=lambda record: record.name)
    return json_of(ApplicationList([application_of(record) for record in mine]))


async def get_application(call: Call) -> web.StreamResponse:
    """``GET /applications/{name}``."""
    call.params()
    record = _find(call, _name(call))
    await call.core.settled()
    return json_of(application_of(record))


async def put_application(call: Call) -> web.StreamResponse:
    """``PUT /applications/{name}``."""
    call.params()
    name = _name(call)
    request = bodies.decode(_decode, call.body.data)
    await call.core.put_application(call.user, _application(name, call.user.key, request))
    return json_of(application_of(_find(call, name)))


async def delete_application(call: Call) -> web.StreamResponse:
    """``DELETE /applications/{name}``."""
    call.params()
    await call.core.delete_application(call.user, _name(call))
    return web.Response(status=204)


def _name(call: Call) -> str:
    return check_name(call.request.match_info["name"])


def check_name(name: str) -> str:
    """Return the name of an application if it may be one.

    Raises:
        Problem: ``bad-request``.
    """
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        refuse("name", f"must be 1 to {MAX_NAME} letters, digits or any of . _ - + @ and inner spaces")
    return name


def _find(call: Call, name: str) -> Application:
    record: Application | None = call.core.db.applications.record(f"{call.user.key}/{name}")
    if record is None and name == DEFAULT:
        return _default(call)
    if record is None:
        raise Problem("not-found", f"no such application: {name}; register it with 'retz load-app -A {name}'")
    return record


def _default(call: Call) -> Application:
    """``default`` exists without a record, as old as the user."""
    return Application(name=DEFAULT, owner=call.user.key, updated=call.user.created)


def _floor(value: int | float | str | None) -> int:
    try:
        return 0 if value is None else parse_size(value)
    except ValueError as error:
        refuse("predict_floor", str(error))


def _application(name: str, owner: str, request: ApplicationRequest) -> Application:
    container = request.container or ContainerRequest()
    if container.type == "docker" and not container.image:
        refuse("container.image", "is required for a docker container")
    volumes = tuple(
        Volume(v.driver, v.name, v.container_path, v.mode, v.options or {}) for v in container.volumes or ()
    )
    return Application(
        name=name,
        owner=owner,
        files=tuple(request.files or ()),
        large_files=tuple(request.large_files or ()),
        user=request.user,
        grace_period_s=request.grace_period_s,
        container=Container(container.type, container.image, volumes),
        enabled=request.enabled is not False,
        predict=request.predict or "off",
        predict_floor=_floor(request.predict_floor),
    )
