"""A Mesos master that does what a test tells it, byte for byte: for what the double of a cluster never does.

It runs in threads, so that a test's main thread may be the driver's.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from typing import IO, Any, Self

FRAMEWORK = "2b5c41d6-760f-4144-9ae7-926fec98b84e-0000"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nDate: Fri, 20 Nov 2026 04:58:39 GMT\r\nContent-Length: 0\r\n\r\n"
STREAM = (
    b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 04:57:54 GMT\r\nTransfer-Encoding: chunked\r\n"
    b"Mesos-Stream-Id: 3526ee98-c384-4ae6-b897-079b40f421cc\r\nContent-Type: application/json\r\n\r\n"
)
SUBSCRIBED = {
    "type": "SUBSCRIBED",
    "subscribed": {
        "framework_id": {"value": FRAMEWORK},
        "heartbeat_interval_seconds": 15.0,
        "master_info": {"id": "m", "ip": 16777343, "port": 5050, "version": "1.12.0"},
    },
}
LAST = b"0\r\n\r\n"
PATIENCE_S = 20.0


def text(status: str, body: str, headers: str = "") -> bytes:
    """An answer with a plain text."""
    return (
        f"HTTP/1.1 {status}\r\nDate: Fri, 20 Nov 2026 04:57:54 GMT\r\n{headers}"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def record(event: Any) -> bytes:
    """An event (or bytes that pretend to be one) as a chunk of the stream."""
    body = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
    return chunk(b"%d\n%s" % (len(body), body))


class Request:
    """A call that came. ``send`` writes on its connection, ``close`` ends it."""

    def __init__(self, head: bytes, body: bytes, connection: socket.socket) -> None:
        self.head = head.decode("latin-1")
        self.body: dict[str, Any] = json.loads(body) if body else {}
        self.type = str(self.body.get("type", ""))
        self._connection = connection

    def send(self, data: bytes) -> None:
        """Write; what the driver no longer reads is lost."""
        try:
            self._connection.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        """End the connection, in an orderly way."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


Answer = Callable[[Request], None]


def subscribe(request: Request) -> None:
    """Answer a SUBSCRIBE as a master in good health does."""
    request.send(STREAM + record(SUBSCRIBED))


class ScriptedMaster:
    """Listens on 127.0.0.1.

    Args:
        on_subscribe: Answers SUBSCRIBE.
        port: Where to listen; 0 for any free port.

    Attributes:
        on_subscribe: May be replaced at any time.
        on_call: Answers every other call; by default 202.
        requests: All requests, in the order in which they came.
    """

    def __init__(self, on_subscribe: Answer = subscribe, port: int = 0) -> None:
        self.on_subscribe = on_subscribe
        self.on_call: Answer = lambda request: request.send(ACCEPTED)
        self.requests: list[Request] = []
        self.connections = 0
        self._news: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Be gone, and every connection too."""
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):  # it was closed from the other side
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def wait_for(self, kind: str) -> Request:
        """The next request of a type, leaving out others before it.

        Raises:
            queue.Empty: none came in time.
        """
        while True:
            request = self._news.get(timeout=PATIENCE_S)
            if request.type == kind:
                return request

    def types(self) -> list[str]:
        """Types of all calls so far."""
        return [request.type for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as stream:
                while head := _head(stream):
                    length = next(
                        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Len")), 0
                    )
                    self._answer(Request(head, stream.read(length), connection))
        except OSError:
            return  # the driver went, or the test ended

    def _answer(self, request: Request) -> None:
        self.requests.append(request)
        (self.on_subscribe if request.type == "SUBSCRIBE" else self.on_call)(request)
        self._news.put(request)


def _head(stream: IO[bytes]) -> bytes:
    lines = b""
    while line := stream.readline():
        lines += line
        if line == b"\r\n":
            return lines
    return b""
