"""Connections within limits: nobody keeps others out by opening many, by saying nothing, or by never reading.

What aiohttp does itself: it closes a connection that is idle after an answer. What is done here: a connection must
bring its first request within a time; there are at most as many as the process can have files for, and when there are,
the one that has been silent longest makes room; the kernel ends those whose other side has gone or does not read.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

FIRST_REQUEST_S = 30.0
"""From accepting a connection to the end of its first request's headers."""
SWEEP_S = 5.0
UNREAD_S = 600
"""A client that takes nothing of its answer for so long has gone; somebody may have stopped a pager."""
KEEPALIVE_IDLE_S, KEEPALIVE_EVERY_S, KEEPALIVE_TRIES = 60, 15, 4
MOST_RESERVED = 1024
FEWEST_PER_USER = 100

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def most_connections() -> int:
    """How many connections leave files enough for journal, sandboxes and jobs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 1 << 20 if soft == resource.RLIM_INFINITY else soft
    return max(16, files - min(MOST_RESERVED, files // 4))


def most_per_user(connections: int) -> int:
    """How many requests one user may have under way: half of what there is, so that others get in."""
    return max(FEWEST_PER_USER, connections // 2)


def harden(listening: socket.socket) -> None:
    """Have the kernel end connections whose other side vanished or stopped reading; accepted ones inherit this."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_EVERY_S)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_TRIES)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)


class Gate:
    """Lets connections in, and watches those that have not said anything yet.

    Args:
        most: Connections at one time.
        first_request_s: See :data:`FIRST_REQUEST_S`.
    """

    def __init__(self, most: int, first_request_s: float = FIRST_REQUEST_S) -> None:
        self._most = most
        self._room = most
        self._first_request_s = first_request_s
        self._silent: dict[web.RequestHandler, float] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self.turned_away = 0

    def admit(self, server: web.Server) -> asyncio.Protocol:
        """The protocol of a connection that was just accepted."""
        if self._room <= 0:
            # Counted anew only when it could be full: the server makes a list of all each time.
            self._room = self._most - len(server.connections)
        if self._room <= 0 and not self._make_room():
            self.turned_away += 1
            return _TurnedAway()
        self._room -= 1
        handler = server()
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.time()
        if self._sweeping is None:
            self._sweeping = loop.call_later(min(SWEEP_S, self._first_request_s), self._sweep)
        return handler

    @web.middleware
    async def heard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Take note that the connection has brought a request."""
        self._silent.pop(request.protocol, None)
        return await handler(request)

    def _make_room(self) -> bool:
        for handler in list(self._silent):
            transport = handler.transport
            del self._silent[handler]
            if transport is not None and not transport.is_closing():
                _drop(transport)
                self.turned_away += 1
                return True
        return False

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() - self._first_request_s
        self._sweeping = None
        # In order of arrival: the first that is young enough ends the search.
        while self._silent:
            handler, since = next(iter(self._silent.items()))
            if since > late:
                self._sweeping = loop.call_later(min(SWEEP_S, self._first_request_s), self._sweep)
                return
            del self._silent[handler]
            if handler.transport is not None:
                _drop(handler.transport)

    def close(self) -> None:
        """Stop watching."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        self._silent.clear()


def _drop(transport: asyncio.BaseTransport) -> None:
    assert isinstance(transport, asyncio.WriteTransport)
    transport.abort()


class _TurnedAway(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _drop(transport)


class Runner(web.AppRunner):
    """A runner whose connections pass a :class:`Gate`."""

    gate: Gate

    @property
    def server(self) -> web.Server | None:
        """What makes protocols for new connections."""
        server = super().server
        return None if server is None else _Admitting(server, self.gate)  # type: ignore[return-value]


class _Admitting:
    """Stands in for the server where it is called for a new protocol."""

    def __init__(self, server: web.Server, gate: Gate) -> None:
        self._server = server
        self._gate = gate

    def __call__(self) -> asyncio.Protocol:
        return self._gate.admit(self._server)
