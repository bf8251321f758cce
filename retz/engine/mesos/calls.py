"""Calls to the scheduler API: one HTTP connection kept open, many calls in flight on it.

A master takes some milliseconds for an answer but reads on meanwhile, and answers in order. Sending the
acknowledgements of a busy minute one by one would therefore be slower than their tasks.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Sequence

from httptools import HttpParserError, HttpResponseParser
from msgspec import Struct

from .address import host_port

IN_FLIGHT = 64
"""Calls sent before their answers are read: their bytes and those of the answers fit into any socket's buffers."""

READ_BYTES = 64 * 1024


class Answer(Struct, frozen=True):
    """An HTTP status and the text that came with it."""

    status: int
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether the call was taken."""
        return 200 <= self.status < 300

    @property
    def refused(self) -> bool:
        """Whether the call was refused whole and has no effect: a client's mistake, a redirect, a master not ready."""
        return 300 <= self.status < 500 or self.status == 503


class CallFailed(Exception):
    """No answer.

    Attributes:
        sent: Whether the master may have got the call.
        answers: Those that came before, when there were several calls.
    """

    def __init__(self, why: str, *, sent: bool, answers: Sequence[Answer] = ()) -> None:
        super().__init__(why)
        self.sent = sent
        self.answers = answers


class Caller:
    """Makes calls on one stream's behalf. For one thread, but for :meth:`drop`.

    Args:
        address: ``host:port`` of the master.
        stream: The Mesos-Stream-Id.
        authorization: Value of that header; None for none.
        timeout_s: Patience with a master that takes no bytes or sends none.
    """

    def __init__(self, address: str, stream: str, authorization: str | None, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._head = _head(address, stream, authorization)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._answers: list[Answer] = []
        self._parser = HttpResponseParser(self)
        self._body = b""
        self._ending = False
        self._dropped = False

    def call(self, bodies: Sequence[bytes]) -> list[Answer]:
        """Send JSON bodies, as many as :data:`IN_FLIGHT` at most; returns their answers in order.

        Raises:
            CallFailed: there is no answer to some of them.
        """
        connection = self._connected()
        answers: list[Answer] = []
        self._answers = answers
        try:
            connection.sendall(b"".join(self._head % len(body) + body for body in bodies))
            while len(answers) < len(bodies):
                data = connection.recv(READ_BYTES)
                if not data:
                    raise ConnectionError("the master closed the connection")
                self._parser.feed_data(data)
        except (OSError, HttpParserError) as error:
            self.close()
            raise CallFailed(_text(error), sent=True, answers=answers) from error
        if self._ending:
            self.close()
        return answers

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        with self._lock:
            connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def drop(self) -> None:
        """The stream is gone: a call that waits for its answer fails now. May come from another thread."""
        with self._lock:
            self._dropped = True
            if self._socket is not None:
                _shut_down(self._socket)

    def _connected(self) -> socket.socket:
        """A connection that is open as far as one can know."""
        if self._socket is not None and _is_open(self._socket):
            return self._socket
        self.close()
        try:
            fresh = socket.create_connection(host_port(self._address), self._timeout_s)
            fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError) as error:  # ValueError: no such host name can exist
            raise CallFailed(_text(error), sent=False) from error
        self._parser = HttpResponseParser(self)
        with self._lock:
            if self._dropped:
                fresh.close()
                raise CallFailed("the stream ended", sent=False)
            self._socket = fresh
        return fresh

    # -- called by httptools -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins."""
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """A piece of its text."""
        self._body += body

    def on_message_complete(self) -> None:
        """It is whole."""
        self._ending = not self._parser.should_keep_alive()
        self._answers.append(Answer(self._parser.get_status_code(), self._body.decode(errors="replace").strip()))


def _head(address: str, stream: str, authorization: str | None) -> bytes:
    """Everything before the length of the body, with a place for it; ``%`` must not be read as one."""
    lines = [
        "POST /api/v1/scheduler HTTP/1.1",
        f"Host: {address}",
        "Content-Type: application/json",
        "Accept: application/json",
        f"Mesos-Stream-Id: {stream}",
    ]
    if authorization is not None:
        lines.append(f"Authorization: {authorization}")
    return "\r\n".join(lines).replace("%", "%%").encode() + b"\r\nContent-Length: %d\r\n\r\n"


def _is_open(connection: socket.socket) -> bool:
    """Nothing is to be read between calls: whatever there is would be the end of the connection."""
    return not select.select([connection], [], [], 0)[0]


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
