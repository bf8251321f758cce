"""Around every handler: authenticate, read the body, turn what goes wrong into a problem, count.

One plain function per route instead of a chain of middlewares: a submit pays for nothing it does not use.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from retz.auth import AuthError
from retz.model.user import User
from retz.store.errors import StoreFailed

from ..problem import Problem
from . import body as bodies
from .api import Api, Call
from .routes import Route
from .streaming import gone

log = logging.getLogger("retz.http")

NOBODY = User(key="", secret="")
"""Who asks for unsigned routes."""

CLIENT_GONE = 499

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guarded(api: Api, route: Route) -> RequestHandler:
    """Return aiohttp's handler for a route."""
    label, requests = route.label, api.requests
    answer = _public if route.access == "public" else _signed
    refuse = route.refuse

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            response = await answer(api, route, request)
        except Problem as problem:
            response = refuse(request, problem)
        except AuthError as error:
            response = refuse(request, _refused(error))
        except web.RequestPayloadError:
            response = refuse(request, Problem("bad-request", "the body's transfer encoding is damaged"))
        except StoreFailed as error:
            response = refuse(request, Problem("unavailable", f"nothing was promised: a write failed ({error})"))
        except Exception as error:  # noqa: BLE001 (logged there: nothing may escape to aiohttp's own answers)
            response = _broken(request, route, error)
        requests[request.method, label, response.status] += 1
        return response

    return handle


def _broken(request: web.Request, route: Route, error: Exception) -> web.Response:
    """The answer after an exception that is nobody's refusal."""
    if isinstance(error, ConnectionError) and gone(request):
        # It hung up in the middle of its body, say: nobody reads this answer, only the metrics show it.
        return web.Response(status=CLIENT_GONE)
    # The route, not the request's own path: what a client sends does not go into logs.
    log.error("%s %s failed", request.method, route.path, exc_info=error)
    detail = "the server met an unexpected error; its log tells more. The request may be repeated"
    return route.refuse(request, Problem("internal", detail))


async def _public(api: Api, route: Route, request: web.Request) -> web.StreamResponse:
    return await route.handler(Call(api, request, NOBODY, bodies.NO_BODY))


async def _signed(api: Api, route: Route, request: web.Request) -> web.StreamResponse:
    announced = request.headers.get("Content-MD5", "").rstrip("=")
    user = _signer(api, route, request, announced)
    under_way = api.under_way
    count = under_way.get(user.key, 0)
    if count >= api.most_under_way:
        raise Problem("too-many", f"{count} requests of yours are not answered yet: wait for some of them")
    under_way[user.key] = count + 1
    try:
        return await _answer(api, route, request, user, announced)
    finally:
        count = under_way.pop(user.key) - 1
        if count:
            under_way[user.key] = count


def _signer(api: Api, route: Route, request: web.Request, announced: str) -> User:
    """The user who signed the request, if they may use the route."""
    # The signature covers the digest that the client announces, so a stranger's body is never read.
    key = api.verifier.check(request.method, request.raw_path, request.headers, body_md5=announced)
    user = api.user(key)
    if user is None:
        raise Problem("unauthorized", "this user does not exist any more")
    if route.access == "admin" and not user.admin:
        raise Problem("forbidden", "only an administrator may do this")
    return user


async def _answer(api: Api, route: Route, request: web.Request, user: User, announced: str) -> web.StreamResponse:
    body = await bodies.read(request, route.max_body)
    if api.core.config.authentication:
        _check_digest(announced, body)
    _check_welcome(api, user)
    response = await route.handler(Call(api, request, user, body))
    if request.method == "GET" and not response.prepared:
        _check_welcome(api, user)
    return response


def _check_welcome(api: Api, user: User) -> None:
    """Refuse what was signed in time but took its time: a slow body, a wait, a prediction."""
    if not api.welcome(user):
        raise Problem("forbidden", "this user was disabled, or given another secret, while the request was under way")


def _check_digest(announced: str, body: bodies.Body) -> None:
    if not body.data:
        if announced and announced != bodies.NO_BODY.md5_text:
            raise Problem("unauthorized", "the body does not match its Content-MD5 header: it is empty")
    elif not announced:
        raise Problem("unauthorized", "a body needs a Content-MD5 header, so that it is signed too")
    elif announced != body.md5_text:
        raise Problem("unauthorized", "the body does not match its Content-MD5 header")


def _refused(error: AuthError) -> Problem:
    return Problem("forbidden" if error.status == 403 else "unauthorized", error.detail)
