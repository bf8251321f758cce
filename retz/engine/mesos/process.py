"""A child process of the server, kept alive, and the pipes to it.

What it says is handed to the loop in small portions, and its pipe is left unread meanwhile: a cluster that talks much
waits for the server, the server's loop never waits for it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from .wire import Alive, Frames, Message, Stop, frame

log = logging.getLogger(__name__)

TURN_S = 0.002
"""So long after its begin, a turn of the loop takes no further message of a child: one alone may take five times it."""

UNREAD_BYTES = 64 * 1024 * 1024
"""More than this waiting for a child: it does not read any more."""

STOP_WITHIN_S = 5.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
SETTLED_S = 60.0
"""A child that lived so long was a good one: the next follows soon."""

TICKS = 6
"""Turns of the watch in which a child must be silent: one that counts them is not fooled by a machine that slept."""

LINE_BYTES = 16 * 1024


class Child:
    """Runs ``python -m retz.engine.mesos.<module>`` and starts it again whenever it dies or falls silent.

    Args:
        name: For the log.
        module: The module's name in this package; with a dot in it, a full one.
        decoder: Of the messages it sends.
        on_start: Called when one has been started; returns the messages it gets first.
        on_message: Called on the loop with each message but :class:`~.wire.Alive`, in order.
        on_gone: Called with the reason when one has ended or been killed, after its last message; another will be
            started. Not called by :meth:`stop`.
        silence_s: So long without a message, it is taken for dead.
    """

    def __init__(
        self,
        name: str,
        module: str,
        decoder: msgspec.msgpack.Decoder[Any],
        *,
        on_start: Callable[[], Sequence[Message]],
        on_message: Callable[[Any], None],
        on_gone: Callable[[str], None],
        silence_s: float = 30.0,
    ) -> None:
        self._name = name
        self._module = module if "." in module else f"{__package__}.{module}"
        self._decoder = decoder
        self._on_start = on_start
        self._on_message = on_message
        self._on_gone = on_gone
        self._silence_s = silence_s
        self._life: _Life | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return self._life.process.pid if self._life else None

    async def start(self) -> None:
        """Start the first one, and keep one running from now on.

        Raises:
            OSError: no process can be started.
        """
        life = await self._begin()
        self._keeper = asyncio.create_task(self._keep(life))

    async def stop(self) -> None:
        """Ask it to end, kill it if it does not within a few seconds. Twice is harmless."""
        self._stopping.set()
        if self._life is not None:
            self._life.stop()
        if self._keeper is not None:
            await self._keeper

    def send(self, *messages: Message) -> bool:
        """Send, never waiting. False when there is no live child: the messages are lost, as they may be with one."""
        return self._life is not None and self._life.send(messages)

    async def _begin(self) -> _Life:
        # Not on the loop: starting a process takes some milliseconds, more in a large server.
        process = await asyncio.to_thread(_spawn, self._module)
        life = _Life(self._name, process, self._decoder, self._on_message, self._silence_s)
        await life.connect()
        self._life = life
        if self._stopping.is_set():
            life.stop()
        else:
            life.send(_safely(self._on_start) or [])
        return life

    async def _keep(self, life: _Life) -> None:
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            why = await life.ended()
            self._life = None
            if self._stopping.is_set():
                return
            log.warning("%s: %s; starting another", self._name, why)
            _safely(functools.partial(self._on_gone, why))
            pause = FIRST_PAUSE_S if time.monotonic() - began > SETTLED_S else min(LONGEST_PAUSE_S, pause * 2)
            next_life = await self._again(pause)
            if next_life is None:
                return
            life = next_life

    async def _again(self, pause: float) -> _Life | None:
        """Another one, after a pause; None when told to stop meanwhile."""
        while not await self._stopped_within(pause):
            try:
                return await self._begin()
            except OSError as error:
                log.error("%s: cannot be started: %s; trying again", self._name, error)
                pause = LONGEST_PAUSE_S
        return None

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


class _Life:
    """One process, from its start to its end."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        decoder: msgspec.msgpack.Decoder[Any],
        on_message: Callable[[Any], None],
        silence_s: float,
    ) -> None:
        self.process = process
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._decoder = decoder
        self._on_message = on_message
        self._frames = Frames()
        self._why = ""
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._logged: asyncio.Future[None] = self._loop.create_future()
        self._reader: asyncio.ReadTransport | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._log: asyncio.ReadTransport | None = None
        self._draining = False
        self._closed = False
        self._silent_ticks = 0
        self._tick_s = silence_s / TICKS
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._ultimatum: asyncio.TimerHandle | None = None

    async def connect(self) -> None:
        """Take the pipes over."""
        process = self.process
        self._writer, _ = await self._loop.connect_write_pipe(lambda: _Input(self), process.stdin)
        self._log, _ = await self._loop.connect_read_pipe(lambda: _Log(self._name, self._logged), process.stderr)
        self._reader, _ = await self._loop.connect_read_pipe(lambda: _Output(self), process.stdout)

    def send(self, messages: Sequence[Message]) -> bool:
        """See :meth:`Child.send`."""
        writer = self._writer
        if writer is None or writer.is_closing() or self._why:
            return False
        writer.write(frame(messages))
        if writer.get_write_buffer_size() > UNREAD_BYTES:
            self.kill("it does not read what it is told")
            return False
        return True

    def kill(self, why: str) -> None:
        """End it at once. The first reason counts."""
        self._why = self._why or why
        self.process.kill()

    def stop(self) -> None:
        """Ask it to end; kill it if it has not ended in time."""
        self.send([Stop()])
        self._ultimatum = self._loop.call_later(STOP_WITHIN_S, self.kill, "it did not stop when told to")

    async def ended(self) -> str:
        """Wait for its end and its last message; returns the reason."""
        await self._gone
        self._timer.cancel()
        if self._ultimatum is not None:
            self._ultimatum.cancel()
        self.process.kill()  # it closed its output: whatever it still does, it cannot tell us
        status = await asyncio.to_thread(self.process.wait)
        await asyncio.wait([self._logged], timeout=1.0)  # what it died of is in its last lines
        if self._writer is not None and not self._writer.is_closing():
            self._writer.abort()
        if self._log is not None:
            self._log.close()
        return self._why or f"it ended with {_status_text(status)}"

    # -- what it says ------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        self._silent_ticks = 0
        self._frames.feed(data)
        if not self._draining:
            self._drain()

    def closed(self) -> None:
        """There will be no more."""
        self._closed = True
        if not self._draining:
            self._finish()

    def _drain(self) -> None:
        """Hand messages on for a little while; the rest in the next turn."""
        self._silent_ticks = 0
        until = time.perf_counter() + TURN_S
        while (message := self._next()) is not None:
            if not isinstance(message, Alive):
                self._hand_on(message)
            if time.perf_counter() > until:
                self._rest_later()
                return
        paused, self._draining = self._draining, False
        if self._closed:
            self._finish()
        elif paused and self._reader is not None:
            self._reader.resume_reading()

    def _rest_later(self) -> None:
        if not self._draining and self._reader is not None and not self._closed:
            self._reader.pause_reading()
        self._draining = True
        self._loop.call_soon(self._drain)

    def _next(self) -> Any:
        """The next message; None until more bytes come. Garbage ends the child."""
        try:
            body = self._frames.next()
            return None if body is None else self._decoder.decode(body)
        except ValueError as error:
            log.error("%s: sent what cannot be understood: %s", self._name, error)
            self._frames = Frames()
            self.kill(f"it sent what cannot be understood: {error}")
            return None

    def _hand_on(self, message: Any) -> None:
        _safely(functools.partial(self._on_message, message))

    def _finish(self) -> None:
        if not self._gone.done():
            self._gone.set_result(None)

    def _tick(self) -> None:
        self._timer = self._loop.call_later(self._tick_s, self._tick)
        self._silent_ticks += 1
        if self._silent_ticks > TICKS and not self._draining:
            self.kill(f"it said nothing for {self._tick_s * TICKS:.0f} seconds")


class _Output(asyncio.Protocol):
    """The child's messages."""

    def __init__(self, life: _Life) -> None:
        self._life = life

    def data_received(self, data: bytes) -> None:
        self._life.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._life.closed()


class _Input(asyncio.BaseProtocol):
    """What the child is told. That it does not listen any more shows by its output ending, or by its silence."""

    def __init__(self, life: _Life) -> None:
        self._life = life


class _Log(asyncio.Protocol):
    """What the child logs, line by line."""

    def __init__(self, name: str, done: asyncio.Future[None]) -> None:
        self._done = done
        self._log = logging.getLogger(f"{__package__}.{name}")
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > LINE_BYTES:
            self._line(self._rest)
            self._rest = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest:
            self._line(self._rest)
        if not self._done.done():
            self._done.set_result(None)

    def _line(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        level, _, rest = text.partition(" ")
        number = logging.getLevelNamesMapping().get(level)
        self._log.log(number if number else logging.INFO, "%s", rest if number else text)


def _spawn(module: str) -> subprocess.Popen[bytes]:
    """Start the interpreter we run in, with the import path we have, beyond the reach of the terminal's Ctrl-C."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def _safely(function: Callable[[], Any]) -> Any:
    """Call what the engine gave us: a fault in it is told, and leaves us able to go on. None then."""
    try:
        return function()
    except Exception:
        log.exception("a message of a child process could not be dealt with")
        return None


def _status_text(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"
