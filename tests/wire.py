"""A lean load client: raw sockets, requests built by hand, one process. httpx alone would cost 1.2 ms a request."""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from retz import auth


class Wire:
    """One keep-alive connection with signed requests, strictly one at a time."""

    def __init__(self, uri: str, key: str, secret: str) -> None:
        parts = urlsplit(uri)
        assert parts.hostname is not None and parts.port is not None
        self.host, self.port, self.key, self.secret = parts.hostname, parts.port, key, secret
        self.socket = socket.create_connection((self.host, self.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def build(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The bytes of a signed request."""
        headers = auth.authorization(self.key, self.secret, method, target, body, time.time())
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body:
            lines.append("Content-Type: application/json")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def receive(self) -> tuple[int, bytes]:
        """Status and body of the next answer (Content-Length only)."""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        status = int(head[9:12])
        length = 0
        for line in head.split(b"\r\n")[1:]:
            if line.lower().startswith(b"content-length:"):
                length = int(line[15:])
        while len(rest) < length:
            self.buffer = b""
            self._more()
            rest += self.buffer
        self.buffer = rest[length:]
        return status, rest[:length]

    def _more(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("server closed the connection")
        self.buffer += data

    def call(self, method: str, target: str, document: Any = None) -> tuple[int, Any]:
        """One request and its decoded JSON answer."""
        body = b"" if document is None else json.dumps(document).encode()
        self.socket.sendall(self.build(method, target, body))
        status, answer = self.receive()
        return status, json.loads(answer) if answer else None

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def closed_loop(
    wires: list[Wire], requests: Callable[[], Iterator[bytes]], seconds: float
) -> tuple[int, float, list[float]]:
    """Keep one request in flight on every wire for ``seconds``.

    Returns:
        Answers counted, seconds taken, and each answer's latency in seconds.

    Raises:
        RuntimeError: at the first answer that is not a success.
    """
    source = requests()
    selector = selectors.DefaultSelector()
    sent: dict[Wire, float] = {}
    latencies: list[float] = []
    for wire in wires:
        selector.register(wire.socket, selectors.EVENT_READ, wire)
    began = time.perf_counter()
    for wire in wires:
        sent[wire] = time.perf_counter()
        wire.socket.sendall(next(source))
    while time.perf_counter() - began < seconds:
        for event, _ in selector.select(1.0):
            wire = event.data
            data = wire.socket.recv(65536)
            now = time.perf_counter()
            if not data.startswith(b"HTTP/1.1 20"):
                raise RuntimeError(f"refused: {data[:500]!r}")
            latencies.append(now - sent[wire])
            sent[wire] = now
            wire.socket.sendall(next(source))
    took = time.perf_counter() - began
    for wire in wires:
        wire.receive()
    selector.close()
    return len(latencies), took, latencies
