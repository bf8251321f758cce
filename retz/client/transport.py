"""A small transport on ``http.client``, for one-shot commands: httpx takes three times as long to load."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from retz.auth import authorization
from retz.config import ClientConfig

from . import calls
from .calls import Call
from .errors import ApiError, ConnectionLost, NoCredentials, NoServer, Untrusted, refusal
from .follow import Follow, drive
from .retry import Backoff
from .sse import RawEvent, Subscription

if TYPE_CHECKING:
    from ssl import SSLContext

CHUNK_BYTES = 1 << 16
EVENT_SILENCE_S = 45.0
"""Three of the server's signs of life: a stream of events that is silent for longer is dead."""


def credentials(config: ClientConfig) -> tuple[str, str | None]:
    """Return key and secret to sign with; the secret is None where authentication is off.

    Raises:
        NoCredentials: says what to set.
    """
    if config.access_key and (config.access_secret or not config.authentication):
        return config.access_key, config.access_secret if config.authentication else None
    missing = "retz.access.secret" if config.access_key else "retz.access.key and retz.access.secret"
    hint = "".join(f"; {note}" for note in config.notes)
    raise NoCredentials(
        f"{missing} not set: start 'retz-server' as this user once, or put them into your retz.toml "
        f"(see 'retz config --origin'){hint}"
    )


def ssl_context(config: ClientConfig) -> SSLContext:
    """Return what to trust, as the configuration says."""
    import ssl

    context = ssl.create_default_context(cafile=str(config.tls_ca) if config.tls_ca else None)
    if config.tls_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Stream:
    """An answer that is read bit by bit. Iterate once; close it, or use it in ``with``."""

    def __init__(self, response: HTTPResponse, connection: HTTPConnection, uri: str) -> None:
        self._response = response
        self._connection = connection
        self._uri = uri
        self._closed = False
        length = response.getheader("Content-Length")
        self.length = int(length) if length and length.isdecimal() else None

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                data = self._response.read1(CHUNK_BYTES)
            except (OSError, HTTPException, ValueError, AttributeError) as error:
                # AttributeError: what http.client raises when another thread closed the response meanwhile.
                raise ConnectionLost(self._uri, _reason(error)) from error
            if not data:
                if self._response.length or self._closed:
                    raise ConnectionLost(self._uri, "it ended early")
                return
            yield data

    def close(self) -> None:
        """Drop the connection; also from another thread, which ends a read that waits."""
        self._closed = True
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError):  # it is gone already, which is what is wanted
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """Signed requests to one server over one kept connection. Not for several threads at a time.

    Args:
        config: Where to, and who signs.
        now: The clock that goes into the Date header.
    """

    def __init__(self, config: ClientConfig, now: Callable[[], float] = time.time) -> None:
        self.config = config
        self._now = now
        self._uri = config.server_uri
        self._prefix = urlsplit(self._uri).path
        self._connection: HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection. The transport can be used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, call: Call, backoff: Backoff | None = None) -> Any:
        """Send, and return the decoded JSON of the answer; None if it is empty.

        Args:
            backoff: When to try again; None makes one for this call, from ``retz.server.retry``.

        Raises:
            ApiError, NoServer, ConnectionLost, NoCredentials: see there.
        """
        backoff = backoff or Backoff(self.config.server_retry)
        while True:
            try:
                return self._call_once(call)
            except (ApiError, NoServer, ConnectionLost) as error:
                delay = backoff.delay_after(error, call)
                if delay is None:
                    raise
                time.sleep(delay)

    def ping(self) -> float:
        """Return the seconds that an unsigned round trip to the server takes."""
        began = time.perf_counter()
        response = self._send(Call("GET", "/ping"), signed=False)
        response.read()
        if response.status != 200:
            raise refusal(response.status, None, response.reason)
        return time.perf_counter() - began

    def stream(self, call: Call, timeout_s: float | None = None) -> Stream:
        """Send over a connection of its own and return the answer to be read bit by bit.

        Args:
            timeout_s: Longest silence borne; None bears any.
        """
        other = Transport(self.config, self._now)
        response = other._send(call)
        if response.status >= 400:
            with other:
                raise _refusal_of(response)
        connection = other._connection
        assert connection is not None
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return Stream(response, connection, self._uri)

    def follow(
        self,
        job_id: int | str,
        path: str,
        offset: int = 0,
        on_stream: Callable[[Stream | None], None] = lambda stream: None,
        on_lost: Callable[[Exception], None] = lambda error: None,
    ) -> Iterator[bytes]:
        """Yield the bytes of a sandbox file as they are written, across server restarts, until the job ends.

        Args:
            on_stream: Told of each open stream, so that another thread can close it.
            on_lost: Told of each loss before the next try.
        """
        state = Follow(job_id, path, offset)
        backoff = Backoff(self.config.server_retry, refused_limit_s=None)
        while True:
            call = calls.job(job_id)
            try:
                call = drive(state.connect(), self.call)
                with self.stream(call) as stream:
                    on_stream(stream)
                    for data in stream:
                        backoff.progressed()
                        state.received(len(data))
                        yield data
                if state.is_over(self.call(state.over())):
                    return
                raise ConnectionLost(self._uri, "the server stopped")
            except (NoServer, ConnectionLost, ApiError) as error:
                delay = backoff.delay_after(error, call)
                if delay is None:
                    raise
                on_lost(error)
                time.sleep(delay)
            finally:
                on_stream(None)

    def events(self, subscription: Subscription) -> Iterator[RawEvent]:
        """Yield events, across restarts of the server, for ever."""
        backoff = Backoff(self.config.server_retry, refused_limit_s=None)
        while True:
            call = subscription.connect()
            try:
                with self.stream(call, EVENT_SILENCE_S) as stream:
                    for data in stream:
                        backoff.progressed()
                        yield from subscription.feed(data)
                raise ConnectionLost(self._uri, "the server stopped")
            except (NoServer, ConnectionLost, ApiError) as error:
                delay = backoff.delay_after(error, call)
                if delay is None:
                    raise
                time.sleep(delay)

    def _call_once(self, call: Call) -> Any:
        response = self._send(call)
        if response.status >= 400:
            raise _refusal_of(response)
        try:
            body = response.read()
            return json.loads(body) if body else None
        except (OSError, HTTPException) as error:
            self.close()
            raise ConnectionLost(self._uri, _reason(error)) from error
        except ValueError as error:
            raise ApiError(response.status, "not-retz", f"{self._uri} does not answer like Retz") from error

    def _send(self, call: Call, signed: bool = True) -> HTTPResponse:
        reused = self._connection is not None
        connection = self._connected(call.patience_s)
        try:
            return self._exchange(connection, call, signed)
        except (OSError, HTTPException) as error:
            self.close()
            if reused and call.repeat:  # servers close idle connections; that says nothing about this request
                return self._send(call, signed)
            raise ConnectionLost(self._uri, _reason(error)) from error

    def _exchange(self, connection: HTTPConnection, call: Call, signed: bool) -> HTTPResponse:
        target = self._prefix + call.target
        headers = {"Accept": "application/json", **call.headers}
        if call.body:
            headers["Content-Type"] = "application/json"
        if signed:
            key, secret = credentials(self.config)
            headers |= authorization(key, secret, call.method, target, call.body, self._now())
        connection.request(call.method, target, call.body or None, headers)
        return connection.getresponse()

    def _connected(self, patience_s: float) -> HTTPConnection:
        timeout = self.config.server_timeout + patience_s
        if self._connection is not None:
            if self._connection.sock is not None:
                self._connection.sock.settimeout(timeout)
                return self._connection
            self._connection = None
        self._connection = self._connect(timeout)
        return self._connection

    def _connect(self, timeout: float) -> HTTPConnection:
        parts = urlsplit(self._uri)
        host = parts.hostname or ""
        try:
            connection = (
                HTTPSConnection(host, parts.port, timeout=timeout, context=ssl_context(self.config))
                if parts.scheme == "https"
                else HTTPConnection(host, parts.port, timeout=timeout)
            )
            connection.connect()
        except OSError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Untrusted(self._uri, str(getattr(error, "verify_message", error))) from error
            raise NoServer(self._uri, _reason(error), isinstance(error, ConnectionRefusedError)) from error
        # A follow stream may be silent for days; this notices a host that vanished.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection


def _refusal_of(response: HTTPResponse) -> ApiError:
    try:
        problem = json.loads(response.read())
    except (OSError, HTTPException, ValueError):
        problem = None
    return refusal(response.status, problem, response.reason)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
