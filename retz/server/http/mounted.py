"""The estimator's own application below ``/resourceestimator``: its routes for histories of the queue's users.

Requests there are signed like all others; reading logs from the server's disk is off.
"""

from __future__ import annotations

import asyncio
from hashlib import md5
from pathlib import Path
from typing import TYPE_CHECKING, cast

from aiohttp import web

from retz.auth import AuthError

from ..problem import Problem
from . import body as bodies
from .api import Api
from .responses import problem_of
from .submission import MAX_BODY

if TYPE_CHECKING:
    from estimator.lanes import Lanes

PREFIX = "/resourceestimator"
_INLINE = bodies.MIB
"""A longer body's MD5 is taken in a thread: 64 MiB would hold the loop for 100 ms."""


def mount(app: web.Application, api: Api) -> None:
    """Add the application, if the server keeps skylines at all."""
    skylines = api.core.skylines
    if not skylines.enabled:
        return
    from estimator.service.app import build_app

    async def store_for(request: web.Request) -> Path:
        return skylines.place(await _signer(api, request))

    lanes = cast("Lanes", skylines.lanes)
    app.add_subapp(PREFIX, build_app(lanes, store_for, skylines.config, may_read_logs=False))


async def _signer(api: Api, request: web.Request) -> str:
    """Access key of the user who signed the request, body included.

    Raises:
        HTTPException: nobody did.
    """
    announced = request.headers.get("Content-MD5", "").rstrip("=")
    try:
        # The signature covers the digest that the client announces, so a stranger's body is never read.
        key = api.verifier.check(request.method, request.raw_path, request.headers, body_md5=announced)
        bodies.refuse_compressed(request)
        user = api.user(key)
        if api.core.config.authentication:
            await _check_body(request, announced)
        if user is None or not api.welcome(user):
            raise AuthError(403, "this user was disabled, or given another secret, while the request was under way")
    except Problem as problem:
        raise _refusal(problem) from problem
    except web.HTTPRequestEntityTooLarge:
        detail = f"a body may have at most {MAX_BODY // bodies.MIB} MiB: send it in several requests"
        raise _refusal(Problem("too-large", detail)) from None
    except AuthError as error:
        raise _refusal(Problem("forbidden" if error.status == 403 else "unauthorized", error.detail)) from error
    except TimeoutError:
        raise _refusal(Problem("bad-request", "the body did not arrive in time; send it again")) from None
    return key


async def _check_body(request: web.Request, announced: str) -> None:
    async with asyncio.timeout(bodies.TOTAL_S):
        data = await request.read()
    if len(data) > _INLINE:
        actual = bodies.Body(data, await asyncio.to_thread(md5, data, usedforsecurity=False)).md5_text
    else:
        actual = bodies.Body(data).md5_text
    if announced != actual and (data or announced):
        raise AuthError(401, "the body does not match its Content-MD5 header, which is needed so that it is signed too")


def _refusal(problem: Problem) -> web.HTTPException:
    response = problem_of(problem)
    headers = {name: value for name, value in response.headers.items() if not name.startswith("Content-")}
    headers["Content-Type"] = response.content_type
    if problem.status == web.HTTPRequestEntityTooLarge.status_code:
        return web.HTTPRequestEntityTooLarge(MAX_BODY, text=response.text, headers=headers)
    kinds: dict[int, type[web.HTTPException]] = {400: web.HTTPBadRequest, 403: web.HTTPForbidden}
    return kinds.get(problem.status, web.HTTPUnauthorized)(text=response.text, headers=headers)
