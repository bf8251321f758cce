"""The launcher's end of the socket: one server at a time, the latest."""

from __future__ import annotations

import json
import select

from .system import complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

_decode = json.JSONDecoder().raw_decode


class ServerLine:
    """Messages from and to the server that connected last.

    Attributes:
        messages: To be sent, encoded.
    """

    def __init__(self, listener: socket.socket, epoll: select.epoll) -> None:
        self.listener = listener
        self.epoll = epoll
        self.connection: socket.socket | None = None
        self.messages: list[str] = []
        self._incoming = b""
        self._outgoing = b""
        self._blocked = False
        epoll.register(listener, select.EPOLLIN)

    def accept(self) -> None:
        """Take a new connection in place of the one there is; what the old server still had to say is void."""
        connection, _ = self.listener.accept()
        connection.setblocking(False)
        self.disconnect()
        self.connection = connection
        self.epoll.register(connection, select.EPOLLIN)

    def disconnect(self) -> None:
        """Let go of the server, and of what was to be sent to it."""
        if self.connection is not None:
            self.epoll.unregister(self.connection)
            self.connection.close()
            self.connection = None
        self._incoming = self._outgoing = b""
        self._blocked = False
        self.messages.clear()

    def receive(self, mask: int) -> list[list[Any]]:
        """Do what epoll says; returns what has arrived."""
        if mask & select.EPOLLOUT:
            self._flush()
        if not mask & ~select.EPOLLOUT or self.connection is None:
            return []
        try:
            data = self.connection.recv(1 << 18)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.disconnect()
            return []
        *lines, self._incoming = (self._incoming + data).split(b"\n") if self._incoming else data.split(b"\n")
        try:
            return [_decode(line.decode())[0] for line in lines]
        except ValueError as error:
            self.refuse(error)
            return []

    def refuse(self, error: Exception) -> None:
        """That was not our server; the jobs must not suffer."""
        complain(f"refused a message: {error}")
        self.disconnect()

    def send(self) -> None:
        """Send what there is, as far as the server takes it."""
        if self.messages:
            if self.connection is not None:
                self.messages.append("")
                self._outgoing += "\n".join(self.messages).encode()
            self.messages.clear()
            self._flush()

    def _flush(self) -> None:
        if self.connection is None or not self._outgoing:
            return
        try:
            sent = self.connection.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.disconnect()
            return
        self._outgoing = self._outgoing[sent:]
        blocked = bool(self._outgoing)
        if blocked != self._blocked:
            self._blocked = blocked
            self.epoll.modify(self.connection, select.EPOLLIN | (select.EPOLLOUT if blocked else 0))
