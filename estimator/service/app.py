"""The application: routes and what surrounds them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ..config import EstimatorConfig
from ..errors import EstimatorError
from ..lanes import Lanes
from . import replies
from .handlers import Service

PREFIX = "/resourceestimator"
CLIENT_GONE = 499

StoreFor = Callable[[web.Request], Awaitable[Path]]


def build_app(
    lanes: Lanes, store_for: StoreFor, config: EstimatorConfig, *, may_read_logs: bool = True
) -> web.Application:
    """The estimator as an application, to be mounted with ``add_subapp(PREFIX, ...)``.

    Args:
        lanes: Does the work; closing it is the caller's.
        store_for: Whose history a request is about: the place of the store. May refuse by raising aiohttp's
            exceptions. It is asked before anything else of a request is looked at, on every route but ``health``
            and ``metrics``; it may read the body with ``request.read()``.
        may_read_logs: Whether ``POST translator/{path}`` may read from this machine's disk, below
            ``config.log_directories``.
    """
    service = Service(lanes, store_for, config, may_read_logs=may_read_logs)
    app = web.Application(middlewares=[_around(service.requests)])
    app.add_routes(
        [
            web.post("/translator/{path:(?s:.+)}", service.translate_path),
            web.get("/estimator/{pipeline:[^/]+}", service.estimate),
            web.get("/skylinestore/history/{pipeline:[^/]+}/{run:[^/]+}", service.history),
            web.get("/skylinestore/estimation/{pipeline:[^/]+}", service.estimation),
            web.delete("/skylinestore/history/{pipeline:[^/]+}/{run:[^/]+}", service.delete_history),
            # Until here they are Hadoop's; the following are what its service lacks.
            web.get("/pipelines", service.pipelines),
            web.post("/translator", service.translate_body),
            web.post("/skylinestore/history", service.add_history),
            web.put("/skylinestore/history/{pipeline:[^/]+}/{run:[^/]+}", service.update_history),
            web.delete("/skylinestore/estimation/{pipeline:[^/]+}", service.delete_estimation),
            web.get("/estimator/{pipeline:[^/]+}/plot.{format:png|svg|pdf}", service.plot),
            web.get("/estimator/{pipeline:[^/]+}/plot.txt", service.text),
            web.get("/estimator/{pipeline:[^/]+}/reservation", service.reservation),
            web.get("/estimator/{pipeline:[^/]+}/backtest", service.backtest),
            web.get("/health", service.health),
            web.get("/metrics", service.metrics),
        ]
    )
    return app


def _around(requests: Counter[tuple[str, str, int]]) -> Middleware:
    """Turn errors into answers, give up what nobody waits for, and count."""

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        # Of what is no route, not even the method is counted apart: anybody can make up new ones.
        label = (request.method, resource.canonical) if resource is not None else ("none", "none")
        try:
            response = await _answer(request, handler)
        except web.HTTPException as refusal:  # of store_for
            requests[*label, refusal.status] += 1
            raise
        requests[*label, response.status] += 1
        return response

    return around


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await _while_connected(request, handler)
    except web.HTTPNotFound:
        return replies.refused(replies.NotFound(f"there is no {request.path[:200]} here"))
    except web.HTTPMethodNotAllowed as error:
        return replies.not_allowed(error.allowed_methods)
    except EstimatorError as error:
        return replies.refused(error)
    except ConnectionError:
        return web.Response(status=CLIENT_GONE)  # in the middle of its body: only the metrics show this


_LOOK_S = 0.5


async def _while_connected(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the handler answers; it is cancelled when the client goes away.

    aiohttp can cancel handlers itself, but only those of a whole server, and this application is mounted in others'.
    """
    task = asyncio.ensure_future(handler(request))
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
            if request.transport is None or request.transport.is_closing():
                return web.Response(status=CLIENT_GONE)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
