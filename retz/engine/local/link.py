"""The server's end of the socket to the launcher, and the launcher's start."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from retz.engine.base import EngineError

from . import system

_decode_lines = msgspec.json.Decoder().decode_lines
_encode_lines = msgspec.json.Encoder().encode_lines
_PASSED_ON = ("RETZ_LAUNCHER", "RETZ_TASK")
"""A queue that runs as a job of another queue: the outer one must recognise our launcher as part of that job."""
_RETRY_S = 0.02
_PATIENCE_S = 30.0


class Link:
    """A connection to the one launcher of a directory, which is started if there is none.

    Args:
        linger_s: How long a launcher that this starts stays without jobs and without a server.
        received: Called with the messages of one read, in order, the hello left out.
        closed: Called once when the launcher is gone, not after :meth:`close`.
    """

    def __init__(
        self,
        directory: Path,
        dir_fd: int,
        linger_s: float,
        received: Callable[[list[Any]], None],
        closed: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._dir_fd = dir_fd
        self._linger_s = linger_s
        self._received = received
        self._closed = closed
        self._socket: socket.socket | None = None
        self._incoming = b""
        self._outgoing = b""
        self._blocked = False
        self._hello: asyncio.Future[list[Any] | None] | None = None
        self._exits: dict[int, int] = {}  # pidfd -> pid of launchers that are children of this process

    @property
    def connected(self) -> bool:
        """Whether messages reach a launcher now."""
        return self._socket is not None and self._hello is None

    async def open(self) -> list[Any]:
        """Connect, starting a launcher if need be. Returns its hello.

        Raises:
            EngineError: if no launcher can be had; the text says what to do.
        """
        give_up = asyncio.get_running_loop().time() + _PATIENCE_S
        while asyncio.get_running_loop().time() < give_up:
            if not self._connect():
                if not await self._start_launcher():
                    await asyncio.sleep(_RETRY_S)  # another one is about to listen, or about to exit
                continue
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    hello = await self._read_hello()
            except TimeoutError:
                self._drop()
                break
            if hello is not None:
                return hello
        raise EngineError(
            f"a launcher holds {self._directory / system.LOCK} but does not answer; its pid is in that file: "
            "end it with kill -9 (its jobs will be ended and tried again)"
        )

    def send(self, messages: list[Any]) -> None:
        """Send messages, in order. Without a connection they are dropped: the next hello settles what is known."""
        if self._socket is None:
            return
        data = _encode_lines(messages)
        if self._outgoing:
            self._outgoing += data
            return
        self._outgoing = data
        self._write()

    def close(self) -> None:
        """Let go of the launcher; it and its jobs stay."""
        self._drop()
        loop = asyncio.get_running_loop()
        for pidfd in self._exits:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        self._exits.clear()

    # -- the socket

    def _connect(self) -> bool:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)  # before: a launcher that hangs, and with it its queue of callers, would stop us
        try:
            # Through the descriptor: a socket's path may have 108 bytes at most, a data directory's any number.
            connection.connect(f"/proc/self/fd/{self._dir_fd}/{system.SOCKET}")
        except OSError:
            connection.close()
            return False
        loop = asyncio.get_running_loop()
        self._socket = connection
        self._hello = loop.create_future()
        loop.add_reader(connection, self._read)
        return True

    async def _read_hello(self) -> list[Any] | None:
        assert self._hello is not None
        hello = await self._hello
        if hello is not None and hello[1] != system.PROTOCOL:
            self._drop()
            raise EngineError(
                f"the launcher (pid {hello[2]}) is of another version of Retz; stop the server, let its jobs end "
                f"or end them with 'kill {hello[2]}', and start again"
            )
        return hello

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._incoming += data
        if self._hello is None:
            self._deliver()
        elif b"\n" in data:
            line, _, self._incoming = self._incoming.partition(b"\n")
            # Read on only when the hello has been dealt with: what follows it builds on it.
            asyncio.get_running_loop().remove_reader(self._socket)
            hello, self._hello = self._hello, None
            hello.set_result(msgspec.json.decode(line))

    def listen(self) -> None:
        """Go on reading: what the hello said is settled."""
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._read)
            self._deliver()

    def _deliver(self) -> None:
        end = self._incoming.rfind(b"\n") + 1
        if end:
            complete, self._incoming = self._incoming[:end], self._incoming[end:]
            self._received(_decode_lines(complete))

    def _write(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the reader sees the end of the connection
        self._outgoing = self._outgoing[sent:]
        if bool(self._outgoing) == self._blocked:
            return
        self._blocked = not self._blocked
        if self._blocked:
            asyncio.get_running_loop().add_writer(self._socket, self._write)
        else:
            asyncio.get_running_loop().remove_writer(self._socket)

    def _lost(self) -> None:
        waiting = self._hello
        self._drop()
        if waiting is not None:
            waiting.set_result(None)
        else:
            self._closed()

    def _drop(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
            self._socket.close()
        self._socket = self._hello = None
        self._incoming = self._outgoing = b""
        self._blocked = False

    # -- the process

    async def _start_launcher(self) -> bool:
        """Start a launcher and wait until it listens; False if another one holds the directory.

        Raises:
            EngineError: it did not start.
        """
        read_end, write_end = os.pipe()
        try:
            pid = self._spawn(write_end)
        except OSError as error:
            os.close(read_end)
            raise EngineError(f"cannot start the launcher with {sys.executable}: {error.strerror}") from error
        finally:
            os.close(write_end)
        self._reap_later(pid)
        try:
            answer = await asyncio.to_thread(os.read, read_end, 4096)
        finally:
            os.close(read_end)
        if answer not in (b"ok\n", b"locked\n"):
            raise EngineError(f"the launcher did not start; {self._directory / system.LOG} says why")
        return answer == b"ok\n"

    def _spawn(self, ready: int) -> int:
        log = str(self._directory / system.LOG)
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        path = str(Path(__file__).with_name("__main__.py").resolve())
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-X", "utf8", path, str(self._directory), "3", str(self._linger_s)],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, ready, 3),
            ],
            setsid=True,
            setsigmask=[],
        )

    def _reap_later(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        self._exits[pidfd] = pid
        asyncio.get_running_loop().add_reader(pidfd, self._reap, pidfd)

    def _reap(self, pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        os.waitpid(self._exits.pop(pidfd), 0)
