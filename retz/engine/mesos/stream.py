"""One attempt to subscribe, as pymesos's loop wants it, and the stream of events that follows."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from . import events
from .address import DEFAULT_PORT, host_port
from .compat import load_pymesos
from .wire import Refused

load_pymesos()

from pymesos import process  # noqa: E402  (needs the line above)

if TYPE_CHECKING:
    from .subscription import Driver

READ_BYTES = 256 * 1024
CONNECT_WITHIN_S = 10.0
ANSWER_WITHIN_S = 30.0
HEARTBEATS_MISSED = 5


class Stream(process.Connection):  # type: ignore[misc]  # pymesos has no types
    """One attempt to subscribe and, if it succeeds, the stream of events.

    pymesos's own raises, and so ends its thread, where a name does not resolve, a network is unreachable, an answer is
    not as expected or an event is not JSON; it also copies all that waits for every event it takes.

    Attributes:
        why: Why it ended, for people.
        subscribed: Since when, by the monotonic clock; None before SUBSCRIBED.
        redirected: It ended because another master leads.
    """

    def __init__(self, addr: str, callback: Driver) -> None:
        callback.before_connecting()
        self._addr = addr
        self._callback = callback
        self._stream_id: str | None = None
        self._parser = process.HttpParser()
        self._records = events.Records()
        self._failed = ""
        self.connected = False
        self.why = ""
        self.subscribed: float | None = None
        self.redirected = False
        self._patience_s = CONNECT_WITHIN_S
        self._heard = time.monotonic()
        callback.stream = self
        self._request: bytes = callback.gen_request()
        self._sock = self._connecting()

    def _connecting(self) -> socket.socket:
        """A socket that tries to connect; one that never will, if that is known already."""
        try:
            host, port = host_port(self._addr)
            family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            connection = socket.socket(family)
        except (OSError, ValueError) as error:
            self._failed = str(error)
            return socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            connection.connect(place)
        except BlockingIOError:
            return connection
        except OSError as error:
            self._failed = str(error)
        return connection

    def handle_connect_event(self) -> str:
        """Why it is not connected; empty while it is, or may be soon."""
        if not self._failed:
            number = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._failed = process._strerror(number) if number else self._overdue()
        if self._failed:
            self.why = f"cannot connect to the Mesos master at {self._addr}: {self._failed}"
        elif _is_connected(self._sock):
            self.connected = True
            self._allow(ANSWER_WITHIN_S)
        return self._failed

    def write(self) -> bool:
        """Send what can be sent of the request; False if that failed."""
        try:
            sent = self._sock.send(self._request)
        except BlockingIOError:
            return True
        except OSError as error:
            return self._end(f"cannot send to the Mesos master at {self._addr}: {error}")
        self._request = self._request[sent:]
        return True

    def want_write(self) -> bool:
        """Whether some of the request is left. Asked at every turn of pymesos's loop: the place to look at the time."""
        if self.connected:
            why = self._callback.doomed or self._overdue()
            if why:
                self.why = self.why or f"left the Mesos master at {self._addr}: {why}"
                _shut_down(self._sock)
        return bool(self._request)

    def read(self) -> bool:
        """Take what came, pass events on; False if there will be no more."""
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            return self._end(f"lost the Mesos master at {self._addr}: {error}")
        if not data:
            return self._stopped()
        if self._parser.execute(data, len(data)) != len(data):
            return self._end(f"what listens at {self._addr} does not speak HTTP as a Mesos master does")
        return self._advance()

    def close(self) -> None:
        """Release it; called once, by pymesos's loop."""
        self._sock.close()
        self.connected = False
        self._callback.on_close()

    def expect_heartbeats(self, interval_s: float) -> None:
        """The master said SUBSCRIBED."""
        self.subscribed = time.monotonic()
        self._allow(HEARTBEATS_MISSED * interval_s)

    def _advance(self) -> bool:
        if not self._parser.is_headers_complete():
            return True
        if self._parser.get_status_code() != 200 or not self._parser.is_chunked():
            # The reason is in the body, which may not be here yet.
            return self._refused() if self._parser.is_message_complete() else True
        self._remember_stream()
        try:
            self._callback.process_events(self._records.feed(self._parser.recv_body()))
        except ValueError as error:
            return self._end(f"the Mesos master at {self._addr} sent what is not a stream of events: {error}")
        self._heard = time.monotonic()  # after the server took them: its slowness is not the master's
        return self._end(f"the Mesos master at {self._addr} ended the stream") if self._ended() else True

    def _ended(self) -> bool:
        return bool(self._parser.is_message_complete())

    def _remember_stream(self) -> None:
        if self._stream_id is None:
            headers = {name.lower(): value for name, value in self._parser.get_headers().items()}
            self._stream_id = self._callback.stream_id = headers.get("mesos-stream-id", "")

    def _stopped(self) -> bool:
        if self._parser.is_headers_complete() and self._stream_id is None:
            return self._refused()
        return self._end(f"the Mesos master at {self._addr} closed the connection")

    def _refused(self) -> bool:
        """The answer is not a stream."""
        status = self._parser.get_status_code()
        text = self._parser.recv_body().decode(errors="replace").strip()[:500]
        if status == 307 and self._follow():
            return False
        if status in (307, 503):
            return self._end(f"the Mesos master at {self._addr} is not ready: {text or 'no master leads'}")
        why = self._callback.explain(status, text)
        self._callback.tell_refused(Refused("other", why))
        return self._end(why)

    def _follow(self) -> bool:
        headers = {name.lower(): value for name, value in self._parser.get_headers().items()}
        target = headers.get("location", "")
        leader = urlsplit(target).netloc or target
        if not leader:
            return False
        self.redirected = True
        self.why = f"the Mesos master at {self._addr} does not lead; {leader} does"
        self._callback.redirect(leader if ":" in leader else f"{leader}:{DEFAULT_PORT}")
        return True

    def _end(self, why: str) -> bool:
        self.why = self.why or why
        return False

    def _allow(self, seconds: float) -> None:
        self._patience_s = seconds
        self._heard = time.monotonic()

    def _overdue(self) -> str:
        quiet = time.monotonic() - self._heard
        return f"it said nothing for {quiet:.0f} seconds" if quiet > self._patience_s else ""


process.Connection = Stream


def _is_connected(connection: socket.socket) -> bool:
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def _shut_down(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker
