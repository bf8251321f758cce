"""Answers whose body is written bit by bit: what happens when the client goes, or we fail, in the middle."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

log = logging.getLogger("retz.http")

Produce = Callable[[web.StreamResponse], Awaitable[None]]


async def run(request: web.Request, response: web.StreamResponse, label: str, produce: Produce) -> web.StreamResponse:
    """Send the headers, then what ``produce`` writes.

    A failure in the middle cannot be told by a status any more: the connection is cut, so that the client sees
    that something is missing (no final chunk, or less than Content-Length).
    """
    try:
        await response.prepare(request)
        if request.method != "HEAD":
            await produce(response)
            await response.write_eof()
    except ConnectionError:
        _cut(request)
    except Exception:
        log.exception("%s failed while its answer was under way", label)
        _cut(request)
    return response


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def gone(request: web.Request) -> bool:
    """Whether the client has hung up."""
    return request.transport is None or request.transport.is_closing()
