"""HTTP as Mesos speaks it: exact headers in their order, bare texts for errors, event streams that are never blocked.

Answers are written by hand instead of by aiohttp: no ``Server`` header, ``Date`` first, and one write for each.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from .model import Handler
from .recordio import LAST_CHUNK, chunk

encode = msgspec.json.encode

_NO_HOST = re.compile(rb"\A[A-Z]+ /\S* HTTP/1\.1\r\n(?!(?:[^\r\n]+\r\n)*?host:)", re.IGNORECASE)
"""The first line of a request without a Host header."""

NEVER_S = 1e9
"""Mesos closes no idle connection."""


class Answer(web.StreamResponse):
    """A whole answer: Date, further headers, Content-Type and Content-Length, body."""

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        content_type: str | None = "application/json",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        # Not super().__init__(): nothing of what it prepares is used, and it costs more than all the rest.
        self._status_line = _status_line(status)
        self._text = body
        self._type = content_type
        self._extra = headers
        self._keep = True

    @property
    def keep_alive(self) -> bool:
        return self._keep

    def force_close(self) -> None:
        self._keep = False

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write all of it."""
        self._keep = self._keep and request.keep_alive
        transport = request.transport
        if transport is not None:
            transport.write(self.head() + self._text)

    def head(self) -> bytes:
        """Status line and headers."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in self._extra)
        if self._type is not None:
            extra += f"Content-Type: {self._type}\r\n"
        return self._status_line + date() + extra.encode() + b"Content-Length: %d\r\n\r\n" % len(self._text)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class _Accepted(Answer):
    """202, the answer to most calls."""

    def head(self) -> bytes:
        return b"HTTP/1.1 202 Accepted\r\n" + date() + b"Content-Length: 0\r\n\r\n"


def accepted() -> Answer:
    """202: the call is well-formed and from the right stream."""
    return _Accepted(202, content_type=None)


def text(status: int, body: str, *headers: tuple[str, str]) -> Answer:
    """A bare text, as errors are."""
    return Answer(status, body.encode(), "text/plain; charset=utf-8", headers)


def document(value: Any) -> Answer:
    """200 with a JSON document: no spaces, floats with a fraction."""
    return Answer(200, encode(value))


def empty(status: int = 200, *headers: tuple[str, str]) -> Answer:
    """No body, and so no Content-Type."""
    return Answer(status, b"", None, headers)


def bad_request(body: str) -> Answer:
    """400."""
    return text(400, body)


def not_found() -> Answer:
    """404 of a path that does not exist."""
    return text(404, "404 Not Found.")


def method_not_allowed(method: str, allowed: str = "POST") -> Answer:
    """405."""
    body = f"405 Method Not Allowed. Expecting one of {{ '{allowed}' }}, but received '{method}'."
    return text(405, body, ("Allow", allowed))


def unauthorized(realm: str) -> Answer:
    """401."""
    return text(401, "401 Unauthorized.", ("WWW-Authenticate", f'Basic realm="{realm}"'))


_status_lines: dict[int, bytes] = {}


def _status_line(status: int) -> bytes:
    if status not in _status_lines:
        _status_lines[status] = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    return _status_lines[status]


_date: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """The Date header of this second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _date[1]


class Stream(Answer):
    """An event stream. As an answer it ends at once, so that the connection takes further requests, as with Mesos.

    Args:
        headers: Between Transfer-Encoding and Content-Type.
        lost: Called once when the connection goes; not after :meth:`end`.
    """

    def __init__(self, headers: tuple[tuple[str, str], ...] = (), lost: Callable[[], None] | None = None) -> None:
        super().__init__(200, headers=headers)
        self.lost = lost
        self.transport: asyncio.Transport | None = None
        self._close_after = False
        self._held: list[bytes] | None = None

    async def prepare(self, request: web.BaseRequest) -> None:
        """The stream was opened by :meth:`open`."""

    def open(self, request: web.BaseRequest) -> None:
        """Write the head; records may follow."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        self.transport = connection.transport
        self._close_after = not request.keep_alive
        connection.streams.append(self)
        self.write_raw(self.head())

    def head(self) -> bytes:
        extra = "".join(f"{name}: {value}\r\n" for name, value in self._extra)
        line = f"Transfer-Encoding: chunked\r\n{extra}Content-Type: {self._type}\r\n\r\n"
        return self._status_line + date() + line.encode()

    def write(self, record: bytes) -> None:  # type: ignore[override]
        """Send one record."""
        self.write_raw(chunk(record))

    def write_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._held is not None:
            self._held.append(data)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def hold(self) -> None:
        """Send nothing until :meth:`release`, as if the process were stopped."""
        self._held = []

    def release(self) -> None:
        """Send what was held back."""
        held, self._held = self._held or [], None
        for data in held:
            self.write_raw(data)

    def end(self) -> None:
        """The last chunk. The connection stays open unless the client asked to close it."""
        self.write_raw(LAST_CHUNK)
        if self._close_after and self.transport is not None:
            self.transport.close()
        self.transport = None
        self.lost = None

    def connection_lost(self) -> None:
        """The client is gone."""
        self.transport = None
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()


class Connection(web.RequestHandler):
    """One connection: tells streams when it goes; garbage is answered by closing, without a word."""

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, keepalive_timeout=NEVER_S, access_log=None)  # type: ignore[arg-type]
        self.streams: list[Stream] = []

    def data_received(self, data: bytes) -> None:
        # aiohttp refuses HTTP/1.1 without a Host; Mesos does not mind.
        without = _NO_HOST.match(data)
        if without is not None:
            data = without[0] + b"Host: -\r\n" + data[without.end() :]
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        for stream in self.streams:
            stream.connection_lost()
        self.streams.clear()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status == 400 or isinstance(exc, ConnectionError):
            raise ConnectionResetError("not HTTP")
        return super().handle_error(request, status, exc, message)


class HttpServer(web.Server):
    """An :class:`aiohttp.web.Server` of such connections on one listening socket, which can vanish and come back."""

    def __init__(self, handler: Handler) -> None:
        super().__init__(handler)
        self._listener: asyncio.Server | None = None

    def __call__(self) -> Connection:
        return Connection(self, asyncio.get_running_loop())

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; gives the port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self, host, port, reuse_address=True, backlog=1024)
        return int(self._listener.sockets[0].getsockname()[1])

    def vanish(self) -> None:
        """Close the socket and drop every connection, as SIGKILL does: streams see the end without a last chunk."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.drop_connections()

    def drop_connections(self) -> None:
        """Drop every connection, and go on listening."""
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()
