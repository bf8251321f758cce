"""The application: every route of the table, guarded, and an answer for everything else."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from retz.auth import Verifier

from ..problem import Problem
from . import openapi
from .api import Api
from .connections import Gate, Runner, most_connections, most_per_user
from .guard import RequestHandler, guarded
from .hub import Hub
from .mounted import mount
from .protocol import table as protocol
from .protocol.answers import refusal as old_refusal
from .responses import encode, problem_of
from .routes import Route
from .submission import MAX_BODY
from .table import ROUTES

if TYPE_CHECKING:
    from ..core import Core

KEEPALIVE_S = 75.0
MAX_LINE = 32 * 1024
"""Longest request line: a list of ids is part of it."""


def build_app(core: Core, gate: Gate | None = None) -> web.Application:
    """Return the application that serves ``core``. Its streams end when it shuts down.

    Args:
        gate: Told of each connection that has brought a request.
    """
    hub = Hub()
    verifier = Verifier(_lookup(core), core.clock, core.config.authentication)
    api = Api(core, hub, verifier, _document(), most_per_user(most_connections()))
    middlewares = [] if gate is None else [gate.heard]
    app = web.Application(client_max_size=MAX_BODY, logger=quiet_logger(), middlewares=middlewares)
    _register(app, api, ROUTES + protocol.ROUTES)
    mount(app, api)
    # Last, because it matches everything.
    app.router.add_route("*", r"/{rest:[\s\S]*}", _nothing_here(api))

    async def started(_app: web.Application) -> None:
        hub.start(core.db)

    async def stopping(_app: web.Application) -> None:
        api.closing.set()
        hub.close()
        if gate is not None:
            gate.close()

    app.on_startup.append(started)
    app.on_shutdown.append(stopping)
    return app


def build_runner(core: Core, shutdown_timeout_s: float = 2.0, gate: Gate | None = None) -> web.AppRunner:
    """Return a runner of :func:`build_app` with the limits and the quiet log that a public server needs."""
    gate = gate or Gate(most_connections())
    runner = Runner(
        build_app(core, gate),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=shutdown_timeout_s,
        keepalive_timeout=KEEPALIVE_S,
        max_line_size=MAX_LINE,
        # Compressed bodies are refused. Even so aiohttp would unpack what is left of one, to throw it away: a megabyte
        # from anybody, signed or not, would hold the loop for seconds.
        auto_decompress=False,
        logger=quiet_logger(),
    )
    runner.gate = gate
    return runner


@functools.cache
def _document() -> bytes:
    return encode(openapi.build(ROUTES))


def _lookup(core: Core) -> Callable[[str], tuple[str, bool] | None]:
    users = core.db.users

    def lookup(key: str) -> tuple[str, bool] | None:
        user = users.record(key)
        return None if user is None else (user.secret, user.enabled)

    return lookup


def _register(app: web.Application, api: Api, routes: Iterable[Route]) -> None:
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, []).append(route)
    for path, here in by_path.items():
        resource = app.router.add_resource(path)
        methods = []
        for route in here:
            handler = guarded(api, route)
            resource.add_route(route.method, handler)
            methods.append(route.method)
            if route.method == "GET":
                resource.add_route("HEAD", handler)
                methods.append("HEAD")
        resource.add_route("*", _wrong_method(api, here[0], methods))


def _wrong_method(api: Api, route: Route, methods: list[str]) -> RequestHandler:
    allow = ", ".join(methods)
    problem = Problem("method-not-allowed", f"this address answers to {allow} only")

    async def handle(request: web.Request) -> web.StreamResponse:
        api.requests["other", route.path, 405] += 1
        response = route.refuse(request, problem)
        response.headers["Allow"] = allow
        return response

    return handle


def _nothing_here(api: Api) -> RequestHandler:
    problem = Problem("not-found", "there is nothing at this address; the API is described by /api/v2/openapi.json")

    async def handle(request: web.Request) -> web.StreamResponse:
        api.requests["other", "other", 404] += 1
        return old_refusal(request, problem) if protocol.is_old(request.path) else problem_of(problem)

    return handle


def quiet_logger() -> logging.Logger:
    """The logger for aiohttp: what a stranger sends as HTTP is worth a line, but not its bytes."""
    logger = logging.getLogger("retz.http.aiohttp")
    if not any(isinstance(each, _NoRequests) for each in logger.filters):
        logger.addFilter(_NoRequests())
    return logger


class _NoRequests(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = "malformed HTTP from a client (%s)", (type(error).__name__,)
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True
